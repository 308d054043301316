"""Every method by its name: from importance scores and a channel to a transmission plan."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.access.baselines import capacity_water_filling, uniform_power
from semlink.access.equal_finish import equal_finish
from semlink.access.exact import exact
from semlink.access.mapping import Mapping, map_subcarriers
from semlink.access.theorem_1 import ia_qsmpa_bits, top_beta
from semlink.access.theorem_2 import theorem_2_power
from semlink.access.weighted_error import error_costs, weighted_error
from semlink.channel.blocks import Blocks, gains_of_blocks
from semlink.channel.ofdm import Numerology
from semlink.channel.plan import MAX_BITS, MIN_BITS, Plan, PlanError, bit_budget
from semlink.channel.rates import dispersion_penalty
from semlink.checks import finite_vector
from semlink.source.iaq.allocation.selection import fixed
from semlink.source.iaq.importance import importance_weights

UNIT_VARIANCE_RANGE = float(np.sqrt(12))
"""u_max - u_min of an image of unit variance whose values are spread evenly."""


TARGET_BLOCK_ERROR_RATE = 1e-3
"""μ̃ where none is given; the paper's text names no value."""


class PlanMethod(StrEnum):
    """Names of the methods of IA-QSMPA, Section V, and of the exact one."""

    IA_QSMPA = "ia-qsmpa"
    IA_QSMPA_LC = "ia-qsmpa-lc"
    FIXED = "fixed"
    FIXED_B_WF = "fixed-b-wf"
    FIXED_P_IAQ = "fixed-p-iaq"
    FIXED_P_TOP_BETA = "fixed-p-top-beta"
    UNIFORM = "uniform"
    EXACT = "exact"


BITS_OF_THEIR_OWN = (PlanMethod.IA_QSMPA, PlanMethod.IA_QSMPA_LC, PlanMethod.FIXED)
"""Every printed method has the bits of one of these."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PredictedPlan(Plan):
    """A plan with what it is expected to come to, by the method that made it.

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
    weighted_error: float
    """E_Q (equation 12)."""
    block_error_rate: float | None = None
    """Target block error rate of the finite block length; None for the ideal transmission."""

    def __post_init__(self) -> None:
        """Refuses a plan that breaks a rule."""
        super().__post_init__()
        if not np.isfinite(self.snr_db):
            raise ValueError(f"snr_db must be finite, not {self.snr_db}")
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
    def coherence_seconds(self) -> float:
        """How long the channel stays as it was: T OFDM symbols."""
        return self.numerology.coherence_symbols * self.numerology.symbol_seconds

    @property
    def exceeds_coherence(self) -> bool:
        """T_d is longer than the channel stays as it was."""
        return self.t_d > self.coherence_seconds


