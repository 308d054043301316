"""Image sets: labelled images of a folder with a manifest.csv, in an original layout, or with class folders."""

import hashlib
import itertools
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from experiments.data import ImageSetError
from experiments.data.cifar import CIFAR_10_NAMES, CIFAR_100_NAMES
from experiments.data.class_folders import read_class_folders
from experiments.data.hold_out import listed, stratified
from experiments.data.layouts import VIEWS, read_layout
from experiments.data.manifest import MANIFEST, read_manifest

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
"""Of packed sets, which `semlink unpack` unpacks."""
SHARE = "share"
"""Condition SHARE=VALUE: a share of every class, whole samples."""
HOLD_OUT = f"{SHARE}=0.2"
"""Default hold-out: a fifth of every class."""
Item = TypeVar("Item")


@dataclass(frozen=True)
class Example:
    """One labelled image.

    Attributes:
        path: the image.
        label: index of its class.
        columns: what else the manifest says of it, such as object, group, device, fold.
        mask: image that is white where the object is, where the manifest names one.
        line: of the manifest that names it.
    """

    path: Path
    label: int
    columns: dict[str, str]
    mask: Path | None = None
    line: int | None = None

    @property
    def sample(self) -> str:
        """The object shown, if the manifest has it, else the image: images of one sample are not independent."""
        return f"{self.label}/{self.columns['object']}" if self.columns.get("object") else str(self.path)

    @property
    def group(self) -> str | None:
        """The group of views of its sample that vote together; None for a single image."""
        group = self.columns.get("group", "-1")
        return None if group == "-1" else group


