"""Calibration: temperatures, weights of looks and the price of a bit, fitted once for a device and a server.

`semlink calibrate` makes the file; the one beside this module was made with the models that come with the package.
It says how far a device's logits can be trusted, what a picture of so many bytes is worth beside an opinion (its
rung), and which price of a bit, in accuracy, leads to which accuracy and to how many bits.
"""

import json
import math
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, log_softmax, logit, logsumexp, softmax

from semlink.checks import finite_vector
from semlink.decision.belief import Belief

FORMAT = 1
"""Of the file."""
DEFAULT_LOSS = 1.0
"""Points of accuracy below the server's on undamaged pictures, where nothing else is asked for."""
MAX_FILE_BYTES = 1 << 18
MAX_RUNGS = 16
MAX_POINTS = 256
MAX_SIDE = 4096
"""Longer side of a picture on the wire."""
MAX_BUDGET_BYTES = 1 << 20
MAX_WEIGHT = 100.0
"""Of temperatures, weights and coefficients; fitted ones lie around 1."""
SIDE_COUNTS = 4
"""Logarithms of bytes that a logarithm of sides counts for, in the distance of rungs."""
LEAST_DOUBT = 1e-6
"""Confidences are kept this far from 0 and 1 before their logit is taken."""


class CalibrationError(ValueError):
    """A calibration that can't be used, or a target that it can't meet; the message says why."""


@dataclass(frozen=True)
class Rung:
    """One way to code a picture, and what a look at it is worth beside an opinion."""

    side: int
    """Longer side of the still, pixels."""
    budget_bytes: int
    """Bytes of its frame, header included, at most."""
    mean_bytes: float
    """Of it on average, at most budget_bytes."""
    opinion_weight: float
    """Power of the opinion's probabilities in the fused belief, 0 or more."""
    look_weight: float
    """Power of the look's probabilities in it, 0 or more."""
    after: tuple[float, float]
    """(a, b): with a look, a view of confidence c is right with the probability 1/(1 + exp(-a - b·logit c))."""

    @property
    def bits(self) -> float:
        """Bits of its frame on average."""
        return 8 * self.mean_bytes

    def accuracy_after(self, confidence: ArrayLike) -> Any:
        """Probability that a view is right once it has been looked at, of its confidence before."""
        offset, slope = self.after
        return expit(offset + slope * logit(np.clip(confidence, LEAST_DOUBT, 1 - LEAST_DOUBT)))


@dataclass(frozen=True)
class OperatingPoint:
    """What a price leads to, of single views."""

    price: float
    """Of a bit: accuracy, 0 to 1, that it must bring at least."""
    accuracy_loss: float
    """Points, 0 to 100, below the server's accuracy on undamaged pictures; negative where it is above."""
    bits: float
    """Mean of a view, all its frames together."""


@dataclass(frozen=True)
class Curve:
    """Operating points of a policy, from the lowest price to the highest."""

    points: tuple[OperatingPoint, ...]

    def price_for(self, target_accuracy_loss: float | None = None, budget_bits: float | None = None) -> float:
        """The price that a target leads to.

        Args:
            target_accuracy_loss: points below the server's accuracy on undamaged pictures, at most: of the prices
                that keep to it, the highest. One point where neither target is given.
            budget_bits: mean bits of a view, at most: of the prices that keep to it, the lowest.

        Raises:
            CalibrationError: no operating point meets the target; the message says which does nearly.
            ValueError: both targets are given.
        """
        if target_accuracy_loss is not None and budget_bits is not None:
            raise ValueError("give a target of accuracy or a budget of bits, not both")
        if budget_bits is not None:
            for point in self.points:
                if point.bits <= budget_bits:
                    return point.price
            least = min(point.bits for point in self.points)
            raise CalibrationError(f"no price leads to {budget_bits:g} bits a view: the least is {least:.0f}")
        loss = DEFAULT_LOSS if target_accuracy_loss is None else target_accuracy_loss
        for point in reversed(self.points):
            if point.accuracy_loss <= loss:
                return point.price
        least = min(point.accuracy_loss for point in self.points)
        raise CalibrationError(f"no price leads to a loss of {loss:g} points: the least is {least:.2f}")


@dataclass(frozen=True)
class Calibration:
    """What was fitted for a device's and a server's model."""

    device: str
    """The device's model, as it names itself."""
    server: str
    """The server's."""
    opinion_temperature: float
    """The device's logits are divided by it."""
    mirror_below: float
    """Probability of the likeliest class, 0 to 1, before that division: where it is less, a device looks twice."""
    rungs: tuple[Rung, ...]
    """Ascending in bytes."""
    ask: Curve
    """Of the dialogue."""
    alone: Curve
    """Of one-way links."""

    def wants_mirror(self, logits: ArrayLike) -> bool:
        """Whether a device with these (C,) logits is so unsure that it looks at the mirrored picture, too.

        Two looks are right more often than one, and know better how sure they are.
        """
        return bool(softmax(finite_vector("logits", logits)).max() < self.mirror_below)

    def opinion(self, *logits: ArrayLike) -> Belief:
        """What a device of this calibration thinks: the mean of its looks, at the calibration's temperature.

        Args:
            logits: (C,) of its model, for each look: the picture, and where it `wants_mirror` that mirrored.
        """
        looks = [log_softmax(finite_vector("logits", each)) for each in logits]
        probabilities = softmax(logsumexp(looks, axis=0) / self.opinion_temperature)
        probabilities = np.maximum(probabilities, np.finfo(np.float64).tiny)
        return Belief.of(probabilities / max(probabilities.sum(), 1.0))

    def rung_of(self, side: int, size: int) -> Rung:
        """The rung whose side and mean bytes are nearest by their logarithms.

        A difference in sides counts `SIDE_COUNTS` times as much, since plain pictures take few bytes at any side.

        Args:
            side: longer side of the still, at least 1.
            size: bytes of the frame that can be decoded, header included; 1 is taken for less.
        """

        def distance(rung: Rung) -> float:
            bytes_apart = abs(math.log(max(size, 1) / rung.mean_bytes))
            return bytes_apart + SIDE_COUNTS * abs(math.log(max(side, 1) / rung.side))

        return min(self.rungs, key=distance)


