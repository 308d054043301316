"""Planner of MIMO-OFDM transmissions, every method by its name: from bits with importance to a plan.

All that a planner knows of a payload is its segments: how important each is, how many values it has, and how many
bits they may take together. What the values stand for is the source coder's business.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.access.exact import error_costs, exact, weighted_error
from semlink.access.ia_qsmpa import ia_qsmpa_bits, theorem_2_power, top_beta
from semlink.access.mapping import SubcarrierMapping, map_subcarriers
from semlink.access.power import capacity_water_filling, equal_finish, uniform_power
from semlink.channel.blocks import Blocks, gains_of_blocks
from semlink.channel.ofdm import Numerology, draw_channel, subchannel_gains
from semlink.channel.plan import MAX_BITS, MIN_BITS, Plan, PlanError, bit_budget, check_bits
from semlink.channel.rates import dispersion_penalty
from semlink.checks import finite_vector
from semlink.source.iaq.allocation.selection import fixed
from semlink.source.iaq.importance import importance_weights

UNIT_VARIANCE_RANGE = float(np.sqrt(12))
"""u_max - u_min of values of unit variance that are spread evenly."""


class PlanMethod(StrEnum):
    """Names of the methods of IA-QSMPA, Section V, and of the exact one: see `plan`."""

    IA_QSMPA = "ia-qsmpa"
    IA_QSMPA_LC = "ia-qsmpa-lc"
    FIXED = "fixed"
    FIXED_B_WF = "fixed-b-wf"
    FIXED_P_IAQ = "fixed-p-iaq"
    FIXED_P_TOP_BETA = "fixed-p-top-beta"
    UNIFORM = "uniform"
    EXACT = "exact"


DISTINCT_BITS = (PlanMethod.IA_QSMPA, PlanMethod.IA_QSMPA_LC, PlanMethod.FIXED)
"""Methods whose bits differ: every other printed one has the bits of one of these."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PredictedPlan(Plan):
    """A plan with the latencies that its maker expects.

    Raises:
        PlanError: the plan breaks a rule.
        ValueError: the SNR is not finite.
    """

    method: str
    """Name of the method that made it."""
    snr_db: float
    """SNR in dB for which it was made."""
    latencies: NDArray[np.float64]
    """(N,) predicted seconds of each block, from the first OFDM symbol; infinite where nothing gets through."""
    mean_gains: NDArray[np.float64]
    """(N,) λ[i], mean singular value of the block's subchannels (equation 8)."""
    block_error_rate: float | None = None
    """Target block error rate of the finite block length; None for the ideal transmission."""

    def __post_init__(self) -> None:
        """Refuses a plan that breaks a rule."""
        super().__post_init__()
        if not np.isfinite(self.snr_db):
            raise ValueError(f"snr_db must be finite, not {self.snr_db}")
        for name in ("latencies", "mean_gains"):
            if np.shape(getattr(self, name)) != self.load.shape:
                raise PlanError("sizes", f"{name} must be one per block, not {np.shape(getattr(self, name))}")
        if not (self.latencies >= 0).all():
            raise PlanError("latency", "it must be at least 0")

    @property
    def t_d(self) -> float:
        """Worst-case latency T_d in seconds, possibly infinite (equation 25)."""
        return float(self.latencies.max())

    @property
    def coherence_seconds(self) -> float:
        """For how long the channel stays as it was: T OFDM symbols."""
        return self.numerology.coherence_seconds

    @property
    def exceeds_coherence(self) -> bool:
        """T_d is longer than the channel stays as it was."""
        return self.t_d > self.coherence_seconds


@dataclass(frozen=True, eq=False, kw_only=True)
class QuantizingPlan(PredictedPlan):
    """A plan that chooses how many bits each value of a segment has, so that the frame is made for it.

    Raises:
        PlanError: the plan breaks a rule.
    """

    rho: float
    """Compression ratio that the bits keep to, ΣB[i] ≤ 8·N·ρ, from 1/8 to 1."""
    bits: NDArray[np.int64]
    """(N,) B[i] of every value of segment i, 1..8; they make the load."""
    weighted_error: float
    """E_Q (equation 12)."""

    def __post_init__(self) -> None:
        """Refuses a plan that breaks a rule."""
        if np.shape(self.bits) != np.shape(self.load) or not np.size(self.bits):
            raise PlanError("sizes", f"bits must be one per block, not {np.shape(self.bits)}")
        check_bits(self.bits, self.rho)
        super().__post_init__()


