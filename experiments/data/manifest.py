"""manifest.csv: one line an image, with its path, its class and whatever else is known of it.

| column | what it holds |
| --- | --- |
| `path` | the image, relative to the manifest's folder; needed |
| `class` | name of its class; needed |
| `label` | number of its class, from 0 without gaps; without the column, that of the name in sorted order |
| `object` | the object shown: what is held out, and what intervals resample, are whole objects |
| `group` | view of an object belongs to this group of four, which vote together; -1 in none |
| `device` | camera of the view, 0 to 3 |
| `mask` | an image that is white where the object is, relative to the manifest's folder |
| any other | such as `fold` or `split`: for conditions, `--hold-out fold=0`, `--only split=test` |

UTF-8, separated by commas, quoted as spreadsheets do (RFC 4180); the first line names the columns, in any order.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from experiments.data import ImageSetError
from experiments.data.hold_out import listed

MANIFEST = "manifest.csv"
MAX_BYTES = 1 << 30
MAX_EXAMPLES = 2_000_000
REQUIRED = ("path", "class")


class Row(NamedTuple):
    """A line of a manifest: path and mask as they are written, the number of the class, all other columns."""

    path: str
    label: int
    mask: str
    columns: dict[str, str]
    line: int


def read_manifest(manifest: Path) -> tuple[list[Row], list[str]]:
    """The images that a manifest names, in its order, and the names of the classes, by label.

    Whether the files are there is not checked.

    Raises:
        ImageSetError: the manifest breaks a rule; the message names the line.
    """
    lines: list[tuple[int, dict[str, str]]] = []
    for number, row in _lines(manifest):
        lines.append((number, row))
        if len(lines) > MAX_EXAMPLES:
            raise ImageSetError(f"{manifest} names more than {MAX_EXAMPLES} images")
    if not lines:
        raise ImageSetError(f"{manifest} names no images: it has the line of the columns alone")
    labels = _Labels(manifest, [row["class"] for _, row in lines], given="label" in lines[0][1])
    seen: dict[str, int] = {}
    rows = []
    for number, row in lines:
        path = row.pop("path")
        if (first := seen.setdefault(path, number)) != number:
            raise ImageSetError(f"{manifest}, line {number}: {path} is on line {first} already")
        label = labels.of(number, row.pop("class"), row.pop("label", ""))
        rows.append(Row(path, label, row.get("mask", ""), row, number))
    return rows, labels.names()


def _lines(manifest: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Numbers and fields by column of the lines below the first; empty lines are skipped."""
    number = 1
    try:
        if manifest.stat().st_size > MAX_BYTES:
            raise ImageSetError(f"{manifest} has {manifest.stat().st_size} bytes; at most {MAX_BYTES} are read")
        with manifest.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            reader = csv.reader(file, strict=True)
            columns = _columns(manifest, next(reader, []))
            for fields in reader:
                number = reader.line_num
                if not fields:
                    continue
                if len(fields) != len(columns):
                    raise ImageSetError(
                        f"{manifest}, line {number}: it has {len(fields)} fields, and the first line names "
                        f"{len(columns)} columns; a field with a comma stands in double quotes"
                    )
                row = dict(zip(columns, fields, strict=True))
                if empty := [name for name in REQUIRED if not row[name].strip()]:
                    raise ImageSetError(f"{manifest}, line {number}: {empty[0]} is empty")
                if "\0" in row["path"]:
                    raise ImageSetError(f"{manifest}, line {number}: the path holds a zero byte")
                yield number, row
    except UnicodeDecodeError as error:
        raise ImageSetError(f"{manifest}, after line {number}: it is not UTF-8 ({error.reason})") from None
    except csv.Error as error:
        raise ImageSetError(f"{manifest}, line {number + 1}: it is no CSV: {error}") from None
    except OSError as error:
        raise ImageSetError(f"{manifest} can't be read: {error.strerror}") from error


def _columns(manifest: Path, fields: list[str]) -> list[str]:
    names = [field.strip() for field in fields]
    if missing := [name for name in REQUIRED if name not in names]:
        separated = "; it seems to be separated by something else than commas" if len(names) == 1 else ""
        raise ImageSetError(
            f"{manifest}, line 1: it must name the columns path and class; {missing[0]} is not among "
            f"{listed(names) or 'none'}{separated}"
        )
    if twice := {name for name in names if names.count(name) > 1}:
        raise ImageSetError(f"{manifest}, line 1: it names {listed(twice)} more than once")
    return names


class _Labels:
    """Numbers of the classes: as the column `label` gives them, or by the sorted names."""

    def __init__(self, manifest: Path, classes: list[str], *, given: bool) -> None:
        self._manifest, self._given = manifest, given
        self._of_name = {} if given else {name: label for label, name in enumerate(sorted(set(classes)))}
        self._names: dict[int, str] = {label: name for name, label in self._of_name.items()}

    def of(self, line: int, name: str, label: str) -> int:
        if not self._given:
            return self._of_name[name]
        where = f"{self._manifest}, line {line}"
        if not (label.isascii() and label.isdecimal() and len(label) < len(str(MAX_EXAMPLES))):
            raise ImageSetError(f"{where}: label must be a whole number from 0, not {label!r}")
        number = int(label)
        if (other := self._names.setdefault(number, name)) != name:
            raise ImageSetError(f"{where}: label {number} is {other!r} and {name!r}")
        return number

    def names(self) -> list[str]:
        """By label."""
        if absent := set(range(max(self._names) + 1)) - self._names.keys():
            raise ImageSetError(
                f"{self._manifest}: the labels must be 0 to {max(self._names)} without gaps, and {min(absent)} "
                "has no image; without the column label they are derived from class"
            )
        return [self._names[label] for label in sorted(self._names)]