def read_calibration(path: Path | None = None) -> Calibration:
    """A calibration of a file; None: the one that comes with the package.

    Raises:
        CalibrationError: the file can't be read, or is none.
    """
    source = files("semlink.decision").joinpath("calibration.json") if path is None else path
    try:
        with source.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CalibrationError(f"{source}: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise CalibrationError(f"{source}: more than {MAX_FILE_BYTES} bytes")
    try:
        return _calibration(json.loads(content))
    except RecursionError:
        raise CalibrationError(f"{source}: nested too deeply") from None
    except ValueError as error:
        raise CalibrationError(f"{source}: no calibration: {error}; make one with semlink calibrate") from None


def as_json(calibration: Calibration) -> dict[str, Any]:
    """The content of a file, as `read_calibration` takes it."""

    def points(curve: Curve) -> list[dict[str, float]]:
        return [vars(point) for point in curve.points]

    return {
        "format": FORMAT,
        "device": calibration.device,
        "server": calibration.server,
        "opinion_temperature": calibration.opinion_temperature,
        "mirror_below": calibration.mirror_below,
        "rungs": [vars(rung) for rung in calibration.rungs],
        "ask": points(calibration.ask),
        "alone": points(calibration.alone),
    }


def _calibration(content: object) -> Calibration:
    """Of a file's JSON, every number within its bounds."""
    fields = _Fields(content, "the file")
    if (version := fields.number("format", 0, 2**31)) != FORMAT:
        raise CalibrationError(f"format {FORMAT} is wanted, not {version:g}")
    rungs = tuple(_rung(_Fields(rung, "rungs")) for rung in fields.several("rungs", MAX_RUNGS))
    if any(after.budget_bytes < before.budget_bytes for before, after in pairwise(rungs)):
        raise CalibrationError("rungs must ascend in budget_bytes")
    return Calibration(
        fields.text("device"),
        fields.text("server"),
        fields.number("opinion_temperature", 1 / MAX_WEIGHT, MAX_WEIGHT),
        fields.number("mirror_below", 0, 1),
        rungs,
        _curve(fields, "ask"),
        _curve(fields, "alone"),
    )


def _rung(fields: "_Fields") -> Rung:
    return Rung(
        fields.whole("side", 1, MAX_SIDE),
        budget := fields.whole("budget_bytes", 1, MAX_BUDGET_BYTES),
        fields.number("mean_bytes", 1, budget),
        fields.number("opinion_weight", 0, MAX_WEIGHT),
        fields.number("look_weight", 0, MAX_WEIGHT),
        fields.pair("after", -MAX_WEIGHT, MAX_WEIGHT),
    )


def _curve(fields: "_Fields", name: str) -> Curve:
    points = [_Fields(point, name) for point in fields.several(name, MAX_POINTS)]
    curve = Curve(
        tuple(
            OperatingPoint(
                point.number("price", 0, 1),
                point.number("accuracy_loss", -100, 100),
                point.number("bits", 0, 8 * MAX_BUDGET_BYTES),
            )
            for point in points
        )
    )
    if any(after.price <= before.price for before, after in pairwise(curve.points)):
        raise CalibrationError(f"{name}: prices must ascend")
    return curve


class _Fields:
    """Named values of a JSON object, each checked as it is read."""

    def __init__(self, content: object, where: str) -> None:
        if not isinstance(content, dict):
            raise CalibrationError(f"{where}: an object is wanted")
        self._content, self._where = content, where

    def _value(self, name: str) -> object:
        if name not in self._content:
            raise CalibrationError(f"{self._where}: {name} is missing")
        return self._content[name]

    def number(self, name: str, lowest: float, highest: float) -> float:
        return self._within(name, self._value(name), lowest, highest)

    def _within(self, name: str, value: object, lowest: float, highest: float) -> float:
        # A comparison with NaN is false; an integer of thousands of digits is compared as it is.
        if not isinstance(value, int | float) or isinstance(value, bool) or not lowest <= value <= highest:
            raise CalibrationError(f"{self._where}: {name} must be a number within [{lowest:g}, {highest:g}]")
        return float(value)

    def whole(self, name: str, lowest: int, highest: int) -> int:
        if not isinstance(self._value(name), int):
            raise CalibrationError(f"{self._where}: {name} must be an integer")
        return int(self.number(name, lowest, highest))

    def pair(self, name: str, lowest: float, highest: float) -> tuple[float, float]:
        value = self._value(name)
        if not isinstance(value, list) or len(value) != 2:
            raise CalibrationError(f"{self._where}: {name} must be two numbers")
        first, second = (self._within(name, number, lowest, highest) for number in value)
        return first, second

    def text(self, name: str) -> str:
        value = self._value(name)
        if not isinstance(value, str) or not 1 <= len(value) <= 200:
            raise CalibrationError(f"{self._where}: {name} must be a text of 1 to 200 characters")
        return value

    def several(self, name: str, most: int) -> list[object]:
        value = self._value(name)
        if not isinstance(value, list) or not 1 <= len(value) <= most:
            raise CalibrationError(f"{self._where}: {name} must be a list of 1 to {most}")
        return value