def plan(
    importance: ArrayLike,
    gains: ArrayLike,
    snr_db: float,
    *,
    method: PlanMethod | str = PlanMethod.IA_QSMPA,
    numerology: Numerology | None = None,
    rho: float = 0.25,
    mapping: SubcarrierMapping | str = SubcarrierMapping.IMPORTANCE,
    generator: np.random.Generator | None = None,
    block_error_rate: float | None = None,
    latency_weight: float = 1.0,
    value_range: float = UNIT_VARIANCE_RANGE,
    values_per_segment: int = 768,
) -> QuantizingPlan:
    """Bits, subchannels and powers of one frame, and how long each block will take. A pure function.

    The methods: `ia-qsmpa` (Theorem 1 of IA-QSMPA), `ia-qsmpa-lc` (Top-β bits and the powers of P3); `fixed`
    (equal bits and powers), `fixed-b-wf` (equal bits, capacity water-filling), `fixed-p-iaq` (the bits of IAQ,
    equal powers), `fixed-p-top-beta` (Top-β, equal powers); `uniform` (equal importance: equal bits, the powers of
    Theorem 1). With a block error rate the powers of the first two and of `uniform` are those of Theorem 2 and
    Section IV-C. `exact` minimises E_Q + latency_weight·T_d over bits and powers, see `semlink.access.exact`.
    The printed methods give powers for the blocks' mean gains (8), `exact` for each subchannel's own. Latencies
    are by equations 24 and 25, or 38, with each subchannel's own gain, whatever the method.

    Block i carries segment i of the payload. As in the paper, all segments have the same number of values and all
    blocks the same number of subchannels; beyond it, where these are no multiple of the blocks, the blocks of the
    weakest have one more (`map_subcarriers`), and the powers are those for what each block has.

    Args:
        importance: (N,) weights I[i] ≥ 0 of the segments; of attention scores, `importance_weights` (equation 43).
        gains: (F, N_s) singular values of each subchannel, as of `semlink.channel.ofdm.subchannel_gains`, above 0.
        snr_db: SNR, finite.
        method: a `PlanMethod` or its name.
        numerology: dimensions of the link; None is the paper's, with the F and N_s of `gains`. With fewer
            subchannels than segments, several OFDM symbols are taken as one, and the plan's numerology says so.
        rho: the budget: ΣB[i] = floor(8·N·ρ), from 1/8 (1 bit a value, the least of every method) to 1.
        mapping: a `SubcarrierMapping` or its name.
        generator: the source of randomness of the random mapping.
        block_error_rate: μ̃ of the finite block length, in (0, 1/2]; None for the ideal transmission.
        latency_weight: what a second costs in units of E_Q, ≥ 0; for `exact` alone. The paper adds seconds and
            squared error as they are: 1.
        value_range: u_max - u_min of the values, in whose squared unit E_Q is; the paper's have zero mean and
            unit variance.
        values_per_segment: D = P²C.

    Returns:
        The plan. Where a method gets no bit through in some block, its latency is infinite.

    Raises:
        ValueError: an argument is outside these ranges.

    >>> importance, gains = draw_importance(0), draw_gains(Numerology(), 0)
    >>> for method in ("fixed", "ia-qsmpa", "exact"):
    ...     made = plan(importance, gains, 20.0, method=method, rho=0.25)
    ...     print(made.bits.sum(), made.bits.max(), f"{1e3 * made.t_d:.3f} ms, E_Q = {made.weighted_error:.0f}")
    392 2 19.538 ms, E_Q = 3205
    392 5 1.127 ms, E_Q = 1597
    392 4 1.010 ms, E_Q = 1569
    """
    try:
        method = PlanMethod(method)
    except ValueError:
        raise ValueError(f"method must be one of {', '.join(PlanMethod)}, not {method!r}") from None
    if not MIN_BITS / 8 <= rho <= 1:
        raise ValueError(f"rho must be within [{MIN_BITS / 8}, 1], not {rho}")
    importance = checked_importance(importance)
    offered = offer(
        importance,
        gains,
        snr_db,
        numerology=numerology,
        mapping=mapping,
        generator=generator,
        block_error_rate=block_error_rate,
        values_per_segment=values_per_segment,
    )
    blocks = offered.blocks
    costs = error_costs(importance, value_range=value_range, values_per_segment=values_per_segment)
    steps = bit_budget(rho, importance.size)
    if method == PlanMethod.EXACT:
        printed = [_bits(other, importance, steps, blocks) for other in DISTINCT_BITS]
        best = exact(
            costs, steps, blocks, latency_weight, candidates=printed, min_bits=MIN_BITS, max_bits=MAX_BITS
        )
        bits, power = best.bits, best.power
    else:
        bits = _bits(method, importance, steps, blocks)
        power = powers(method, bits, blocks, finite_blocklength=block_error_rate is not None)
    return QuantizingPlan(
        method=str(method),
        numerology=offered.numerology,
        snr_db=float(snr_db),
        rho=float(rho),
        bits=bits,
        load=bits * values_per_segment,
        block_of_subchannel=offered.block_of_subchannel,
        power=power,
        latencies=blocks.latencies(bits, power),
        mean_gains=blocks.mean_gains,
        weighted_error=weighted_error(costs, bits),
        block_error_rate=block_error_rate,
    )


