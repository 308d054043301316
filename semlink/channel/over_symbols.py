"""Channel of complex symbols: what AWGN and Rayleigh fading share, the access scheme among them."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from semlink.access import coded_qam, ldpc_qam, uncoded_qam
from semlink.access.symbol_link import Received, SymbolLink
from semlink.channel.arrived_symbols import ArrivedSymbols
from semlink.channel.base import Arrival, Carried, Modulated, Noisy
from semlink.channel.fading import FadingState
from semlink.channel.over_bits import DesignBer
from semlink.channel.plan import Plan
from semlink.parameters import Notation, Option


@dataclass(frozen=True, kw_only=True)
class OverSymbols(Modulated, Noisy):
    """A channel that takes complex symbols, one after the other; `access` says how bits become symbols."""

    fades: ClassVar[bool] = False
    """Each symbol has a gain of its own, which the receiver knows."""

    access: Annotated[
        Literal["qam", "ldpc", "ldpc-qam", "learned"],
        Option(
            "bits to symbols: qam, every bit alike and uncoded; ldpc, 5G LDPC codes of the whole frame over QAM; "
            "ldpc-qam, such codes whose rates follow from importance within the symbols of --cbr, and what does "
            "not fit is lost; learned, networks that know the bits' importance, for frames of the coder learned"
        ),
    ] = "qam"
    design_ber: DesignBer = None
    cbr: Annotated[
        Literal["1/4", "1/8", "1/16", "1/24"],
        Option("channel bandwidth ratio: complex symbols that a frame may take, per value of its picture"),
        Notation("r", "", "L = r H W C", "Kong and Zhang, equation (3); L: symbols on the air"),
    ] = "1/8"

    def __post_init__(self) -> None:
        """Refuses a parameter out of its range, and learned access where it cannot run."""
        super().__post_init__()
        if self.access == "learned":
            from semlink.access.learned.transmission import missing

            if why := missing(self.name):
                raise ValueError(f"access learned: {why}")

    @property
    def idle(self) -> Mapping[str, str]:
        """Also the bandwidth ratio where symbols follow from bits, the order without QAM, μ without its code."""
        useless: dict[str, dict[str, str]] = {
            "qam": {"cbr": "with --access qam"},
            "ldpc": {"cbr": "with --access ldpc, which takes as many symbols as the code does"},
            "ldpc-qam": {},
            "learned": {"order": "with --access learned, which has symbols of its own"},
        }
        told = {} if self.codes_frames else {"design_ber": f"with --access {self.access}"}
        return {**super().idle, **useless[self.access], **told}

    @property
    def codes_frames(self) -> bool:
        """See `Channel.codes_frames`."""
        return self.access == "ldpc"

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
        seen: ArrivedSymbols | None = None

        def use(symbols: NDArray[np.complex128]) -> Received:
            nonlocal seen
            received = self.use(symbols, snr_db, generator)
            order = 0 if self.access == "learned" else self.order
            seen = ArrivedSymbols(order, received.symbols, lambda: symbols)
            return received

        link = SymbolLink(
            channel=self.name,
            order=self.order,
            cbr=self.cbr,
            snr_db=snr_db,
            fades=self.fades,
            use=use,
        )
        return replace(self._send(frame, link), symbols=seen)

    def _send(self, frame: Carried, link: SymbolLink) -> Arrival:
        match self.access:
            case "qam":
                return uncoded_qam.send(frame, link)
            case "ldpc":
                return coded_qam.send(frame, link, self.design_ber)
            case "ldpc-qam":
                return ldpc_qam.send(frame, link)
            case "learned":
                from semlink.access.learned import transmission  # its frames and networks, which others do without

                return transmission.send(frame, link)
