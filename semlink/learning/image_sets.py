"""Sets of labelled images: a folder with a manifest.csv, or a folder with one folder a class."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from semlink.photos import SUFFIXES

MAX_EXAMPLES = 2_000_000


class ImageSetError(ValueError):
    """No such image set, or a malformed one; the message says where and what would be right."""


@dataclass(frozen=True)
class Example:
    """One labelled image.

    Attributes:
        path: the image.
        label: index of its class.
        columns: what else the manifest says of it, such as object, group, device, fold.
        mask: image that is white where the object is, where the manifest names one.
    """

    path: Path
    label: int
    columns: dict[str, str]
    mask: Path | None = None

    @property
    def thing(self) -> str:
        """What is seen: images of the same thing are not independent. The object, where the manifest has it."""
        return f"{self.label}/{self.columns['object']}" if "object" in self.columns else str(self.path)


@dataclass(frozen=True)
class ImageSet:
    """Labelled images and the names of their classes, by label; `name` says what they are."""

    name: str
    classes: tuple[str, ...]
    examples: tuple[Example, ...]

    def where(self, condition: str) -> tuple["ImageSet", "ImageSet"]:
        """The examples that meet a condition, and all the others.

        Args:
            condition: COLUMN=VALUE, such as fold=0 or split=test; also label=odd and label=even.

        Raises:
            ImageSetError: no such column, or one side would be empty.
        """
        column, equals, value = condition.partition("=")
        if not equals:
            raise ImageSetError(f"a condition must be COLUMN=VALUE, such as fold=0, not {condition!r}")
        meets = _condition(column, value)
        try:
            chosen = [meets(example) for example in self.examples]
        except KeyError:
            known = sorted({"label", *self.examples[0].columns})
            raise ImageSetError(f"the images have no column {column!r}; they have {', '.join(known)}") from None
        if all(chosen) or not any(chosen):
            raise ImageSetError(
                f"{condition} is met by {sum(chosen)} of {len(chosen)} images; it must divide them"
            )
        sides = (
            tuple(example for example, met in zip(self.examples, chosen, strict=True) if met == side)
            for side in (True, False)
        )
        names = (f"{self.name}, {condition}", f"{self.name}, not {condition}")
        met, others = (ImageSet(name, self.classes, side) for name, side in zip(names, sides, strict=True))
        return met, others


def _condition(column: str, value: str) -> Callable[[Example], bool]:
    if column == "label":
        if value in ("odd", "even"):
            return lambda example: example.label % 2 == (value == "odd")
        return lambda example: str(example.label) == value
    return lambda example: example.columns[column] == value


def load_image_set(folder: Path) -> ImageSet:
    """Reads a folder's manifest.csv (columns path, class, label and any others), or its tree of class folders.

    Raises:
        ImageSetError: neither is there, or the manifest is malformed.
    """
    manifest = folder / "manifest.csv"
    examples, names = _from_manifest(folder, manifest) if manifest.is_file() else _from_tree(folder)
    if not examples:
        raise ImageSetError(f"{folder} holds no images: it needs a manifest.csv or one folder a class")
    if sorted(names) != list(range(len(names))):
        raise ImageSetError(f"{folder}: the labels must be 0 to {len(names) - 1} without gaps")
    return ImageSet(folder.name, tuple(names[label] for label in range(len(names))), tuple(examples))


def _from_manifest(folder: Path, manifest: Path) -> tuple[list[Example], dict[int, str]]:
    examples: list[Example] = []
    names: dict[int, str] = {}
    with manifest.open(newline="", encoding="utf-8") as lines:
        for number, row in enumerate(csv.DictReader(lines), start=2):
            if number > MAX_EXAMPLES:
                raise ImageSetError(f"{manifest} names more than {MAX_EXAMPLES} images")
            try:
                label, name = int(row.pop("label")), row.pop("class")
                path = folder / row.pop("path")
            except (KeyError, TypeError, ValueError):
                raise ImageSetError(
                    f"{manifest}, line {number}: it needs the columns path, class and label (a whole number)"
                ) from None
            if names.setdefault(label, name) != name:
                raise ImageSetError(f"{manifest}, line {number}: label {label} is {names[label]!r} and {name!r}")
            mask = folder / row["mask"] if row.get("mask") else None
            examples.append(Example(path, label, row, mask))
    return examples, names


def _from_tree(folder: Path) -> tuple[list[Example], dict[int, str]]:
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    examples = [
        Example(path, label, {})
        for label, entry in enumerate(classes)
        for path in sorted(entry.rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    return examples, {label: entry.name for label, entry in enumerate(classes)}
