"""OFDM in time: subcarriers to samples with a cyclic prefix, through a multipath channel, and back.

With a prefix at least as long as the channel's memory, convolution with the taps is circular over each OFDM
symbol, and every subcarrier sees its own matrix and nothing else: y_f = H_f·x_f (IA-QSMPA, equations 4-5;
Goldsmith, Wireless Communications, 2005, Section 12.4). `chain` starts from there. Subcarrier f is the frequency
f/F of the sampling rate; f = 0 is the carrier.
"""

import numpy as np
from numpy.typing import NDArray

from semlink.checks import integer_within


def ofdm_modulate(grid: NDArray[np.complex128], prefix: int) -> NDArray[np.complex128]:
    """Samples of OFDM symbols, each preceded by a copy of its end; the transform keeps the energy.

    Args:
        grid: (T, F, N) values of the subcarriers of T OFDM symbols on N antennas.
        prefix: samples of the cyclic prefix, 0..F.

    Returns:
        (T·(prefix + F), N) samples.
    """
    symbols = np.fft.ifft(grid, axis=1, norm="ortho")
    prefix = integer_within("prefix", prefix, 0, grid.shape[1])
    return np.concatenate([symbols[:, grid.shape[1] - prefix :], symbols], axis=1).reshape(-1, grid.shape[2])


def multipath(samples: NDArray[np.complex128], taps: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Σ_l h_l·x(n - l): samples through a MIMO channel of few taps that was silent before.

    Args:
        samples: (n, N_tx).
        taps: (L, N_rx, N_tx) impulse response h_l, one tap a sample.

    Returns:
        (n, N_rx), without what still echoes after the last sample.
    """
    received = np.zeros((len(samples), taps.shape[1]), np.complex128)
    for delay, tap in enumerate(taps[: len(samples)]):
        received[delay:] += samples[: len(samples) - delay] @ tap.T
    return received


def ofdm_demodulate(samples: NDArray[np.complex128], subcarriers: int, prefix: int) -> NDArray[np.complex128]:
    """(T, F, N) values of the subcarriers of (T·(prefix + F), N) samples: what `ofdm_modulate` made, undone."""
    length = integer_within("subcarriers", subcarriers, 1, 2**16) + integer_within(
        "prefix", prefix, 0, subcarriers
    )
    if len(samples) % length:
        raise ValueError(f"samples must be a multiple of {length} in number, not {len(samples)}")
    symbols = samples.reshape(-1, length, samples.shape[1])[:, prefix:]
    return np.fft.fft(symbols, axis=1, norm="ortho")


def frequency_response(taps: NDArray[np.complex128], subcarriers: int) -> NDArray[np.complex128]:
    """(F, N_rx, N_tx) H_f = Σ_l h_l·e^(-2πi·f·l/F) of (L, N_rx, N_tx) taps, L ≤ F."""
    if not 1 <= len(taps) <= subcarriers:
        raise ValueError(f"taps must be 1 to {subcarriers} in number, not {len(taps)}")
    return np.fft.fft(taps, n=subcarriers, axis=0)
