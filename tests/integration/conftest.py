"""Fixtures of several files: both stores of sessions, and what devices report."""

import json

import pytest
from session_stores import store  # noqa: F401


@pytest.fixture
def reports(capsys):
    """Reads the JSON lines that were printed since it was last called; structlog's default prints logs beside."""
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
