"""The plan of one frame: bits, subchannels and power of every block, and when each should be done."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semlink.access.mapping import check_even
from semlink.channel.ofdm import Numerology

MIN_BITS, MAX_BITS = 1, 8
"""B_min and B_max (IA-QSMPA, Section V)."""
EXCESS = 1e-9
"""Relative excess of power that rounding may cause."""
RULES = ("sizes", "bits", "budget", "mapping", "power", "latency")
"""What a plan can break, and a `PlanError` names."""


class PlanError(ValueError):
    """A plan that breaks a rule. `rule` is one of `RULES`, and the message begins with it."""

    def __init__(self, rule: str, message: str) -> None:
        """`message`: how the rule is broken."""
        super().__init__(f"{rule}: {message}")
        self.rule = rule


@dataclass(frozen=True, eq=False)
class Plan:
    """What device and receiver agree on before a frame is sent; block i carries patch i.

    Raises:
        PlanError: the plan breaks a rule.
        ValueError: SNR or ρ is out of range.
    """

    method: str
    """Name of the method that made it."""
    numerology: Numerology
    """Dimensions of the link."""
    snr_db: float
    """SNR for which it was made."""
    rho: float
    """Compression ratio that the bits keep to, ΣB[i] ≤ 8·N·ρ."""
    bits: NDArray[np.int64]
    """(N,) B[i], 1..8."""
    block_of_subchannel: NDArray[np.int64]
    """(F, N_s) the block that each subchannel carries, each block N_s·F/N times."""
    power: NDArray[np.float64]
    """(N,) P[i] ≥ 0 of every subchannel of block i; over all subchannels they add up to no more than P_tot."""
    latencies: NDArray[np.float64]
    """(N,) predicted seconds of each block, from the first OFDM symbol; infinite where nothing gets through."""
    mean_gains: NDArray[np.float64]
    """(N,) λ[i], mean singular value of the block's subchannels (equation 8)."""
    weighted_error: float
    """E_Q (equation 12)."""
    block_error_rate: float | None = None
    """Target block error rate of the finite block length; None for the ideal transmission."""
    bits_per_level: int = 768
    """D, the payload bits that each of B[i] costs."""

    def __post_init__(self) -> None:
        """Refuses a plan that breaks a rule."""
        if not np.isfinite(self.snr_db):
            raise ValueError(f"snr_db must be finite, not {self.snr_db}")
        check_rules(self.numerology, self.rho, self.bits, self.block_of_subchannel, self.power)
        for name in ("latencies", "mean_gains"):
            if np.shape(getattr(self, name)) != self.bits.shape:
                raise PlanError("sizes", f"{name} must be one per block, not {np.shape(getattr(self, name))}")
        if not (self.latencies >= 0).all():
            raise PlanError("latency", "it must be at least 0")

    @property
    def t_d(self) -> float:
        """Worst-case latency T_d in seconds, possibly infinite (equation 25)."""
        return float(self.latencies.max())

    @property
    def exceeds_coherence(self) -> bool:
        """T_d is longer than the channel stays as it was."""
        return self.t_d > self.coherence_seconds

    @property
    def coherence_seconds(self) -> float:
        """How long the channel stays as it was: T OFDM symbols."""
        return self.numerology.coherence_symbols * self.numerology.symbol_seconds

    @cached_property
    def power_of_subchannel(self) -> NDArray[np.float64]:
        """(F, N_s) power of each subchannel (equation 10)."""
        return self.power[self.block_of_subchannel]

    def to_arrays(self) -> dict[str, Any]:
        """Plain numbers, text and arrays, for a message; `from_arrays` makes the plan of them again.

        The mapping is written as `subchannels`, (N, N_s·F/N) numbers f·N_s + r of each block's subchannels.
        """
        order = np.argsort(self.block_of_subchannel, axis=None, kind="stable")
        return {
            "method": self.method,
            "subcarriers": self.numerology.subcarriers,
            "streams": self.numerology.streams,
            "spacing_hz": self.numerology.spacing_hz,
            "total_power": self.numerology.total_power,
            "coherence_symbols": self.numerology.coherence_symbols,
            "snr_db": self.snr_db,
            "rho": self.rho,
            "bits": self.bits,
            "subchannels": order.reshape(self.bits.size, -1),
            "power": self.power,
            "latencies": self.latencies,
            "mean_gains": self.mean_gains,
            "weighted_error": self.weighted_error,
            "block_error_rate": self.block_error_rate,
            "bits_per_level": self.bits_per_level,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> "Plan":
        """The plan of what `to_arrays` gave; nothing in it is trusted.

        Raises:
            ValueError: the plan breaks a rule, which the message names.
        """
        numerology = Numerology(
            *(
                arrays[name]
                for name in ("subcarriers", "streams", "spacing_hz", "total_power", "coherence_symbols")
            )
        )
        return cls(
            method=arrays["method"],
            numerology=numerology,
            snr_db=arrays["snr_db"],
            rho=arrays["rho"],
            bits=np.asarray(arrays["bits"]),
            block_of_subchannel=_blocks_of(np.asarray(arrays["subchannels"]), numerology),
            power=np.asarray(arrays["power"], dtype=np.float64),
            latencies=np.asarray(arrays["latencies"], dtype=np.float64),
            mean_gains=np.asarray(arrays["mean_gains"], dtype=np.float64),
            weighted_error=arrays["weighted_error"],
            block_error_rate=arrays["block_error_rate"],
            bits_per_level=arrays["bits_per_level"],
        )


def check_rules(
    numerology: Numerology,
    rho: float,
    bits: NDArray[np.int64],
    block_of_subchannel: NDArray[np.int64],
    power: NDArray[np.float64],
) -> None:
    """Refuses what no link of these dimensions may be asked to send; the arguments are fields of a `Plan`.

    Raises:
        PlanError: a rule is broken.
        ValueError: ρ is out of range.
    """
    count = np.size(bits)
    for name, values in (("bits", bits), ("power", power)):
        if np.shape(values) != (count,) or count == 0:
            raise PlanError("sizes", f"{name} must be one per block, not {np.shape(values)}")
    shape = (numerology.subcarriers, numerology.streams)
    if np.shape(block_of_subchannel) != shape:
        raise PlanError(
            "sizes", f"block_of_subchannel must have shape {shape}, not {np.shape(block_of_subchannel)}"
        )
    if not MIN_BITS / 8 <= rho <= 1:
        raise ValueError(f"rho must be within [{MIN_BITS / 8}, 1], not {rho}")
    if not np.issubdtype(bits.dtype, np.integer):
        raise PlanError("bits", "they must be integers")
    if bits.min() < MIN_BITS or bits.max() > MAX_BITS:
        raise PlanError("bits", f"they must be within [{MIN_BITS}, {MAX_BITS}], not {bits.min()} to {bits.max()}")
    if bits.sum(dtype=np.int64) > steps_of(rho, count):
        raise PlanError(
            "budget", f"the bits add up to {bits.sum(dtype=np.int64)}, ρ = {rho} allows {steps_of(rho, count)}"
        )
    try:
        check_even(block_of_subchannel, count)
    except ValueError as error:
        raise PlanError("mapping", str(error)) from None
    if not ((power >= 0) & np.isfinite(power)).all():
        raise PlanError("power", "it must be finite and at least 0")
    spent = power.sum() * numerology.subchannels / count
    if spent > numerology.total_power * (1 + EXCESS):
        raise PlanError("power", f"it adds up to {spent:.9g}, P_tot is {numerology.total_power:.9g}")


def steps_of(rho: float, count: int) -> int:
    """ΣB[i] that ρ pays for: floor(8·N·ρ) (IA-QSMPA, Section V, definition of ρ)."""
    # The lift is for ratios of whole steps, as in `semlink.source.iaq.coder`.
    return int(8 * count * rho + 1e-6)


def _blocks_of(subchannels: NDArray[Any], numerology: Numerology) -> NDArray[np.int64]:
    """(F, N_s) blocks of (N, N_s·F/N) subchannels; PlanError unless each subchannel has one block."""
    if subchannels.ndim != 2 or not np.issubdtype(subchannels.dtype, np.integer):
        raise PlanError("mapping", "subchannels must be integers of shape (N, N_s·F/N)")
    if subchannels.size != numerology.subchannels:
        raise PlanError("mapping", f"it has {subchannels.size} subchannels, the link {numerology.subchannels}")
    if subchannels.min() < 0 or subchannels.max() >= numerology.subchannels:
        raise PlanError("mapping", f"subchannels must be within [0, {numerology.subchannels - 1}]")
    order = np.argsort(subchannels, axis=None, kind="stable")
    ascending = subchannels.ravel()[order]
    width = subchannels.shape[1]
    if (twice := np.flatnonzero(ascending[1:] == ascending[:-1])).size:
        first, second = order[twice[0] : twice[0] + 2] // width
        raise PlanError("mapping", f"subchannel {ascending[twice[0]]} is used by blocks {first} and {second}")
    return (order // width).reshape(numerology.subcarriers, numerology.streams)
