"""What the logs of a process never show."""

import subprocess
import sys

import pytest

FAILS = """
import structlog
from semlink.service.logs import configure_logs
from semlink.service.settings import ProcessSettings

configure_logs(ProcessSettings(log_format={log_format!r}), "server")

def serve(authorization):
    raise RuntimeError("nobody has foreseen it")

try:
    serve("Bearer correct-horse-" + "battery-staple")
except RuntimeError as error:
    structlog.get_logger("server").error("unforeseen error", exc_info=error)
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_local_variables_may_be_secrets(log_format):
    code = FAILS.format(log_format=log_format)
    logs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120).stderr
    assert "nobody has foreseen it" in logs
    assert "Traceback" in logs
    assert "correct-horse-battery-staple" not in logs
