"""Optimizer steps: learning rate, checkpoints, and the weights that a validation chooses."""

import math

import pytest
import torch
from interruption import whole_and_resumed
from rich.progress import Progress
from torch import nn

from experiments.training.steps import ChosenSteps, Steps

TOTAL = 40
SCORES = {2: 1.0, 4: 3.0, 6: 3.0, 8: 2.0}


def one_weight() -> tuple[nn.Linear, torch.optim.SGD]:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    return model, torch.optim.SGD(model.parameters(), 1.0)


def test_the_step_size_rises_and_falls_as_half_a_cosine(tmp_path):
    """A loss of slope -1 moves the weight by the learning rate itself, which is written out here."""
    model, optimizer = one_weight()
    steps = Steps(model, optimizer, TOTAL, "run", tmp_path / "checkpoint")
    moved = []
    for step in steps.left("steps", Progress(disable=True)):
        before = model.weight.item()
        steps.take(-model.weight.sum())
        assert steps.step == step + 1
        moved.append(model.weight.item() - before)
    rise = 0.05 * TOTAL
    wanted = [min(1, (step + 1) / rise) * (1 + math.cos(math.pi * step / TOTAL)) / 2 for step in range(TOTAL)]
    assert moved == pytest.approx(wanted, abs=1e-5)  # the weight grows to 20 in float32


def test_a_checkpoint_is_due_every_so_many_steps_and_at_the_end(tmp_path):
    model, optimizer = one_weight()
    steps = Steps(model, optimizer, 7, "run", tmp_path / "checkpoint")
    due = []
    for _ in steps.left("steps", Progress(disable=True)):
        steps.take(model.weight.sum())
        if steps.due(3):
            due.append(steps.step)
    assert due == [3, 6, 7]


def chosen(folder, run: str = "run") -> tuple[ChosenSteps, list[dict[str, float]]]:
    """A training whose weight tells the steps it took, and that is validated by SCORES."""
    model, optimizer = one_weight()
    steps = ChosenSteps(model, optimizer, 8, run, folder / "checkpoint")
    for step in steps.left("steps", Progress(disable=True)):
        steps.take(-(1 + step) * model.weight.sum())
        if steps.due(2):
            steps.validated(SCORES[steps.step], {"step": steps.step, "weight": model.weight.item()})
    return steps, steps.choose()


def test_the_best_weights_stay_of_equal_ones_the_later(tmp_path):
    steps, history = chosen(tmp_path)
    assert [row["step"] for row in history] == [2, 4, 6, 8]
    assert steps.model.weight.item() == history[2]["weight"]
    assert len({row["weight"] for row in history}) == 4


@pytest.mark.parametrize("taken", [3, 5, 7])
def test_a_resumed_run_ends_the_same(tmp_path, taken):
    """Interrupted before the best validation, between two equal ones, and behind them."""
    (whole, rows), (resumed, rows_resumed) = whole_and_resumed(chosen, tmp_path, taken)
    assert rows == rows_resumed
    assert torch.equal(whole.model.weight, resumed.model.weight)


def test_a_checkpoint_of_another_run_is_not_resumed(tmp_path):
    chosen(tmp_path)
    model, optimizer = one_weight()
    assert Steps(model, optimizer, 8, "run", tmp_path / "checkpoint").step == 8
    model, optimizer = one_weight()
    assert Steps(model, optimizer, 8, "another run", tmp_path / "checkpoint").step == 0
    assert model.weight.item() == 0
