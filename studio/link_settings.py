"""Knobs of the link as one checked model: what cameras send, how many there are, seed and pace of the rounds."""

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from device.encoding import PLANNING
from device.policy import PICTURES, PolicySettings
from semlink.access.planner import PlanMethod
from semlink.service.validation import mistakes_text

MOST_CAMERAS = 8
SEED_BITS, NUMBER_BITS = 20, 32
"""Of a frame id: the seed above, the number of the noise below; together exact in a page's 53-bit numbers."""
FILES = ("calibration", "target_accuracy_loss", "budget_bits")
"""Settings of the policy that are no knobs: a file, and targets that a server has from its start."""


class LinkSettings(PolicySettings):
    """Everything that the page may set, but the channel, which the emulator holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cameras: int = Field(4, ge=1, le=MOST_CAMERAS, description="cameras that look at the object")
    seed: int = Field(
        0,
        ge=0,
        lt=1 << SEED_BITS,
        description="what all bit errors, noise and fading follow from, with the camera's name and the round: it "
        "is the upper part of the frame ids",
    )
    frozen: bool = Field(False, description="every round meets the same noise and fading")
    running: bool = Field(False, description="rounds follow each other by themselves")
    every: float = Field(
        1.0,
        ge=0,
        le=60,
        description="seconds from the start of a round to that of the next; 0: as fast as answers come",
    )

    def changed(self, changes: Mapping[str, Any]) -> "LinkSettings":
        """The settings with some changed.

        A policy that sends pictures of one source coder alone takes that coder along; another coder takes the
        policy back that sends every picture.

        Raises:
            ValueError: there are no such settings; the message says why.
        """
        if unknown := [name for name in changes if name in FILES or name not in LinkSettings.model_fields]:
            raise ValueError(f"{unknown[0][:40]!r} is no knob; GET /v1/knobs lists them")
        changes = dict(changes)
        if changes.get("policy", "all") != "all":
            changes.setdefault("source", PICTURES)
        elif changes.get("source", PICTURES) != PICTURES:
            changes.setdefault("policy", "all")
        try:
            return LinkSettings(**(self.model_dump() | changes))
        except ValidationError as error:
            raise ValueError(mistakes_text(error.errors())) from None

    def knobs(self) -> dict[str, Any]:
        """Values of all knobs by name, as JSON has them."""
        return {name: value for name, value in self.model_dump(mode="json").items() if name not in FILES}

    def of_device(self, *, takes_plans: bool) -> dict[str, Any]:
        """Settings of a camera, as `DeviceSettings` takes them: those that have an effect.

        Args:
            takes_plans: of the channel that its frames meet; they then have a plan, of the method that suits the
                source coder where none is set.
        """
        found = {name: value for name, value in self.effective().items() if name not in {*FILES, *OWN}}
        del found["plan"]
        if takes_plans:
            found["plan"] = self.plan or (PlanMethod.IA_QSMPA if self.source in PLANNING else PlanMethod.EXACT)
        return {name: value for name, value in found.items() if value is not None}

    def frame_id(self, number: int) -> int:
        """Frame id of a round's noise.

        >>> LinkSettings(seed=3).frame_id(5) == 3 * 2**32 + 5
        True
        """
        return self.seed << NUMBER_BITS | number


OWN = tuple(name for name in LinkSettings.model_fields if name not in PolicySettings.model_fields)
"""Settings of the rounds, which no device has."""
