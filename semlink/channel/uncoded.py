"""Uncoded transmission over MIMO-OFDM: a payload's QAM symbols as they arrive, equalised (IA-QSMPA, Section II).

Everything here happens on subcarriers: y_f = H_f·x_f + v_f, equation (5). A waveform with a cyclic prefix over a
channel of few taps comes to exactly that; the paper's H_f, independent from one subcarrier to the next, has an
impulse response as long as the OFDM symbol and fits no prefix, so for it equation (5) is the model itself.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.channel.layout import BlockLayout
from semlink.channel.ofdm import beamforming, effective_channel
from semlink.channel.qam import complex_normal
from semlink.checks import integer_within

_LEAST_AMPLITUDE = 1e-18
"""Least divisor of the equaliser: where nothing arrives, the noise decides."""


def send_over_subchannels(
    bits: NDArray[np.uint8],
    layout: BlockLayout,
    gains: NDArray[np.float64],
    powers: ArrayLike,
    noise_power: float,
    generator: np.random.Generator,
) -> NDArray[np.complex128]:
    """Symbols as they arrive when both ends know the channel: ỹ = λ·√p·x + ṽ on each subchannel, over λ·√p.

    IA-QSMPA, equations (6)-(7), with Gray-labelled QAM and no code, as in its Table I: `BlockLayout.demodulate`
    decides. `send_over_matrices` with a perfect estimate meets the same noise and gives the same bits, the long
    way round.

    Args:
        bits: (Σ layout.bits,) payload, uint8 values 0 and 1.
        layout: which block each subchannel carries.
        gains: (F, N_s) singular values λ of the channel.
        powers: (F, N_s) p ≥ 0 of each subchannel, or one number for all; P[i] of the blocks (equation 10) is
            `P[layout.block_of_subchannel]`. A subchannel without power is received as noise alone.
        noise_power: σ² of the complex noise, ≥ 0.
        generator: the source of all randomness: two normal draws for a QAM symbol, in the payload's order.

    Returns:
        (Q,) equalised, in the payload's order.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    amplitudes = _checked_gains(gains, layout) * sent_amplitudes(powers, layout)
    received = layout.modulate(bits)
    received *= amplitudes.take(layout.subchannels)
    return _equalised(received, layout, amplitudes, noise_power, generator)


def send_over_matrices(
    bits: NDArray[np.uint8],
    layout: BlockLayout,
    channels: Callable[[int], NDArray[np.complex128]],
    estimate: NDArray[np.complex128],
    powers: ArrayLike,
    noise_power: float,
    generator: np.random.Generator,
    *,
    interval: int,
) -> NDArray[np.complex128]:
    """Symbols as they arrive when both ends have only an estimate, or the channel changes and the beams do not.

    Precoder, combiner and equaliser are those of the estimate, so that W_R^H·H·W_T is no longer diagonal: all
    streams that are active at the same OFDM symbol disturb one another. The combiner is unitary and leaves the
    noise white. Memory does not grow with the number of intervals. The paper assumes a perfect estimate and a
    channel that stays.

    Args:
        bits: (Σ layout.bits,) payload, uint8 values 0 and 1.
        layout: which block each subchannel carries, in terms of the estimate's streams.
        channels: number of an interval, from 0 -> (F, N_r, N_t) H as it is then. Called once for each, in order.
        estimate: (F, N_r, N_t) H as both ends believe it to be all the time.
        powers: (F, N_s) p ≥ 0 of each subchannel, or one number for all.
        noise_power: σ² of the complex noise, ≥ 0.
        generator: the source of the noise: two normal draws for a QAM symbol, in the payload's order.
        interval: OFDM symbols between two changes, at least 1: the paper's T.

    Returns:
        (Q,) equalised, in the payload's order.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    interval = integer_within("interval", interval, 1, 2**31)
    beams = beamforming(estimate, layout.block_of_subchannel.shape[1])
    sent = sent_amplitudes(powers, layout)
    amplitudes = _checked_gains(beams.gains, layout) * sent
    values = layout.modulate(bits) * sent.take(layout.subchannels)
    received = np.empty_like(values)
    intervals = layout.times // interval
    order = np.argsort(intervals, kind="stable")
    ends = np.cumsum(np.bincount(intervals))
    for number, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
        here = order[begin:end]
        place = layout.times[here] - number * interval, layout.subchannels[here]
        grid = np.zeros((int(place[0].max()) + 1, sent.size), np.complex128)
        grid[place] = values[here]
        streams = grid.reshape(-1, *sent.shape).transpose(1, 2, 0)
        arrived = effective_channel(channels(number), beams) @ streams
        received[here] = arrived.transpose(2, 0, 1).reshape(grid.shape)[place]
    return _equalised(received, layout, amplitudes, noise_power, generator)


def sent_amplitudes(powers: ArrayLike, layout: BlockLayout) -> NDArray[np.float64]:
    """(F, N_s) √p of each subchannel, of powers as `send_over_subchannels` takes them."""
    powers = np.asarray(powers, dtype=np.float64)
    if powers.shape not in {(), layout.block_of_subchannel.shape}:
        raise ValueError(f"powers must have shape {layout.block_of_subchannel.shape} or (), not {powers.shape}")
    if not ((powers >= 0) & np.isfinite(powers)).all():
        raise ValueError("powers must be finite and at least 0")
    return np.asarray(np.sqrt(np.broadcast_to(powers, layout.block_of_subchannel.shape)), np.float64)


def _checked_gains(gains: NDArray[np.float64], layout: BlockLayout) -> NDArray[np.float64]:
    gains = np.asarray(gains, dtype=np.float64)
    if gains.shape != layout.block_of_subchannel.shape:
        raise ValueError(
            f"gains must have the layout's shape {layout.block_of_subchannel.shape}, not {gains.shape}"
        )
    if not ((gains >= 0) & np.isfinite(gains)).all():
        raise ValueError("gains must be finite and at least 0")
    return gains


def _equalised(
    received: NDArray[np.complex128],
    layout: BlockLayout,
    amplitudes: NDArray[np.float64],
    noise_power: float,
    generator: np.random.Generator,
) -> NDArray[np.complex128]:
    """What arrives for each QAM symbol, before the noise, which is added here; divided by λ·√p, in place."""
    if not 0 <= noise_power < math.inf:
        raise ValueError(f"noise_power must be finite and at least 0, not {noise_power}")
    received += complex_normal(received.size, generator) * math.sqrt(noise_power)
    received *= (1 / np.maximum(amplitudes, _LEAST_AMPLITUDE)).take(layout.subchannels)
    return received