class Offered(NamedTuple):
    """What a channel offers to segments of some importance."""

    numerology: Numerology
    """With a subchannel for each segment: several OFDM symbols are taken as one where there are fewer."""
    block_of_subchannel: NDArray[np.int64]
    """(F, N_s) the segment that each subchannel carries."""
    blocks: Blocks
    """Of each segment."""


def offer(
    importance: NDArray[np.float64],
    gains: ArrayLike,
    snr_db: float,
    *,
    numerology: Numerology | None,
    mapping: SubcarrierMapping | str,
    generator: np.random.Generator | None,
    block_error_rate: float | None,
    values_per_segment: int,
) -> Offered:
    """Blocks of a channel's subchannels, mapped by importance; the arguments are those of `plan`.

    Raises:
        ValueError: an argument is outside its range.
    """
    gains = np.asarray(gains, dtype=np.float64)
    if numerology is None:
        if gains.ndim != 2:
            raise ValueError(f"gains must have shape (F, N_s), not {gains.shape}")
        numerology = Numerology(*gains.shape)
    elif gains.shape != (numerology.subcarriers, numerology.streams):
        expected = (numerology.subcarriers, numerology.streams)
        raise ValueError(f"gains must have the numerology's shape {expected}, not {gains.shape}")
    if not ((gains > 0) & np.isfinite(gains)).all():
        raise ValueError("gains must be finite and above 0")
    numerology = numerology.repeated(importance.size)
    gains = np.tile(gains, (numerology.subcarriers // len(gains), 1))
    block_of_subchannel = map_subcarriers(importance, gains, mapping, generator=generator)
    per_block = gains_of_blocks(gains, block_of_subchannel, importance.size)
    penalty = 0.0
    if block_error_rate is not None:
        # The block length of the blocks with the fewest subchannels, as in `Plan.block_length`.
        fewest = gains.size // importance.size
        penalty = dispersion_penalty(block_error_rate, fewest * numerology.coherence_symbols)
    blocks = Blocks(
        per_block,
        numerology.noise_power(snr_db),
        numerology.total_power,
        numerology.spacing_hz,
        values_per_segment,
        penalty,
    )
    return Offered(numerology, block_of_subchannel, blocks)


def unit_variance_range(values: ArrayLike) -> float:
    """u_max - u_min of values after division by their standard deviation; 1 where they are all the same.

    >>> unit_variance_range([0, 0, 1, 1])
    2.0
    """
    values = np.asarray(values)
    return float(np.ptp(values) / (values.std() or 1.0)) or 1.0


def draw_gains(numerology: Numerology, seed: int) -> NDArray[np.float64]:
    """(F, N_s) singular values of Rayleigh fading, drawn from a seed: for examples and measurements."""
    return subchannel_gains(draw_channel(numerology, np.random.default_rng(seed)))


def draw_importance(seed: int, *, segments: int = 196) -> NDArray[np.float64]:
    """(N,) ascending importance weights of Dirichlet scores, concentration 1/2: for examples and measurements."""
    # Another seed than the gains', so that the two are independent.
    scores = np.random.default_rng(seed + 100).dirichlet(np.full(segments, 0.5))
    return importance_weights(np.sort(scores))


def checked_importance(importance: ArrayLike) -> NDArray[np.float64]:
    """(N,) importance, if it is finite and 0 or more; else ValueError."""
    checked = finite_vector("importance", importance)
    if (checked < 0).any():
        raise ValueError("importance must be 0 or more")
    return checked


def _bits(method: PlanMethod, importance: NDArray[np.float64], steps: int, blocks: Blocks) -> NDArray[np.int64]:
    match method:
        case PlanMethod.IA_QSMPA | PlanMethod.FIXED_P_IAQ:
            # The descent cannot move after its first round.
            return ia_qsmpa_bits(importance, steps, blocks, rounds=1, min_bits=MIN_BITS, max_bits=MAX_BITS)
        case PlanMethod.IA_QSMPA_LC | PlanMethod.FIXED_P_TOP_BETA:
            return top_beta(importance, steps, min_bits=MIN_BITS, max_bits=MAX_BITS)
        case _:
            return fixed(importance.size, steps, max_bits=MAX_BITS)


def powers(
    method: PlanMethod, bits: NDArray[np.int64], blocks: Blocks, *, finite_blocklength: bool
) -> NDArray[np.float64]:
    """(N,) powers of a method for bits that are given: those of the least T_d for `exact`."""
    match method:
        case PlanMethod.FIXED | PlanMethod.FIXED_P_IAQ | PlanMethod.FIXED_P_TOP_BETA:
            return uniform_power(blocks)
        case PlanMethod.FIXED_B_WF:
            return capacity_water_filling(blocks)
        case PlanMethod.EXACT:
            return equal_finish(bits, blocks).power
        case _ if finite_blocklength:
            return theorem_2_power(bits, blocks).power
        case _:
            return equal_finish(bits, blocks.averaged()).power
