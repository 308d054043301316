"""Scenario: a timeline of settings, from JSON or CSV, checked as a whole before any of it is taken.

Between steps the settings are constant. A step changes what it names, and nothing else.
"""

import csv
import io
import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from channel_emulator.impairments import ImpairmentModel, ImpairmentPatch
from channel_emulator.per_device import Impairments, ImpairmentsPatch, PatchError
from semlink.service.settings import StartupError
from semlink.service.validation import mistakes_text

MAX_STEPS = 1000
MAX_CHANGES = 2000
"""Impairments that all steps together change."""
MIN_STEP_SECONDS = 0.01
"""From one step to the next: what has to be caught up with after a pause stays little."""
MAX_SECONDS = 7 * 86_400.0
MAX_SCENARIO_BYTES = 1 << 20

_EXAMPLE = {
    "loop": True,
    "steps": [
        {"at": 0, "default": {"preset": "clear"}},
        {"at": 10, "default": {"type": "bsc", "ber": 0.01}},
        {"at": 20, "default": {"ber": 0.05}, "devices": {"camera-2": {"preset": "lossy"}}},
        {"at": 30},
    ],
}

Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]


class Step(ImpairmentsPatch, json_schema_extra={"examples": [_EXAMPLE["steps"][2]]}):
    """What changes at a moment; a step that names nothing only marks the scenario's end."""

    at: Seconds = Field(description="seconds from the start of the scenario")


class Scenario(BaseModel, extra="forbid", frozen=True, json_schema_extra={"examples": [_EXAMPLE]}):
    """A timeline of settings."""

    loop: bool = Field(False, description="start anew at the time of the last step")
    steps: list[Step] = Field(min_length=1, max_length=MAX_STEPS, description="by time, 10 ms apart or more")

    @model_validator(mode="after")
    def _is_a_timeline(self) -> Self:
        for number, (before, after) in enumerate(pairwise(self.steps), 2):
            if after.at - before.at < MIN_STEP_SECONDS * (1 - 1e-6):  # times are decimal fractions
                raise ValueError(
                    f"step {number} must come at least {MIN_STEP_SECONDS:g} s after step {number - 1}"
                )
        if self.loop and self.seconds < MIN_STEP_SECONDS:
            raise ValueError(
                "a scenario that loops must have a last step after 10 ms or more: it starts anew then"
            )
        if sum(1 + len(step.devices) for step in self.steps) > MAX_CHANGES:
            raise ValueError(f"at most {MAX_CHANGES} impairments may change in all steps together")
        return self

    @property
    def seconds(self) -> float:
        """Time of the last step."""
        return self.steps[-1].at


@dataclass(frozen=True)
class Timeline:
    """A scenario that starts from settings, every step's impairments made."""

    scenario: Scenario
    base: Impairments
    """In force before the first step."""
    changes: tuple[tuple[ImpairmentModel, Mapping[str, ImpairmentModel | None]], ...]
    """Of each step: the default, and the devices' own that it changes."""

    @classmethod
    def of(cls, scenario: Scenario, base: Impairments) -> Self:
        """Raises PatchError if a step leads to no settings: its number, and why."""
        changes, current = [], base
        for number, step in enumerate(scenario.steps, 1):
            try:
                current = current.patched(step)
            except PatchError as error:
                raise PatchError(f"step {number} at {step.at:g} s: {error}") from None
            own = {device_id: current.devices.get(device_id) for device_id in step.devices}
            changes.append((current.default, own))
        return cls(scenario, base, tuple(changes))

    @property
    def seconds(self) -> float:
        """From the start to the last step."""
        return self.scenario.seconds

    def step_at(self, position: float) -> int:
        """Number of the step in force at so many seconds, from 1; 0 before the first."""
        return bisect_right(self.scenario.steps, position, key=lambda step: step.at)

    def after(self, current: Impairments, step: int) -> Impairments:
        """The settings of a step (0: before the first), given those of the one before it."""
        if step == 0:
            return self.base
        default, devices = self.changes[step - 1]
        return current.model_copy(update={"default": default}).with_devices(devices)

    def describe(self, step: int) -> str:
        """A step in words."""
        if step == 0:
            return "before the first step"
        return f"step {step} of {len(self.changes)} at {self.scenario.steps[step - 1].at:g} s"

    def settings(self, step: int) -> Impairments:
        """The settings of a step."""
        devices: dict[str, ImpairmentModel | None] = {}
        for _, changed in self.changes[:step]:
            devices |= changed
        default = self.changes[step - 1][0] if step else self.base.default
        return self.base.model_copy(update={"default": default}).with_devices(devices)


