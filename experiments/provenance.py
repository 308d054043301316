"""Provenance of a result: command, versions, machine."""

import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGES = ("semlink", "numpy", "scipy", "torch", "timm", "pillow", "grpcio")


def provenance() -> dict:
    """The command of this process, the time, versions of what computes, and the machine.

    Of absolute paths in the command only the last part is recorded: the folders are those of one machine.
    """
    return {
        "command": shlex.join([*_program(), *map(_without_folders, sys.argv[1:])]),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "machine": {"system": platform.platform(), "processor": _processor(), "cores": os.cpu_count()},
    }


def described(measured: Mapping[str, Any]) -> str:
    """Provenance in a sentence, of `provenance` or of a row that has it."""
    versions = ", ".join(f"{name} {version}" for name, version in measured["versions"].items() if version)
    machine = measured["machine"]
    return f"Command: `{measured['command']}`; {versions}; {machine['processor']}, {machine['cores']} cores."


def _program() -> list[str]:
    module = getattr(sys.modules["__main__"], "__spec__", None)
    if module is None:
        return [Path(sys.argv[0]).name]
    if module.name == "__main__":  # of a folder that is run as it is
        return ["python", sys.argv[0]]
    return ["python", "-m", module.name.removesuffix(".__main__")]


def _without_folders(argument: str) -> str:
    return Path(argument).name if Path(argument).is_absolute() else argument


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