def plan(
    scores: ArrayLike,
    gains: ArrayLike,
    snr_db: float,
    *,
    method: PlanMethod | str = PlanMethod.IA_QSMPA,
    numerology: Numerology | None = None,
    rho: float = 0.25,
    mapping: Mapping | str = Mapping.IMPORTANCE,
    generator: np.random.Generator | None = None,
    block_error_rate: float | None = None,
    latency_weight: float = 1.0,
    value_range: float = UNIT_VARIANCE_RANGE,
    values_per_patch: int = 768,
) -> PredictedPlan:
    """Bits, subchannels and powers of one frame, and how long each block will take.

    The methods: `ia-qsmpa` (Theorem 1 of IA-QSMPA), `ia-qsmpa-lc` (Top-β bits and the powers of P3); `fixed`
    (equal bits and powers), `fixed-b-wf` (equal bits, capacity water-filling), `fixed-p-iaq` (the bits of IAQ,
    equal powers), `fixed-p-top-beta` (Top-β, equal powers); `uniform` (equal importance: equal bits, the powers of
    Theorem 1). With a block error rate the powers of the first two and of `uniform` are those of Theorem 2 and
    Section IV-C. `exact` minimises E_Q + latency_weight·T_d over bits and powers, see `semlink.access.exact`.
    The printed methods give powers for the blocks' mean gains (8), `exact` for each subchannel's own. Latencies
    are by equations 24 and 25, or 38, with each subchannel's own gain, whatever the method.

    Args:
        scores: (N,) importance a_i of each patch.
        gains: (F, N_s) singular values of each subchannel, as of `semlink.channel.ofdm.subchannel_gains`, above 0;
            N_s·F a multiple of N.
        snr_db: SNR, finite.
        method: a `PlanMethod` or its name.
        numerology: dimensions of the link; None is the paper's, with the F and N_s of `gains`.
        rho: compression ratio of the payload, from 1/8 (1 bit a patch, the least of every method) to 1.
        mapping: a `Mapping` or its name.
        generator: the source of randomness of the random mapping.
        block_error_rate: μ̃ of the finite block length, in (0, 1/2]; None for the ideal transmission.
        latency_weight: what a second costs in units of E_Q, ≥ 0; for `exact` alone. The paper adds seconds and
            squared error as they are: 1.
        value_range: u_max - u_min of the zero-mean unit-variance image, in whose squared unit E_Q is.
        values_per_patch: D = P²C.

    Returns:
        The plan. Where a method gets no bit through in some block, its latency is infinite.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    try:
        method = PlanMethod(method)
    except ValueError:
        raise ValueError(f"method must be one of {', '.join(PlanMethod)}, not {method!r}") from None
    scores = finite_vector("scores", scores)
    gains = np.asarray(gains, dtype=np.float64)
    if numerology is None:
        if gains.ndim != 2:
            raise ValueError(f"gains must have shape (F, N_s), not {gains.shape}")
        numerology = Numerology(*gains.shape)
    elif gains.shape != (numerology.subcarriers, numerology.streams):
        expected = (numerology.subcarriers, numerology.streams)
        raise ValueError(f"gains must have the numerology's shape {expected}, not {gains.shape}")
    if not MIN_BITS / 8 <= rho <= 1:
        raise ValueError(f"rho must be within [{MIN_BITS / 8}, 1], not {rho}")
    block_of_subchannel = map_subcarriers(scores, gains, mapping, generator=generator)
    per_block = gains_of_blocks(gains, block_of_subchannel, scores.size)
    penalty = 0.0
    if block_error_rate is not None:
        penalty = dispersion_penalty(block_error_rate, per_block.shape[1] * numerology.coherence_symbols)
    blocks = Blocks(
        per_block,
        numerology.noise_power(snr_db),
        numerology.total_power,
        numerology.spacing_hz,
        values_per_patch,
        penalty,
    )
    weights = importance_weights(scores)
    costs = error_costs(weights, value_range=value_range, values_per_patch=values_per_patch)
    steps = bit_budget(rho, scores.size)
    if method == PlanMethod.EXACT:
        printed = [_bits(other, scores, weights, steps, blocks) for other in BITS_OF_THEIR_OWN]
        best = exact(
            costs, steps, blocks, latency_weight, candidates=printed, min_bits=MIN_BITS, max_bits=MAX_BITS
        )
        bits, power = best.bits, best.power
    else:
        bits = _bits(method, scores, weights, steps, blocks)
        power = _power(method, bits, blocks, finite_blocklength=block_error_rate is not None)
    return PredictedPlan(
        method=str(method),
        numerology=numerology,
        snr_db=float(snr_db),
        rho=float(rho),
        bits=bits,
        block_of_subchannel=block_of_subchannel,
        power=power,
        latencies=blocks.latencies(bits, power),
        mean_gains=per_block.mean(axis=1),
        weighted_error=weighted_error(costs, bits),
        block_error_rate=block_error_rate,
        values_per_segment=values_per_patch,
    )


def _bits(
    method: PlanMethod,
    scores: NDArray[np.float64],
    weights: NDArray[np.float64],
    steps: int,
    blocks: Blocks,
) -> NDArray[np.int64]:
    match method:
        case PlanMethod.IA_QSMPA | PlanMethod.FIXED_P_IAQ:
            # The descent cannot move after its first round.
            return ia_qsmpa_bits(weights, steps, blocks, rounds=1, min_bits=MIN_BITS, max_bits=MAX_BITS)
        case PlanMethod.IA_QSMPA_LC | PlanMethod.FIXED_P_TOP_BETA:
            return top_beta(scores, steps, min_bits=MIN_BITS, max_bits=MAX_BITS)
        case _:
            return fixed(scores.size, steps, max_bits=MAX_BITS)


def _power(
    method: PlanMethod, bits: NDArray[np.int64], blocks: Blocks, *, finite_blocklength: bool
) -> NDArray[np.float64]:
    match method:
        case PlanMethod.FIXED | PlanMethod.FIXED_P_IAQ | PlanMethod.FIXED_P_TOP_BETA:
            return uniform_power(blocks)
        case PlanMethod.FIXED_B_WF:
            return capacity_water_filling(blocks)
        case _ if finite_blocklength:
            return theorem_2_power(bits, blocks).power
        case _:
            return equal_finish(bits, blocks.averaged()).power
