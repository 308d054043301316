"""Optimizer steps with checkpoints, whose learning rate rises for a short while and falls as half a cosine.

A training that counts steps, not passes, is a loop over `Steps.left`. Each draws a step's randomness from the
seed and the step's number alone, so that a run that goes on from its checkpoint ends as it would have without
having been interrupted.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
import torch
from rich.progress import Progress
from torch import Tensor, nn

from experiments.training.checkpoint import learning_rate_share, load_checkpoint, save_checkpoint

log = structlog.get_logger(__name__)


class Steps:
    """Steps of an optimizer on a model; they go on from a checkpoint where that is of the same run.

    Attributes:
        step: steps that were taken.
        total: steps of the whole run.
        kept: what else `save` put into the checkpoint; empty without one.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, total: int, run: Any, checkpoint: Path
    ) -> None:
        """Loads the checkpoint into the model and the optimizer, if there is one of this run.

        Args:
            model: on its device, with the weights to start from.
            optimizer: of its weights, or of some of them, at the largest learning rate.
            total: steps of the whole run.
            run: its options, and what its data is; only a run with the same ones resumes from the checkpoint.
            checkpoint: file.
        """
        self.model, self.optimizer, self.total = model, optimizer, total
        self.run, self.checkpoint = run, checkpoint
        self.schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_share(step, total))
        self.step = 0
        self.kept: dict[str, Any] = {}
        self.losses: list[Tensor] = []
        if saved := load_checkpoint(checkpoint, run):
            model.load_state_dict(saved.pop("model"))
            optimizer.load_state_dict(saved.pop("optimizer"))
            self.schedule.load_state_dict(saved.pop("schedule"))
            self.step = saved.pop("step")
            self.kept = saved

    def left(self, name: str, progress: Progress) -> Iterator[int]:
        """Numbers of the steps that are left, from 0; each is to be taken before the next.

        Args:
            name: of the progress bar.
            progress: gets a bar of all steps.
        """
        task = progress.add_task(name, total=self.total, completed=self.step)
        while self.step < self.total:
            yield self.step
            progress.update(task, completed=self.step)

    def take(self, loss: Tensor) -> None:
        """Takes a step down a loss."""
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        self.losses.append(loss.detach())

    def due(self, every: int) -> bool:
        """Whether this was the last of so many steps, or of all."""
        return self.step % every == 0 or self.step == self.total

    def save(self, **kept: Any) -> None:
        """Writes the checkpoint, with more tensors and plain values; logs the mean loss since the last."""
        log.info("steps", step=self.step, loss=round(torch.stack(self.losses).mean().item(), 6))
        self.losses = []
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
        }
        save_checkpoint(self.checkpoint, self.run, state | kept)


class ChosenSteps(Steps):
    """Steps after which the model gets the weights of its best validation.

    Attributes:
        history: a row for each validation.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, total: int, run: Any, checkpoint: Path
    ) -> None:
        """As `Steps`."""
        super().__init__(model, optimizer, total, run, checkpoint)
        self.best: float = self.kept.get("best", -math.inf)
        self.best_state: dict[str, Tensor] = self.kept.get("best_state", model.state_dict())
        self.history: list[dict[str, float]] = self.kept.get("history", [])

    def validated(self, score: float, row: dict[str, float]) -> None:
        """Keeps the weights if no score was higher; of equal ones, the later. Writes the checkpoint."""
        self.history.append(row)
        log.info("validated", **row)
        if score >= self.best:
            self.best = score
            self.best_state = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.save(best=self.best, best_state=self.best_state, history=self.history)

    def choose(self) -> list[dict[str, float]]:
        """Gives the model the weights of the best validation; returns the history."""
        self.model.load_state_dict(self.best_state)
        return self.history
