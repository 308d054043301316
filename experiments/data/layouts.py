"""Original layouts of two multi-view image sets, known by their file names: MIRO and MVP-N."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from semlink.vision.photos import SUFFIXES

FOLDS = 5
MIRO_VIEWS = 160
AZIMUTHS = 16
VIEWS = 4
"""Views that vote together, one of each device."""


class View(NamedTuple):
    """An image, the name of its class, and the columns object, view, group, device and more."""

    path: Path
    class_name: str
    columns: dict[str, str]


def read_layout(folder: Path) -> list[View] | None:
    """Images of a folder in the layout of MIRO or MVP-N, with their columns; None if it is neither.

    Both carry sets of four views for majority votes: `group` is the set within the object, -1 in none, and
    `device` 0 to 3 the place in it.
    """
    return _miro(folder) or _mvp_n(folder)


def _miro(folder: Path) -> list[View] | None:
    """MIRO (Kanezaki et al., RotationNet, CVPR 2018): CLASS/CLASS_OBJECT_VIEW.png, ten objects a class, 160 views.

    Source: prepare_MIRO_case1.py and prepare_MIRO_case2.py of github.com/kanezaki/MIRO, which name the files; VIEW
    is 001 to 160. Their order is inferred: 065 to 080 serve there as one turn around an object, and twenty others
    as corners of a dodecahedron, where they are if view = 16 * elevation + azimuth + 1, azimuths 22.5 degrees
    apart. So a group is four views 90 degrees apart at one elevation, and an object has 40 groups. `fold`, 0 to 4,
    goes by object: each has two objects of every class.

    The subsets that these scripts make have the same names but other numbers: 16 or 20 views an object. They are
    not taken for MIRO.
    """
    views, seen = [], set()
    for path in _images(folder, "*/*"):
        match = re.fullmatch(r"(.+)_(\d{1,4})_(\d{3})", path.stem)
        if match is None or match[1] != path.parent.name or path.suffix != ".png":
            return None
        name, number, view = match[1], int(match[2]), int(match[3])
        if not 1 <= view <= MIRO_VIEWS or number < 1:
            return None
        seen.add((name, number, view))
        elevation, azimuth = divmod(view - 1, AZIMUTHS)
        device, within = divmod(azimuth, AZIMUTHS // VIEWS)
        columns = {
            "object": f"{name}_{number}",
            "view": match[3],
            "group": str(elevation * (AZIMUTHS // VIEWS) + within),
            "device": str(device),
            "fold": str((number - 1) % FOLDS),
        }
        views.append(View(path, name, columns))
    whole = any(
        all((name, number, view) in seen for view in range(1, MIRO_VIEWS + 1))
        for name, number in {key[:2] for key in seen}
    )
    return views if whole else None


def _mvp_n(folder: Path) -> list[View] | None:
    """MVP-N (Wang et al., NeurIPS 2022): SPLIT/CLASS/SET/NAME_MARK.png in the folder `data` of its archive.

    SPLIT is train, valid or test, and MARK 1 where the view alone tells the class, 0 where it does not; these are
    the columns `split` and `informative`. Source: the loaders in dataset/ of github.com/SMNUResearch/MVP-N. What
    else a name holds and how many views a SET has is not known from there.

    Its own view sets for validation and test have two to six views, may share views, and are pickles
    (valid_list/, test_list/); they are not read. The groups are this project's: of the n views of a SET, in the
    order of the numbers in their names, four that are n // 4 apart; the up to three left over are in none.

    `object` is the SET in train. In valid and test it is the split: test has one object a class (IAQ, Section V),
    so its images are not independent.
    """
    views: list[View] = []
    splits = [split for split in ("train", "valid", "test") if (folder / split).is_dir()]
    if "train" not in splits or len(splits) < 2:
        return None
    for split in splits:
        for place in sorted(entry for entry in (folder / split).glob("*/*") if entry.is_dir()):
            paths = sorted(_images(place, "*"), key=_numbers)
            apart = len(paths) // VIEWS
            for position, path in enumerate(paths):
                match = re.fullmatch(r".*_([01])", path.stem)
                if match is None or path.suffix != ".png":
                    return None
                grouped = position < VIEWS * apart
                columns = {
                    "object": f"train {place.name}" if split == "train" else split,
                    "view": f"{place.name}/{path.stem}",
                    "group": f"{place.name}-{position % apart}" if grouped else "-1",
                    "device": str(position // apart) if grouped else "-1",
                    "split": split,
                    "informative": match[1],
                }
                views.append(View(path, place.parent.name, columns))
    return views or None


def _images(folder: Path, pattern: str) -> Iterator[Path]:
    return (path for path in sorted(folder.glob(pattern)) if path.suffix.lower() in SUFFIXES)


def _numbers(path: Path) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", path.stem)], path.name
