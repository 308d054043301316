"""Image sets: labelled images of a folder with a manifest.csv, in an original layout, or with class folders."""

import csv
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from experiments.data.layouts import VIEWS, View, read_layout
from semlink.vision.photos import SUFFIXES

MAX_EXAMPLES = 2_000_000
Item = TypeVar("Item")


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
    def sample(self) -> str:
        """The object shown, if the manifest has it, else the image: images of one sample are not independent."""
        return f"{self.label}/{self.columns['object']}" if "object" in self.columns else str(self.path)

    @property
    def group(self) -> str | None:
        """The group of views of its sample that vote together; None for a single image."""
        group = self.columns.get("group", "-1")
        return None if group == "-1" else group


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

    def at_most(self, count: int) -> "ImageSet":
        """At most `count` of the examples: always the same ones, spread evenly, in their order.

        Classes get equal shares; what a small class leaves goes to the others. Within a class, samples take turns:
        none gives its next image before every other one has given as many or has no more. The views of a group,
        which vote together, are given as one, so groups stay whole; where a class's share is no multiple of their
        size, its rest is left out.

        Args:
            count: 1 or more.

        Raises:
            ValueError: `count` is below 1.
            ImageSetError: `count` is too small for even one whole group of a class.
        """
        if count < 1:
            raise ValueError(f"count must be 1 or more, not {count}")
        if len(self.examples) <= count:
            return self
        members: list[list[int]] = [[] for _ in self.classes]
        for number, example in enumerate(self.examples):
            members[example.label].append(number)
        chosen = [
            number
            for numbers, share in zip(members, _shares([len(numbers) for numbers in members], count), strict=True)
            for number in _take(self.examples, numbers, share)
        ]
        if not chosen:
            raise ImageSetError(f"{count} images are too few for a whole view group of any class")
        name = f"{self.name}, {len(chosen)} of {len(self.examples)}"
        return ImageSet(name, self.classes, tuple(self.examples[number] for number in sorted(chosen)))


def view_groups(examples: Sequence[Example]) -> list[list[int]]:
    """Numbers of the examples that vote together: the groups of four of the manifest, by their first example."""
    groups: dict[tuple[str, str], list[int]] = {}
    for number, example in enumerate(examples):
        if example.group is not None:
            groups.setdefault((example.sample, example.group), []).append(number)
    return [members for members in groups.values() if len(members) == VIEWS]


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """`count` dealt out as equally as `sizes` allow; the remainder is spread over the largest."""
    shares = [0] * len(sizes)
    last_first = _spread(list(range(len(sizes))))[::-1]
    order = sorted(last_first, key=lambda label: sizes[label])
    for done, label in enumerate(order):
        shares[label] = min(sizes[label], count // (len(sizes) - done))
        count -= shares[label]
    return shares


def _take(examples: Sequence[Example], numbers: Iterable[int], share: int) -> list[int]:
    """Up to `share` of one class's examples: a unit (a group, or a single image) of each sample in turn."""
    samples: dict[str, dict[str | int, list[int]]] = {}
    for number in numbers:
        example = examples[number]
        unit = number if example.group is None else example.group
        samples.setdefault(example.sample, {}).setdefault(unit, []).append(number)
    turns = itertools.zip_longest(*(_spread(list(units.values())) for units in _spread(list(samples.values()))))
    chosen: list[int] = []
    for members in itertools.chain.from_iterable(turns):
        if members is not None and len(chosen) + len(members) <= share:
            chosen += members
    return chosen


def _spread(items: list[Item]) -> list[Item]:
    """The items in an order of which every beginning is spread over all: by the bits of their index, reversed."""
    return [items[index] for index in sorted(range(len(items)), key=lambda index: f"{index:032b}"[::-1])]


def _condition(column: str, value: str) -> Callable[[Example], bool]:
    if column == "label":
        if value in ("odd", "even"):
            return lambda example: example.label % 2 == (value == "odd")
        return lambda example: str(example.label) == value
    return lambda example: example.columns[column] == value


def load_image_set(folder: Path) -> ImageSet:
    """Reads a folder's manifest.csv (columns path, class, label and any others), or its tree of class folders.

    A tree in the original layout of MIRO or MVP-N gets the columns that `experiments.data.layouts` describes.

    Raises:
        ImageSetError: neither is there, or the manifest is malformed.
    """
    manifest = folder / "manifest.csv"
    if manifest.is_file():
        examples, names = _from_manifest(folder, manifest)
    elif views := read_layout(folder):
        examples, names = _from_views(views)
    elif any((folder / name).is_file() for name in ("batches.meta.txt", "fine_label_names.txt")):
        raise ImageSetError(
            f"{folder} is CIFAR's binary release; `semlink unpack {folder} FOLDER` makes images of it"
        )
    else:
        examples, names = _from_tree(folder)
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


def _from_views(views: Iterable[View]) -> tuple[list[Example], dict[int, str]]:
    classes = sorted({view.class_name for view in views})
    labels = {name: label for label, name in enumerate(classes)}
    return [Example(view.path, labels[view.class_name], view.columns) for view in views], dict(enumerate(classes))


def _from_tree(folder: Path) -> tuple[list[Example], dict[int, str]]:
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    examples = [
        Example(path, label, {})
        for label, entry in enumerate(classes)
        for path in sorted(entry.rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    return examples, {label: entry.name for label, entry in enumerate(classes)}
