"""Policy cell: one setting of who sends what over a channel, in a dialogue (`ask`) or one way (`alone`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

from experiments.evaluation.cells import Cell, channel_title
from semlink.decision.calibration import DEFAULT_LOSS, Calibration, Curve, read_calibration

Policy = Literal["alone", "ask"]
DIGEST_DIGITS = 12


@dataclass(frozen=True)
class PolicyCell(Cell):
    """One setting of a policy. A camera that sends every picture, `all`, is a cell of its source coder.

    Attributes:
        method: the policy.
        calibration: digest of the calibration that it goes by, see `digest_of`.
        target_accuracy_loss: points below the server's accuracy on undamaged pictures that it aims at.
        budget_bits: mean bits of a view that it aims at, instead.

    Raises:
        ValueError: there is no such policy, the channel takes plans, or not one of the targets is given.
    """

    method: Policy
    calibration: str
    target_accuracy_loss: float | None = None
    budget_bits: float | None = None

    def __post_init__(self) -> None:
        """Refuses what no view could be sent with."""
        if self.method not in get_args(Policy):
            raise ValueError(f"policy must be one of {', '.join(get_args(Policy))}, not {self.method!r}")
        if self.channel.takes_plan:
            raise ValueError(f"{self.channel.name} takes frames with a plan, which policies don't make here")
        if (self.target_accuracy_loss is None) == (self.budget_bits is None):
            raise ValueError("give a target of accuracy or a budget of bits, one of them")

    @property
    def title(self) -> str:
        """In words, for the progress bar."""
        target = (
            f"{self.budget_bits:g} bits"
            if self.target_accuracy_loss is None
            else f"{self.target_accuracy_loss:g} points"
        )
        return f"{self.method}, {target}, {channel_title(self.channel)}"

    def price(self, calibration: Calibration) -> float:
        """The price of a bit that the target leads to.

        Raises:
            CalibrationError: no operating point meets it.
        """
        curve: Curve = getattr(calibration, self.method)
        return curve.price_for(self.target_accuracy_loss, self.budget_bits)


def digest_of(calibration: Calibration) -> str:
    """Stands for what a calibration holds."""
    return sha256(repr(calibration).encode()).hexdigest()[:DIGEST_DIGITS]


def is_policy(settings: dict[str, Any]) -> bool:
    """Whether settings of a row are those of a policy's cell."""
    return settings.get("method") in get_args(Policy)


def aimed(
    policies: Sequence[str], calibration: Path | None, losses: Sequence[float], budgets: Sequence[float]
) -> list[dict[str, Any]]:
    """Every combination of policies and targets, as fields of their cells beside the channel.

    Args:
        policies: their names; with none, nothing is read.
        calibration: its file; None: the one that comes with the package.
        losses: targets of accuracy; where there is no target at all, the default one.
        budgets: targets of bits.

    Raises:
        CalibrationError: the calibration can't be read.
    """
    if not policies:
        return []
    digest = digest_of(read_calibration(calibration))
    targets = [{"target_accuracy_loss": loss} for loss in losses] + [{"budget_bits": bits} for bits in budgets]
    return [
        {"method": policy, "calibration": digest} | target
        for policy in policies
        for target in targets or [{"target_accuracy_loss": DEFAULT_LOSS}]
    ]