def scenario_of_csv(text: str) -> dict[str, Any]:
    """A scenario as JSON has it, from a table with a header.

    Columns are `at` (seconds), `device` (empty: the default), `type`, `preset`, and parameters by their names. An
    empty cell changes nothing. Rows of the same time are one step.

    >>> scenario_of_csv("at,device,ber\\n0,,0.01\\n5,camera-2,0.1\\n")
    {'steps': [{'at': 0, 'default': {'ber': 0.01}}, {'at': 5, 'devices': {'camera-2': {'ber': 0.1}}}]}

    Raises:
        ValueError: it is no such table; the message names the row.
    """
    reader = csv.DictReader(io.StringIO(text), strict=True)
    known = {"at", "device", *ImpairmentPatch.model_fields}
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = header
        if "at" not in header or not known.issuperset(header) or len(set(header)) < len(header):
            raise ValueError(
                f"row 1: the columns are at, and any of {', '.join(sorted(known - {'at'}))}; each once"
            )
        steps: dict[Any, dict[str, Any]] = {}
        for at, device, changes in _rows(reader):
            step = steps.setdefault(at, {"at": at})
            if not changes:
                continue
            owner, name = (step.setdefault("devices", {}), device) if device else (step, "default")
            if name in owner:
                raise ValueError(f"row {reader.line_num}: this device has a row at {at} s already")
            owner[name] = changes
    except csv.Error as error:
        raise ValueError(f"after row {reader.line_num}: {error}") from None
    return {"steps": list(steps.values())}


def _rows(reader: "csv.DictReader[str]") -> Iterator[tuple[Any, str, dict[str, Any]]]:
    """Time, device and changes of each row."""
    for row in reader:
        if None in row or None in row.values():
            raise ValueError(f"row {reader.line_num}: it has not as many cells as the header")
        cells = {name: _of_cell(text.strip()) for name, text in row.items() if text.strip()}
        device = row.get("device", "").strip()
        if not cells:
            continue
        if not isinstance(at := cells.get("at"), int | float):
            raise ValueError(f"row {reader.line_num}: at must be a number of seconds")
        changes = {name: value for name, value in cells.items() if name not in ("at", "device")}
        try:
            ImpairmentPatch.model_validate(changes)
        except ValidationError as error:
            raise ValueError(f"row {reader.line_num}: {mistakes_text(error.errors())}") from None
        yield at, device, changes


def _of_cell(text: str) -> Any:
    """A number, true or false where it is one; else the text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, int | float) else text


def read_scenario(file: Path) -> Scenario:
    """A scenario from a file of JSON, or of CSV where its name ends in .csv.

    Raises:
        StartupError: it can't be read, or is none.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_SCENARIO_BYTES + 1)
        if len(data) > MAX_SCENARIO_BYTES:
            raise ValueError(f"it is longer than {MAX_SCENARIO_BYTES} bytes")
        text = data.decode("utf-8-sig")
        if file.suffix.lower() == ".csv":
            return Scenario.model_validate(scenario_of_csv(text))
        return Scenario.model_validate_json(text)
    except OSError as error:
        raise StartupError(f"cannot read {file} (--scenario): {error.strerror}") from None
    except ValidationError as error:
        raise StartupError(f"{file} (--scenario) is no scenario: {mistakes_text(error.errors())}") from None
    except ValueError as error:
        raise StartupError(f"{file} (--scenario) is no scenario: {error}") from None
