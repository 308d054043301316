"""Symbol link: what a channel of complex symbols offers an access scheme, which modulates and decides."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Received(NamedTuple):
    """Symbols as they arrive, equalised: y/h."""

    symbols: NDArray[np.complex128]
    """(Q,)."""
    powers: NDArray[np.float64] | None = None
    """(Q,) |h|² of each symbol, above 0, which the receiver knows; None: 1."""


@dataclass(frozen=True, kw_only=True)
class SymbolLink:
    """One frame's way over a channel of complex symbols.

    Attributes:
        channel: its name, such as "rayleigh".
        order: of the QAM.
        cbr: channel bandwidth ratio, such as "1/8".
        snr_db: mean energy of a symbol over noise, which both ends know, in dB.
        fades: whether each symbol has a gain of its own.
        use: (Q,) symbols of unit mean energy -> what arrives. All randomness of the channel is in it.
    """

    channel: str
    order: int
    cbr: str
    snr_db: float
    fades: bool
    use: Callable[[NDArray[np.complex128]], Received]

    def noise_powers(self, received: Received) -> NDArray[np.float64]:
        """Variance of the complex noise after equalising, one for all or (Q,)."""
        noise = np.asarray(10 ** (-self.snr_db / 10))
        return noise if received.powers is None else noise / received.powers

    def budget(self, values: int) -> int:
        """Channel uses L = r·H·W·C of a picture of so many values (Kong, Zhang, equation 3).

        >>> link = SymbolLink(channel="awgn", order=4, cbr="1/24", snr_db=10, fades=False, use=Received)
        >>> link.budget(32 * 32 * 3)
        128
        """
        return int(Fraction(self.cbr) * values)


ACCESS_REASONS = ("coder", "interface", "networks", "uncoded", "design_ber", "length")
"""Why an access scheme refuses a frame: it is of another coder, of another interface, or no networks run here; it
asks for protection where nothing is coded, or for a bit error rate that no code is for; it is too long to code."""


class AccessRefused(ValueError):
    """A frame that an access scheme does not take. `reason` is one of `ACCESS_REASONS`, a metric's label."""

    def __init__(self, reason: str, message: str) -> None:
        """`message`: a sentence on what is wrong."""
        super().__init__(message)
        self.reason = reason
