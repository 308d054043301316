"""Interruption of a training that is a loop over `experiments.training.steps.Steps`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.training.steps import Steps


def whole_and_resumed(train: Callable[[Path], Any], folder: Path, taken: int, lost: int = 1) -> tuple[Any, Any]:
    """What a training gives when nothing happens, and when it is interrupted and started again.

    Args:
        train: trains in a folder, and returns what it gives.
        folder: gets a folder for each of the two runs.
        taken: it is interrupted in the step after so many.
        lost: so many of these are not in its checkpoint, and must be taken again.
    """
    whole = train(_new(folder / "whole"))
    take, numbers = Steps.take, []

    def counted(steps: Steps, loss: Any) -> None:
        numbers.append(steps.step)
        if len(numbers) == taken + 1:
            raise KeyboardInterrupt
        take(steps, loss)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Steps, "take", counted)
        with pytest.raises(KeyboardInterrupt):
            train(_new(folder / "cut"))
        resumed = train(folder / "cut")
    assert numbers[: taken + 2] == [*range(taken + 1), taken - lost]
    return whole, resumed


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder
