"""Tree of class folders: FOLDER/CLASS/picture.jpg, or FOLDER/CLASS/OBJECT/picture.jpg."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import structlog

from experiments.data import ImageSetError
from experiments.data.hold_out import listed
from experiments.data.layouts import View
from semlink.vision.photos import SUFFIXES

log = structlog.get_logger(__name__)

LEFT_BEHIND = ("__MACOSX", "@eaDir")
"""Folders of operating systems and archives. What begins with a dot is hidden, and ignored too."""
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
OTHER_FORMATS = {
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".tif", ".tiff"),
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),
}
"""Suffixes of pictures that the link does not take."""


def read_class_folders(folder: Path) -> list[View]:
    """The pictures of every folder in `folder`, which names their class.

    Ignored are hidden files and folders, those that operating systems leave behind, and folders without pictures;
    pictures of other formats are left out with a warning. Where all pictures lie in subfolders of their class, two
    or more of each, the subfolder is the object shown: the column `object`.

    Raises:
        ImageSetError: no pictures, or the folders are splits and not classes.
    """
    found: dict[str, list[Path]] = {}
    others: Counter[str] = Counter()
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and _counts(entry.name):
            files = sorted(_files(entry))
            found[entry.name] = [path for path in files if path.suffix.lower() in SUFFIXES]
            others.update(path.suffix.lower() for path in files if path.suffix.lower() in OTHER_FORMATS)
    classes = {name: paths for name, paths in found.items() if paths}
    _check(folder, list(classes), others)
    empty = [name for name in found if name not in classes]
    if others or empty:
        log.warning("left out", folders_without_pictures=empty, other_formats=dict(others), taken=list(SUFFIXES))
    objects = {
        name: {path.relative_to(folder / name).parts[0] for path in paths} for name, paths in classes.items()
    }
    nested = all(path.parent != folder / name for name, paths in classes.items() for path in paths)
    by_object = nested and all(len(names) > 1 for names in objects.values())
    return [
        View(path, name, {"object": path.relative_to(folder / name).parts[0]} if by_object else {})
        for name, paths in classes.items()
        for path in paths
    ]


def _counts(name: str) -> bool:
    return not name.startswith(".") and name not in LEFT_BEHIND


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if _counts(name)]
        yield from (Path(place, name) for name in names if _counts(name))


def _check(folder: Path, classes: list[str], others: Counter[str]) -> None:
    if not classes:
        beside = sum(path.suffix.lower() in SUFFIXES for path in folder.iterdir() if path.is_file())
        there = f"; {beside} pictures lie in it itself" if beside else ""
        counted = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        there += f"; its folders have {counted}, and {', '.join(SUFFIXES)} are taken" if others else ""
        raise ImageSetError(f"{folder} holds no images: it needs a manifest.csv, or one folder a class{there}")
    if len(classes) > 1 and {name.lower() for name in classes} <= SPLITS:
        raise ImageSetError(
            f"{folder} has the folders {listed(classes)}, which are splits and no classes: give one of them, or "
            "write a manifest.csv with a column split"
        )