@dataclass(frozen=True)
class ImageSet:
    """Labelled images of a folder and the names of their classes, by label; `name` says what they are."""

    name: str
    classes: tuple[str, ...]
    examples: tuple[Example, ...]
    folder: Path

    def where(self, condition: str) -> tuple["ImageSet", "ImageSet"]:
        """The examples that meet a condition, and all the others.

        Args:
            condition: COLUMN=VALUE, such as fold=0 or split=test; also label=odd and label=even; or share=0.2,
                always the same fifth of every class, whole objects where the images have a column `object`.

        Raises:
            ImageSetError: no such column, one side would be empty, or of a class that is to be shared out.
        """
        column, equals, value = condition.partition("=")
        if not equals:
            raise ImageSetError(f"a condition must be COLUMN=VALUE, such as fold=0, not {condition!r}")
        meets = self._in_share(value) if column == SHARE else _condition(column, value)
        try:
            chosen = [meets(example) for example in self.examples]
        except KeyError:
            known = sorted({"label", SHARE, *self.examples[0].columns})
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
        met, others = (replace(self, name=name, examples=side) for name, side in zip(names, sides, strict=True))
        return met, others

    def stratified(self, share: float, key: str, least_left: int = 1) -> set[str]:
        """Samples of a share of every class; see `experiments.data.hold_out.stratified`."""
        # By names that are the same wherever the folder lies.
        count = Counter(self.classes)
        # Two classes may share a name, as ImageNet's cranes do, the bird and the machine.
        classes = [name if count[name] == 1 else f"{name} {label}" for label, name in enumerate(self.classes)]
        names: dict[str, dict[str, str]] = {name: {} for name in classes}
        for example in self.examples:
            name = example.columns.get("object") or os.path.relpath(example.path, self.folder)
            names[classes[example.label]][name] = example.sample
        chosen = stratified(names, share, key, least_left)
        return {names[of][name] for of, members in chosen.items() for name in members}

    def _in_share(self, value: str) -> Callable[[Example], bool]:
        try:
            chosen = self.stratified(float(value), "hold-out")
        except ValueError:
            raise ImageSetError(f"{SHARE} must be a number within (0, 1), such as 0.2, not {value!r}") from None
        counts = Counter(label for label, _ in {(example.label, example.sample) for example in self.examples})
        if single := [self.classes[label] for label, count in counts.items() if count == 1]:
            unit = "object" if self.examples[0].columns.get("object") else "picture"
            raise ImageSetError(
                f"of {listed(single)} there is a single {unit}: to hold a share of a class out and to have some "
                "left takes two or more; add some, or leave the class out"
            )
        return lambda example: example.sample in chosen

    @property
    def identity(self) -> str:
        """SHA-256 of names, labels and sizes of the images: another set has another one."""
        digest = hashlib.sha256()
        for example in self.examples:
            name = os.path.relpath(example.path, self.folder)
            digest.update(f"{name}\0{example.label}\0{example.path.stat().st_size}\0".encode())
        return digest.hexdigest()

    def labelled_as(self, classes: Sequence[str]) -> "ImageSet":
        """The images with the labels that a model with these classes gives them, by the classes' names.

        Names are compared by their letters and digits. A name that several of the model's classes have means one
        of them where all names are the same in the same order.

        Raises:
            ImageSetError: classes that the model does not have, or has more than once.
        """
        ours, theirs = [_letters(name) for name in self.classes], [_letters(name) for name in classes]
        if ours == theirs:
            return self
        unknown = [name for name, letters in zip(self.classes, ours, strict=True) if theirs.count(letters) != 1]
        if unknown:
            raise ImageSetError(
                f"the model has other classes: of its {len(classes)} none, or more than one, is {listed(unknown)}"
            )
        examples = (replace(example, label=theirs.index(ours[example.label])) for example in self.examples)
        return replace(self, classes=tuple(classes), examples=tuple(examples))

    def check_files(self) -> None:
        """Checks that the images are there, before they are needed.

        Raises:
            ImageSetError: some are missing; the message says of a packed set how it is unpacked.
        """
        wanted = ((path, each.line) for each in self.examples for path in (each.path, each.mask) if path)
        missing = [(path, line) for path, line in wanted if not os.path.isfile(path)]
        if not missing:
            return
        path, line = missing[0]
        if any(entry.name.endswith(ARCHIVES) for entry in self.folder.iterdir()):
            raise ImageSetError(f"{self.folder} is packed; {_unpacking(self.folder)}")
        where = f"{self.folder / MANIFEST}, line {line}: " if line else ""
        more = f", and {len(missing) - 1} more are missing" if len(missing) > 1 else ""
        raise ImageSetError(f"{where}there is no file {path}{more}; paths are relative to the manifest's folder")

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
        return replace(self, name=name, examples=tuple(self.examples[number] for number in sorted(chosen)))


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
    """Reads a folder's manifest.csv, see `experiments.data.manifest`, or its tree of class folders.

    A tree in the original layout of MIRO or MVP-N gets the columns that `experiments.data.layouts` describes.

    Raises:
        ImageSetError: neither is there, or the manifest is malformed.
    """
    if not folder.is_dir():
        raise ImageSetError(f"{folder} must be a folder with a {MANIFEST} or with one folder a class; it is none")
    if (folder / MANIFEST).is_file():
        rows, classes = read_manifest(folder / MANIFEST)
        examples = [
            Example(folder / row.path, row.label, row.columns, folder / row.mask if row.mask else None, row.line)
            for row in rows
        ]
        return ImageSet(folder.name, tuple(classes), tuple(examples), folder)
    if any((folder / name).is_file() for name in (CIFAR_10_NAMES, CIFAR_100_NAMES)):
        raise ImageSetError(f"{folder} is CIFAR's binary release; {_unpacking(folder)}")
    views = read_layout(folder) or read_class_folders(folder)
    classes = sorted({view.class_name for view in views})
    labels = {name: label for label, name in enumerate(classes)}
    examples = [Example(view.path, labels[view.class_name], view.columns) for view in views]
    return ImageSet(folder.name, tuple(classes), tuple(examples), folder)


def _letters(name: str) -> str:
    return re.sub(r"\W|_", "", name).casefold()


def _unpacking(folder: Path) -> str:
    """What to do with a packed set: the exact command, and what to give then."""
    unpacked = shlex.quote(f"{folder.resolve().name}-unpacked")
    return f"`semlink unpack {shlex.quote(str(folder))} {unpacked}` unpacks it; then give {unpacked}"
