"""Policy: whether a camera sends every picture, decides alone which, or has the server ask for them."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from device.encoding import EncoderSettings
from semlink.access.protection import CODE_RATE, MOST_DESIGN_BER
from semlink.parameters import Only

POLICIES = ("all", "alone", "ask")
OPINIONATED = ("alone", "ask")
"""Policies under which a camera first says what it thinks."""
PICTURES = "codec"
"""Source coder of the pictures that follow an opinion."""
OF_ALL = dict.fromkeys(("side", "budget_bytes"), Only("policy", ("all",)))
"""Settings of that coder that have an effect only where the size of pictures is the camera's to choose."""


class PolicySettings(EncoderSettings):
    """Settings that decide which pictures are sent, and how strongly all that is sent is protected."""

    policy: Literal["all", "alone", "ask"] = Field(
        "all",
        description="all: send every picture, as --source makes it. Or say first, in 16 bytes, what the model "
        "thinks, and send a picture of --source codec if it is worth its bits. ask: the server asks for it, where "
        "it is unsure. alone: over links with no way back, the device decides by its confidence and by looking at "
        "its own decoded picture",
    )
    calibration: Annotated[Path | None, Only("policy", OPINIONATED)] = Field(
        None,
        description="file of semlink calibrate: how far opinions can be trusted, what pictures are worth and what "
        "a bit may cost; without it, the one that comes with the package",
    )
    target_accuracy_loss: Annotated[float | None, Only("policy", OPINIONATED)] = Field(
        None,
        ge=-100,
        le=100,
        description="send so few pictures that the accuracy is at most so many points below the server's on "
        "undamaged pictures, on average of the calibration's; 1 where there is no --budget-bits",
    )
    budget_bits: Annotated[float | None, Only("policy", OPINIONATED)] = Field(
        None,
        gt=0,
        description="send as many pictures as so many bits a view pay for, on average of the calibration's",
    )
    protect_for: Annotated[float | None, CODE_RATE] = Field(
        None,
        gt=0,
        le=MOST_DESIGN_BER,
        description="bit error rate that the channel's code is chosen for, where it has one (--access ldpc); "
        "without it, the channel chooses. A code that was too weak for a header is followed by one for twice that",
    )

    @model_validator(mode="before")
    @classmethod
    def _pictures(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("policy", "all") != "all":
            return {"source": PICTURES} | values
        return values

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.policy != "all" and self.source != PICTURES:
            raise ValueError(
                f"--policy {self.policy} (or SEMLINK_POLICY) sends pictures of --source {PICTURES}, not of "
                f"{self.source}: leave --source out"
            )
        if self.target_accuracy_loss is not None and self.budget_bits is not None:
            raise ValueError(
                "--target-accuracy-loss and --budget-bits: give a target of accuracy or of bits, not both"
            )
        return self

    def without_effect(
        self, given: Collection[str], beside: Mapping[str, Only] = MappingProxyType({})
    ) -> Iterator[str]:
        """Those of the encoder, and the size of pictures where it is not the camera's to choose."""
        yield from super().without_effect(given, {**OF_ALL, **beside})
