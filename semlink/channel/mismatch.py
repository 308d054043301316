"""A channel that is not the one a plan was made for: estimated with errors, or redrawn while the frame is sent.

The beams stay those of the estimate, so that streams disturb one another. The paper has neither: it assumes
perfect knowledge, and a frame that is sent within the coherence time.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.channel.ofdm import Beamforming

MAX_INTERVALS = 64
"""So many coherence times are followed one by one; what comes later goes on at their mean rate."""


def effective_channel(channel: NDArray[np.complex128], beams: Beamforming) -> NDArray[np.complex128]:
    """(F, N_s, N_s) W_R^H·H·W_T of H and an estimate's beams: diag(λ) if the estimate is perfect (equation 6)."""
    return beams.combiner.conj().swapaxes(1, 2) @ channel @ beams.precoder


def equivalent_gains(
    channel: NDArray[np.complex128], beams: Beamforming, powers: NDArray[np.float64], noise_power: float
) -> NDArray[np.float64]:
    """Gains without interference that give the same ratio of signal to interference and noise.

    With G = W_R^H·H·W_T, the SINR |G_rr|²p_r / (σ² + Σ_{s≠r} |G_rs|²p_s) is γ = p_r·g²/σ² of the returned g. All
    streams are taken as active, as they are until the first block is done: later there is less interference.

    Args:
        channel: (F, N_s, N_s) H as it is.
        beams: of the estimate.
        powers: (F, N_s) p of each subchannel, ≥ 0.
        noise_power: σ², above 0.

    Returns:
        (F, N_s), λ if the estimate is perfect.
    """
    seen = np.abs(effective_channel(channel, beams)) ** 2
    own = np.einsum("frr->fr", seen)
    disturbance = np.maximum(np.einsum("frs,fs->fr", seen, powers) - own * powers, 0)
    return np.sqrt(own * noise_power / (noise_power + disturbance))


def latencies_over_intervals(
    load: ArrayLike, rates: Callable[[int], NDArray[np.float64]], interval: float
) -> NDArray[np.float64]:
    """Seconds that each block takes when its rate changes every coherence time.

    Args:
        load: (N,) bits of each block, ≥ 0.
        rates: number of the coherence time, from 0 -> (N,) bit/s, ≥ 0. Called for one after the other, at most
            `MAX_INTERVALS` of them; the blocks that are not done then go on at the mean of these rates, without
            the first, which alone has the channel that the plan was made for.
        interval: the coherence time in seconds, above 0.

    Returns:
        (N,), 0 for a block without bits, infinite for one that gets nothing through.
    """
    remaining = np.array(load, dtype=np.float64)
    seconds = np.zeros(remaining.shape)
    later = np.zeros(remaining.shape)
    for number in range(MAX_INTERVALS):
        open_ = remaining > 0
        if not open_.any():
            return seconds
        rate = rates(number)
        later += rate if number else 0
        done = open_ & (remaining <= rate * interval)
        seconds[done] += remaining[done] / rate[done]
        seconds[open_ & ~done] += interval
        remaining = np.where(done, 0, remaining - rate * interval * open_)
    with np.errstate(divide="ignore"):
        return np.where(remaining > 0, seconds + remaining / (later / (MAX_INTERVALS - 1)), seconds)
