"""Knobs of the link as one checked model: what cameras send, how many there are, seed and pace of the rounds."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

from device.encoding import PLANNING
from device.policy import PICTURES, PolicySettings
from semlink.access.planner import PlanMethod
from semlink.parameters import Notation
from semlink.service.validation import mistakes_text

MOST_CAMERAS = 8
SEED_BITS, NUMBER_BITS = 20, 32
"""Of a frame id: the seed above, the number of the noise below; together exact in a page's 53-bit numbers."""
THRESHOLDS = {"attention-threshold": 0.005, "attention-sum-threshold": 0.6}
"""Of attention where none is set: the middle of what the paper looks at (IAQ, Section V)."""
VOTE = "IAQ, Section V: the class that most of V views name; ties go to the higher summed confidence"
"""Majority vote of the cameras, for the knob of their number."""
FILES = ("calibration", "target_accuracy_loss", "budget_bits")
"""Settings of the policy that are no knobs: a file, and targets that a server has from its start."""


def _of_frame_id(symbol: str) -> Notation:
    return Notation(symbol, "", '"frame id" = 2^32 s + n', "s: the seed, n: the noise")


class LinkSettings(PolicySettings):
    """Everything that the page may set, but the channel, which the emulator holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cameras: Annotated[int, Notation("V", "cameras", "c = argmax_k ∑_v (c_v = k)", VOTE)] = Field(
        4, ge=1, le=MOST_CAMERAS, description="cameras that look at the object"
    )
    seed: Annotated[int, _of_frame_id("s")] = Field(
        0,
        ge=0,
        lt=1 << SEED_BITS,
        description="what all bit errors, noise and fading follow from, with the camera's name and the number of "
        "the noise: it is the upper part of the frame ids",
    )
    noise: Annotated[int, _of_frame_id("n")] = Field(
        0,
        ge=0,
        lt=1 << NUMBER_BITS,
        description="number of the noise and fading that a round meets, which a step counts up: it is the lower "
        "part of the frame ids",
    )
    frozen: bool = Field(False, description="every round meets the same noise and fading")
    running: bool = Field(False, description="rounds follow each other by themselves")
    every: Annotated[float, Notation("T", "s")] = Field(
        1.0,
        ge=0,
        le=60,
        description="seconds from the start of a round to that of the next; 0: as fast as answers come",
    )

    def changed(self, changes: Mapping[str, Any]) -> "LinkSettings":
        """The settings with some changed.

        A policy that sends pictures of one source coder alone takes that coder along; another coder takes the
        policy back that sends every picture. A method that goes by a threshold brings one along.

        Raises:
            ValueError: there are no such settings; the message says why.
        """
        if unknown := [name for name in changes if name not in KNOBS]:
            raise ValueError(f"{unknown[0][:40]!r} is no knob; GET /v1/knobs lists them")
        if odd := [name for name, value in changes.items() if not isinstance(value, str | int | float | None)]:
            raise ValueError(f"{odd[0]}: must be a number, a word, true, false or null")
        changes = dict(changes)
        if changes.get("method", self.coding.get("method")) != self.coding.get("method"):
            changes.setdefault("threshold", THRESHOLDS.get(str(changes["method"])))
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
        return {name: value for name, value in self.model_dump(mode="json").items() if name in KNOBS}

    def of_device(self, *, takes_plans: bool) -> dict[str, Any]:
        """Settings of a camera, as `DeviceSettings` takes them: those that have an effect.

        Args:
            takes_plans: of the channel that its frames meet; they then have a plan, of the method that suits the
                source coder where none is set.
        """
        is_planned = takes_plans and self.source in PLANNING
        link = self.changed({"total_bits": None}) if is_planned else self  # plans keep to ρ
        found = {name: value for name, value in link.effective().items() if name not in {*FILES, *OWN}}
        del found["plan"]
        if takes_plans:
            found["plan"] = self.plan or (PlanMethod.IA_QSMPA if self.source in PLANNING else PlanMethod.EXACT)
        return {name: value for name, value in found.items() if value is not None}

    @property
    def frame_id(self) -> int:
        """Frame id of the views of a round.

        >>> LinkSettings(seed=3, noise=5).frame_id == 3 * 2**32 + 5
        True
        """
        return self.seed << NUMBER_BITS | self.noise

    @property
    def stepped(self) -> "LinkSettings":
        """The settings with the next noise."""
        return self.model_copy(update={"noise": (self.noise + 1) % (1 << NUMBER_BITS)})


KNOBS = tuple(name for name in LinkSettings.model_fields if name not in FILES)
"""Settings that the page may set."""
OWN = tuple(name for name in LinkSettings.model_fields if name not in PolicySettings.model_fields)
"""Settings of the rounds, which no device has."""
