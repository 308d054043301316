"""Channel of bits: the access scheme that those with hard decisions share, none or 5G LDPC codes."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from semlink.access import protection
from semlink.access.hard_decisions import LEAST_BER, code_rate, likelihood_ratios
from semlink.channel.base import Arrival, Carried, Channel
from semlink.channel.fading import FadingState
from semlink.channel.plan import Plan
from semlink.parameters import Option

DesignBer = Annotated[
    float | None,
    Interval(gt=0, le=protection.MOST_DESIGN_BER),
    Option(
        "bit error rate that the code rates of --access ldpc are chosen for; by default the channel's own",
        flag="code_ber",
    ),
    protection.CODE_RATE,
]
"""Type of the parameter `design_ber`."""


@dataclass(frozen=True, eq=False)
class AirBits:
    """Coded bits on the air, each a segment of its own: `Carried`."""

    values_on_air: NDArray[np.uint8]
    """(n,) values 0 and 1."""
    values: int = 0

    @property
    def payload(self) -> bytes:
        """The bits, padded to a byte."""
        return np.packbits(self.values_on_air).tobytes()

    @property
    def payload_bits(self) -> int:
        """n."""
        return self.values_on_air.size

    @property
    def segment_bits(self) -> NDArray[np.int64]:
        """(n,) ones."""
        return np.ones(self.values_on_air.size, np.int64)

    @property
    def importance(self) -> NDArray[np.float64]:
        """(n,) ones: on the air all bits are alike."""
        return np.ones(self.values_on_air.size)


@dataclass(frozen=True, kw_only=True)
class OverBits(Channel):
    """A channel that takes bits and gives hard decisions; `access` says whether they are coded."""

    interleaves: ClassVar[bool] = True
    """Coded bits are interleaved."""

    access: Annotated[
        Literal["none", "ldpc"],
        Option("code: none, or ldpc, 5G LDPC codes of the whole frame, the most important bits the strongest"),
    ] = "none"
    design_ber: DesignBer = None

    @property
    def idle(self) -> Mapping[str, str]:
        """What the code is for, where there is none."""
        return {} if self.codes_frames else {"design_ber": "with --access none"}

    @property
    def codes_frames(self) -> bool:
        """See `Channel.codes_frames`."""
        return self.access == "ldpc"

    @property
    @abstractmethod
    def own_ber(self) -> float:
        """Mean bit error rate of what arrives, within [0, 1]."""

    @abstractmethod
    def carries_quickly(self, bits: int) -> bool:
        """Whether `carry` takes a millisecond at most for so many bits."""

    def is_quick(self, bits: int) -> bool:
        """See `Channel.is_quick`: never where codes are decoded."""
        return not self.codes_frames and self.carries_quickly(bits)

    @abstractmethod
    def carry(self, frame: Carried, generator: np.random.Generator) -> Arrival:
        """Sends bits as they are."""

    def transmit(
        self,
        frame: Carried,
        plan: Plan | None,
        state: FadingState | None,
        generator: np.random.Generator,
    ) -> Arrival:
        """See `Channel.transmit`."""
        if not self.codes_frames:
            return self.carry(frame, generator)
        own = min(self.own_ber, protection.MOST_DESIGN_BER)
        design_ber = own if self.design_ber is None else self.design_ber
        link = protection.BitLink(
            design_ber=design_ber,
            rate=partial(code_rate, lowest=protection.LEAST_RATE),
            use=lambda bits: self._soft(bits, max(design_ber, LEAST_BER), generator),
            interleaves=self.interleaves,
        )
        return protection.send(frame, link)

    def _soft(self, bits: NDArray[np.uint8], ber: float, generator: np.random.Generator) -> NDArray[np.float32]:
        """log P(0)/P(1) of bits that were carried, by the bit error rate that the receiver believes in."""
        arrival = self.carry(AirBits(bits), generator)
        arrived = bits.copy()
        arrived[arrival.flips] ^= 1
        ratios = likelihood_ratios(arrived, ber)
        ratios[arrival.lost] = 0
        return ratios
