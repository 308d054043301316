"""Requirements of pyproject.toml: those of the package and of the extras named as arguments, one a line.

The Dockerfile installs them before it copies the source, so that a changed source does not install them anew.
Needs nothing but Python.
"""

import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path


def requirements(pyproject: Path, extras: Iterable[str]) -> list[str]:
    """The dependencies of a project and of some of its extras.

    Raises:
        KeyError: the project has no such extra.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    return sum((project["optional-dependencies"][extra] for extra in extras), start=project["dependencies"])


if __name__ == "__main__":
    print("\n".join(requirements(Path("pyproject.toml"), sys.argv[1:])))
