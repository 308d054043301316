"""Vendored libraries of the page: fetched by package name and version, checked by SHA-256, with their licences.

python -m studio.vendor           checks that the files are those that vendor.json names
python -m studio.vendor --fetch   fetches them anew (with npm), and checks them before they are put in place
"""

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "page" / "vendor"
FETCH_SECONDS = 120.0
MOST_FILE_BYTES = 1 << 20


def listed() -> list[dict[str, Any]]:
    """What vendor.json lists: package, version, licence; of each file its path there, its name here, its hash."""
    text = (FOLDER / "vendor.json").read_text(encoding="utf-8")
    packages: list[dict[str, Any]] = json.loads(text)["packages"]
    return packages


def mistakes() -> Iterator[str]:
    """Files that are missing, are others than those that are listed, or are not listed."""
    named = {"vendor.json"}
    for package in listed():
        for file in package["files"]:
            named.add(file["name"])
            path = FOLDER / file["name"]
            if not path.exists():
                yield f"{file['name']} is missing"
            elif sha256(path.read_bytes()).hexdigest() != file["sha256"]:
                yield f"{file['name']} is not that of {package['name']} {package['version']}"
    yield from (f"{path.name} is not listed" for path in sorted(FOLDER.iterdir()) if path.name not in named)


def fetch(package: dict[str, Any]) -> dict[str, bytes]:
    """Files of a package by their names here.

    Raises:
        ValueError: npm has no such package, or a file of it is another one.
    """
    wanted = f"{package['name']}@{package['version']}"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["npm", "pack", wanted, "--silent"], cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS
        )
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            raise ValueError(f"npm pack {wanted} failed: {done.stderr.strip()[-300:]}")
        found = {}
        with tarfile.open(archives[0]) as archive:
            for file in package["files"]:
                data = _member(archive, f"package/{file['path']}")
                if sha256(data).hexdigest() != file["sha256"]:
                    raise ValueError(f"{file['path']} of {wanted} is not the file that vendor.json names")
                found[file["name"]] = data
    return found


def _member(archive: tarfile.TarFile, path: str) -> bytes:
    """What a file of an archive begins with; nothing of one that is not there."""
    try:
        member = archive.extractfile(path)
        return member.read(MOST_FILE_BYTES + 1) if member else b""
    except KeyError:
        return b""


def main() -> None:
    """Checks, or fetches; exits with 1 where something is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m studio.vendor", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--fetch", action="store_true", help="fetch the files anew with npm")
    try:
        if parser.parse_args().fetch:
            for package in listed():
                for name, data in fetch(package).items():
                    (FOLDER / name).write_bytes(data)
    except (OSError, subprocess.TimeoutExpired, tarfile.TarError, ValueError) as error:
        sys.exit(f"studio.vendor: {error}")
    if found := list(mistakes()):
        sys.exit("\n".join(f"studio.vendor: {each}" for each in found))
    for package in listed():
        print(f"{package['name']} {package['version']} ({package['licence']}): as listed")


if __name__ == "__main__":
    main()
