"""Uncoded transmission over MIMO-OFDM: which bits of a payload arrive (IA-QSMPA, Section II).

Everything here happens on subcarriers: y_f = H_f·x_f + v_f, equation (5). A waveform with a cyclic prefix over a
channel of few taps comes to exactly that, which `waveform` is there to show; the paper's H_f, independent from one
subcarrier to the next, has an impulse response as long as the OFDM symbol and fits no prefix, so for it equation
(5) is the model itself.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.ofdm.channel import beamforming
from semlink.ofdm.flat import complex_normal
from semlink.ofdm.layout import BlockLayout

_LARGEST_INVERSE = 1e18
"""What an equaliser multiplies by where nothing arrives: the noise then decides."""


def transmit(
    bits: NDArray[np.uint8],
    layout: BlockLayout,
    gains: NDArray[np.float64],
    powers: ArrayLike,
    noise_power: float,
    generator: np.random.Generator,
) -> NDArray[np.uint8]:
    """Bits as they arrive when both ends know the channel: ỹ = λ·√p·x + ṽ on each subchannel, by hard decision.

    IA-QSMPA, equations (6)-(7), with Gray-labelled QAM and no code, as in its Table I. `transmit_estimated` with a
    perfect estimate meets the same noise and gives the same bits, the long way round.

    Args:
        bits: (Σ layout.bits,) payload, uint8 values 0 and 1.
        layout: which subchannels carry which block.
        gains: (F, N_s) singular values λ of the channel.
        powers: p ≥ 0 of `layout.subchannels`, (G, n) or what broadcasts to it: (G, 1) for one power a block. A
            block without power is received as noise alone.
        noise_power: σ² of the complex noise, ≥ 0.
        generator: the source of all randomness: two normal draws for a QAM symbol, in the payload's order.

    Returns:
        (Σ layout.bits,) uint8 values 0 and 1.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    amplitudes = _amplitudes(layout, gains, powers)
    received = layout.modulate(bits)
    received *= amplitudes.flat[layout.slots]
    return _decide(received, layout, amplitudes, noise_power, generator)


def transmit_estimated(
    bits: NDArray[np.uint8],
    layout: BlockLayout,
    channel: NDArray[np.complex128],
    estimate: NDArray[np.complex128],
    powers: ArrayLike,
    noise_power: float,
    generator: np.random.Generator,
) -> NDArray[np.uint8]:
    """Bits as they arrive when both ends have only an estimate of the channel: streams then disturb each other.

    Precoder, combiner and equaliser are those of the estimate, so that W_R^H·H·W_T is no longer diagonal: all
    streams that are active at the same OFDM symbol pass through it. The combiner is unitary and leaves the noise
    white. The paper assumes a perfect estimate.

    Args:
        bits: (Σ layout.bits,) payload, uint8 values 0 and 1.
        layout: which subchannels carry which block.
        channel: (F, N_s, N_s) H as it is.
        estimate: (F, N_s, N_s) H as both ends believe it to be.
        powers: p ≥ 0 of `layout.subchannels`, (G, n) or what broadcasts to it.
        noise_power: σ² of the complex noise, ≥ 0.
        generator: the source of all randomness: two normal draws for a QAM symbol, in the payload's order.

    Returns:
        (Σ layout.bits,) uint8 values 0 and 1.

    Raises:
        ValueError: an argument is outside these ranges.
    """
    combiner, gains, precoder = beamforming(estimate)
    if np.shape(channel) != np.shape(estimate):
        raise ValueError(f"channel must have the estimate's shape {np.shape(estimate)}, not {np.shape(channel)}")
    amplitudes = _amplitudes(layout, gains, powers)
    effective = combiner.conj().swapaxes(1, 2) @ channel @ precoder
    sent = layout.modulate(bits) * sent_amplitudes(layout, powers).flat[layout.slots]
    grid = layout.grid(sent, gains.size).reshape(-1, *gains.shape)
    # (F, N_s, T) on each subcarrier, so that one matrix product serves all OFDM symbols.
    received = (effective @ grid.transpose(1, 2, 0)).transpose(2, 0, 1)
    return _decide(layout.read(received.reshape(len(grid), -1)), layout, amplitudes, noise_power, generator)


def sent_amplitudes(layout: BlockLayout, powers: ArrayLike) -> NDArray[np.float64]:
    """(G, n) √p of `layout.subchannels`."""
    powers = np.asarray(powers, dtype=np.float64)
    if not ((powers >= 0) & np.isfinite(powers)).all():
        raise ValueError("powers must be finite and at least 0")
    try:
        return np.sqrt(np.broadcast_to(powers, layout.subchannels.shape))
    except ValueError:
        shape = layout.subchannels.shape
        raise ValueError(f"powers must broadcast to shape {shape}, not have shape {powers.shape}") from None


def _amplitudes(layout: BlockLayout, gains: NDArray[np.float64], powers: ArrayLike) -> NDArray[np.float64]:
    """(G, n) λ·√p of `layout.subchannels`."""
    gains = np.asarray(gains, dtype=np.float64)
    if gains.ndim != 2 or gains.size <= layout.subchannels.max():
        raise ValueError(
            f"gains must have shape (F, N_s) with a gain for every subchannel of the layout, not {gains.shape}"
        )
    if not ((gains >= 0) & np.isfinite(gains)).all():
        raise ValueError("gains must be finite and at least 0")
    return gains.flat[layout.subchannels] * sent_amplitudes(layout, powers)


def _decide(
    received: NDArray[np.complex128],
    layout: BlockLayout,
    amplitudes: NDArray[np.float64],
    noise_power: float,
    generator: np.random.Generator,
) -> NDArray[np.uint8]:
    """Bits of (Q,) what arrives on the subchannels before noise, which is added here; equalised by λ·√p."""
    if not 0 <= noise_power < math.inf:
        raise ValueError(f"noise_power must be finite and at least 0, not {noise_power}")
    received += complex_normal(received.size, generator) * math.sqrt(noise_power)
    received *= (1 / np.maximum(amplitudes, 1 / _LARGEST_INVERSE)).flat[layout.slots]
    return layout.demodulate(received)
