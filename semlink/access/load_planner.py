"""Plan of a frame as it is: how many bits each segment has is given, and power serves these loads.

Any source coder's frame has one: pictures of codecs, tokens, learned bits, IAQ frames that are encoded already.
Importance orders the mapping, and at a finite block length the error rates too.
"""

from dataclasses import replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.access.mapping import SubcarrierMapping
from semlink.access.planner import PlanMethod, PredictedPlan, checked_importance, offer, powers
from semlink.channel.ofdm import Numerology
from semlink.channel.rates import dispersion_penalty

LOAD_METHODS = (PlanMethod.EXACT, PlanMethod.IA_QSMPA, PlanMethod.FIXED, PlanMethod.FIXED_B_WF)
"""Methods whose powers differ; what sets the others apart is how they choose bits."""


def plan_loads(
    segment_bits: ArrayLike,
    importance: ArrayLike,
    gains: ArrayLike,
    snr_db: float,
    *,
    method: PlanMethod | str = PlanMethod.EXACT,
    numerology: Numerology | None = None,
    mapping: SubcarrierMapping | str = SubcarrierMapping.IMPORTANCE,
    generator: np.random.Generator | None = None,
    block_error_rate: float | None = None,
) -> PredictedPlan:
    """Subchannels and powers for the segments of a frame that have bits, and how long each will take.

    `exact`: the powers of the least T_d, under which all blocks finish at once, by each subchannel's own gain;
    `ia-qsmpa`: the same by the blocks' mean gains (Theorem 1), or the powers of Theorem 2 with a block error rate;
    `fixed`: equal powers; `fixed-b-wf`: capacity water-filling.

    Important segments get the better subchannels. Where all finish at once, what these are better in is spent on
    speed, and the received SNRs are about level; under equal powers the important segments have the higher ones.
    With a block error rate, each block has its own, see `error_rates`.

    Args:
        segment_bits: (M,) bits of each segment, integers ≥ 0, not all 0.
        importance: (M,) how much each matters, ≥ 0, in any scale: only the order counts.
        gains: (F, N_s) singular values of each subchannel, above 0.
        snr_db: SNR, finite.
        method: one of `LOAD_METHODS` or its name.
        numerology: dimensions of the link; None is the paper's, with the F and N_s of `gains`.
        mapping: a `SubcarrierMapping` or its name.
        generator: the source of randomness of the random mapping.
        block_error_rate: μ̃ of the finite block length, in (0, 1/2], which the least important segment has; None
            for the ideal transmission.

    Returns:
        The plan, of one block for each segment that has bits. Where a method gets no bit through in some block,
        its latency is infinite.

    Raises:
        ValueError: an argument is outside these ranges.

    >>> gains = np.array([[0.5], [1.0], [2.0], [1.5]])
    >>> made = plan_loads([300, 0, 100], [3, 2, 1], gains, 10.0)
    >>> made.load, made.block_of_subchannel.ravel(), (1e3 * made.latencies).round(2)
    (array([300, 100]), array([1, 1, 0, 0]), array([0.64, 0.64]))
    """
    if method not in LOAD_METHODS:
        raise ValueError(
            f"method must be one of {', '.join(LOAD_METHODS)} for bits that are given, not {method!r}"
        )
    method, bits, importance = PlanMethod(method), np.asarray(segment_bits), checked_importance(importance)
    if bits.shape != importance.shape or bits.dtype.kind not in "iu" or not bits.any() or bits.min() < 0:
        raise ValueError(f"segment_bits must be {importance.size} integers, 0 or more, not all 0")
    loaded = bits > 0
    load, importance = bits[loaded].astype(np.int64), importance[loaded]
    offered = offer(
        importance,
        gains,
        snr_db,
        numerology=numerology,
        mapping=mapping,
        generator=generator,
        block_error_rate=block_error_rate,
        values_per_segment=1,
    )
    blocks, rates = offered.blocks, None
    if block_error_rate is not None:
        rates = error_rates(importance, block_error_rate)
        length = offered.numerology.subchannels // load.size * offered.numerology.coherence_symbols
        blocks = replace(blocks, penalty=dispersion_penalty(rates, length))
    power = powers(method, load, blocks, finite_blocklength=block_error_rate is not None)
    return PredictedPlan(
        method=str(method),
        numerology=offered.numerology,
        snr_db=float(snr_db),
        load=load,
        block_of_subchannel=offered.block_of_subchannel,
        power=power,
        error_rates=rates,
        latencies=blocks.latencies(load, power),
        mean_gains=blocks.mean_gains,
        block_error_rate=block_error_rate,
    )


def error_rates(importance: NDArray[np.float64], highest: float) -> NDArray[np.float64]:
    """(N,) block error rates, the lower the more important a segment is: what unequal protection costs least.

    By the order of importance alone: a segment weighs w[i], one more than there are less important ones. Of a
    codec's frame, which ends where a block is lost, that is how many segments are lost with this one. A lower
    error rate Q(x) costs rate in proportion to x (equation 27). Where the last bit of rate that each block gives
    up saves equally much, w[i]·φ(x[i]) is the same for all, φ being the normal density, so that
    x[i]² = Q⁻¹(highest)² + 2·ln w[i].

    Args:
        importance: (N,) how much each segment matters.
        highest: error rate of the least important one, in (0, 1/2].

    >>> error_rates(np.array([3.0, 2.0, 1.0, 1.0]), 0.01).round(5)
    array([0.00211, 0.0029 , 0.01   , 0.01   ])
    """
    less = np.searchsorted(np.sort(importance), importance)
    normal = NormalDist()
    start = normal.inv_cdf(highest) ** 2
    # Where nothing is less important, the rate is what was asked for, to the last digit.
    rates = [normal.cdf(-np.sqrt(start + 2 * np.log1p(below))) if below else highest for below in less]
    return np.minimum(rates, highest)
