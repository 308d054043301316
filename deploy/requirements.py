"""Requirements of pyproject.toml: those of the package and of the extras named as arguments, one a line.

The Dockerfile installs them before it copies the source, so that a changed source does not install them anew.
Needs nothing but Python.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path


def requirements(pyproject: Path, extras: Iterable[str]) -> list[str]:
    """The dependencies of a project and of some of its extras; for an extra that names others, theirs.

    Raises:
        KeyError: the project has no such extra.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    own = re.compile(rf"{re.escape(project['name'])}\[([^]]+)\]")
    found, waiting, seen = list(project["dependencies"]), list(extras), set()
    while waiting:
        extra = waiting.pop(0)
        if extra in seen:
            continue
        seen.add(extra)
        for requirement in project["optional-dependencies"][extra]:
            if itself := own.fullmatch(requirement):
                waiting += [name.strip() for name in itself[1].split(",")]
            else:
                found.append(requirement)
    return found


if __name__ == "__main__":
    print("\n".join(requirements(Path("pyproject.toml"), sys.argv[1:])))
