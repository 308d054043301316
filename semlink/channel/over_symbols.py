"""Channel of complex symbols: what AWGN and Rayleigh fading share, the access scheme among them."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from semlink.access import ldpc_qam, uncoded_qam
from semlink.access.symbol_link import Received, SymbolLink
from semlink.channel.base import Arrival, Carried, Modulated, Noisy
from semlink.channel.fading import FadingState
from semlink.channel.plan import Plan
from semlink.parameters import Option


@dataclass(frozen=True, kw_only=True)
class OverSymbols(Modulated, Noisy):
    """A channel that takes complex symbols, one after the other; `access` says how bits become symbols."""

    fades: ClassVar[bool] = False
    """Each symbol has a gain of its own, which the receiver knows."""

    access: Annotated[
        Literal["qam", "ldpc-qam"],
        Option(
            "bits to symbols: qam, every bit alike and uncoded; ldpc-qam, 5G LDPC codes whose rates follow from "
            "importance, and what does not fit is lost"
        ),
    ] = "qam"
    cbr: Annotated[
        Literal["1/4", "1/8", "1/16", "1/24"],
        Option("channel bandwidth ratio: complex symbols that a frame may take, per value of its picture"),
    ] = "1/8"

    @property
    def idle(self) -> Mapping[str, str]:
        """Also the bandwidth ratio, where the number of symbols follows from that of the bits."""
        useless = {"cbr": "with --access qam"} if self.access == "qam" else {}
        return {**super().idle, **useless}

    @abstractmethod
    def use(self, symbols: NDArray[np.complex128], snr_db: float, generator: np.random.Generator) -> Received:
        """Symbols as they arrive.

        Args:
            symbols: (Q,) of unit mean energy.
            snr_db: mean energy of a symbol over noise, in dB.
            generator: the source of all randomness.
        """

    def transmit(
        self,
        frame: Carried,
        plan: Plan | None,
        state: FadingState | None,
        generator: np.random.Generator,
    ) -> Arrival:
        """See `Channel.transmit`.

        Raises:
            AccessRefused: the access scheme does not take this frame.
        """
        snr_db = self.snr_met(state)
        link = SymbolLink(
            channel=self.name,
            order=self.order,
            cbr=self.cbr,
            snr_db=snr_db,
            fades=self.fades,
            use=lambda symbols: self.use(symbols, snr_db, generator),
        )
        return uncoded_qam.send(frame, link) if self.access == "qam" else ldpc_qam.send(frame, link)
