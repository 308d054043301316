"""Console scripts: installed beside the interpreter, and never a stranger's code from the current folder."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from processes import skip_without

import semlink

SCRIPTS = {
    "semlink": "cli",
    "semlink-server": "server",
    "semlink-channel": "channel_emulator",
    "semlink-device": "device",
    "semlink-studio": "studio",
}


def script(name):
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        skip_without(f"{name} is not installed: run make setup")
    return path


@pytest.fixture(scope="module")
def helps(tmp_path_factory):
    """What each says to --help, started where a stranger's folders and modules have the names of ours."""
    folder = tmp_path_factory.mktemp("strange")
    for package in (*SCRIPTS.values(), "semlink"):
        (folder / package).mkdir(exist_ok=True)
        for file in ("__init__.py", "__main__.py"):
            (folder / package / file).write_text("raise SystemExit('a stranger')\n")
    started = {
        name: subprocess.Popen(
            [script(name), "--help"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for name in SCRIPTS
    }
    return {name: (process.communicate(timeout=120)[0], process.wait()) for name, process in started.items()}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_starts_its_own_package_wherever_it_is_started(helps, name):
    text, status = helps[name]
    assert status == 0, text
    assert "a stranger" not in text
    assert f"usage: {name} " in text.replace("Usage", "usage")


def test_a_mistake_names_the_script_that_explains():
    done = subprocess.run([script("semlink-device"), "--rho", "much"], capture_output=True, text=True, timeout=240)
    assert done.returncode == 2
    assert "semlink-device --help explains every setting" in done.stderr


def test_the_version_is_that_of_the_installed_package():
    done = subprocess.run([script("semlink"), "--version"], capture_output=True, text=True, timeout=240)
    assert (
        done.stdout == f"semlink {importlib.metadata.version('semlink')}\n" == f"semlink {semlink.__version__}\n"
    )
