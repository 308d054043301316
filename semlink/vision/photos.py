"""Photographs by name: files, folders of pictures, or photographs that the scikit-image wheel carries."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class PhotosError(ValueError):
    """No such picture; the message says where it was looked for and what there is."""


def find_photos(sources: Sequence[str]) -> list[Path]:
    """Picture files of all sources, folders in the order of their names.

    Args:
        sources: files, folders, or names of scikit-image's photographs, such as chelsea (a cat) or coffee.

    Raises:
        PhotosError: a source is none of these, or a folder holds no pictures.
    """
    return [path for source in sources for path in _photos(source)]


def _photos(source: str) -> list[Path]:
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES and entry.is_file())
        if not found:
            raise PhotosError(f"the folder {source} holds no pictures ({', '.join(SUFFIXES)})")
        return found
    carried = {entry.stem: entry for entry in _carried()}
    if source in carried:
        return [carried[source]]
    raise PhotosError(
        f"{source} is no file, no folder and none of scikit-image's photographs: {', '.join(sorted(carried))}"
    )


def _carried() -> list[Path]:
    # Found, not imported: all that is wanted of the package are its pictures.
    package = importlib.util.find_spec("skimage")
    folders = package.submodule_search_locations if package else None
    return [
        entry
        for folder in folders or []
        for entry in (Path(folder) / "data").iterdir()
        if entry.suffix in SUFFIXES
    ]
