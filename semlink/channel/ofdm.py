"""MIMO-OFDM: dimensions, random channel matrices, and the parallel subchannels that the SVD makes of them.

A subchannel is a pair (subcarrier f, stream r); there are N_s·F of them (IA-QSMPA, Section II).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semlink.checks import integer_within

LEAST_GAIN = 1e-12
"""Least gain of a subchannel, as a share of the largest: where H lacks rank, rounding leaves less, or 0."""


@dataclass(frozen=True)
class Numerology:
    """Dimensions of the link; the defaults are those of IA-QSMPA, Section V.

    Raises:
        ValueError: a dimension is out of range.
    """

    subcarriers: int = 784
    """F, 1..65536."""
    streams: int = 4
    """N_s, 1..64; the paper's is N_tx and N_rx too, and at most the smaller of these."""
    spacing_hz: float = 15e3
    """Subcarrier spacing Δf0, above 0."""
    total_power: float = 3136.0
    """P_tot of one OFDM symbol, summed over all N_s·F subchannels, above 0. It stays the same for every N_s, so
    that the mean power of a subchannel is 1 at N_s = 4."""
    coherence_symbols: int = 50
    """T: for so many OFDM symbols the channel stays as it is, at least 1."""

    def __post_init__(self) -> None:
        """Refuses dimensions out of range."""
        integer_within("subcarriers", self.subcarriers, 1, 2**16)
        integer_within("streams", self.streams, 1, 64)
        integer_within("coherence_symbols", self.coherence_symbols, 1, 2**31)
        for name in ("spacing_hz", "total_power"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and above 0, not {getattr(self, name)}")

    @property
    def subchannels(self) -> int:
        """N_s·F."""
        return self.subcarriers * self.streams

    def repeated(self, blocks: int) -> "Numerology":
        """These dimensions, of so many OFDM symbols in a row that every block has a subchannel in one of them.

        The paper has more subchannels than blocks, and then this is the same link. With fewer, ⌈blocks/N_s·F⌉ OFDM
        symbols are taken as one, that long and with that many times the subcarriers, each that much narrower: a
        block has its own ones of them. The power of a subchannel stays, and so does the coherence time, rounded
        down to whole symbols of this kind.

        >>> Numerology(subcarriers=64, streams=1, total_power=64.0).repeated(196).subchannels
        256
        """
        times = -(-blocks // self.subchannels)
        if times == 1:
            return self
        return Numerology(
            self.subcarriers * times,
            self.streams,
            self.spacing_hz / times,
            self.total_power * times,
            max(self.coherence_symbols // times, 1),
        )

    @property
    def symbol_seconds(self) -> float:
        """Duration of an OFDM symbol 1/Δf0, without a cyclic prefix: the paper counts none."""
        return 1 / self.spacing_hz

    @property
    def coherence_seconds(self) -> float:
        """For so long the channel stays as it is: T OFDM symbols."""
        return self.coherence_symbols * self.symbol_seconds

    def noise_power(self, snr_db: float) -> float:
        """σ² = 10^(-SNR/10), of each receive antenna on each subcarrier.

        SNR is the ratio of a mean subchannel power of 1 to σ², as at N_s = 4 with P_tot = 3136.
        """
        if not math.isfinite(snr_db):
            raise ValueError(f"snr_db must be finite, not {snr_db}")
        return float(10 ** (-snr_db / 10))


class Beamforming(NamedTuple):
    """W_R, λ and W_T of every subcarrier: W_R^H·H·W_T = diag(λ), by H = U·diag(λ)·V^H (IA-QSMPA, equation 6).

    The paper has as many streams as antennas on either side; here they may be fewer, the strongest ones.
    """

    combiner: NDArray[np.complex128]
    """(F, N_r, N_s) W_R, of orthonormal columns of U."""
    gains: NDArray[np.float64]
    """(F, N_s) singular values λ, descending on each subcarrier."""
    precoder: NDArray[np.complex128]
    """(F, N_t, N_s) W_T, of orthonormal columns of V."""


def draw_channel(numerology: Numerology, generator: np.random.Generator) -> NDArray[np.complex128]:
    """H of every subcarrier, Rayleigh fading: all entries CN(0, 1), independent of one another.

    IA-QSMPA, Section V. Neighbouring subcarriers have nothing in common, as if the delay spread filled a whole
    OFDM symbol.

    Returns:
        (F, N_s, N_s) complex128, receive antennas before transmit antennas.
    """
    shape = (numerology.subcarriers, numerology.streams, numerology.streams)
    channel = (generator.standard_normal(shape) + 1j * generator.standard_normal(shape)) / np.sqrt(2)
    return np.asarray(channel, np.complex128)


def subchannel_gains(channel: NDArray[np.complex128], streams: int | None = None) -> NDArray[np.float64]:
    """(F, N_s) singular values of (F, N_r, N_t) H, descending: `beamforming` without the beams, in less time.

    None is below `LEAST_GAIN` of the largest of them all.
    """
    channel = _checked(channel)
    values = np.linalg.svd(channel, compute_uv=False).astype(np.float64, copy=False)
    gains: NDArray[np.float64] = np.maximum(values[:, : _streams(channel, streams)], LEAST_GAIN * values.max())
    return gains


def beamforming(channel: NDArray[np.complex128], streams: int | None = None) -> Beamforming:
    """SVD precoding and combining of (F, N_r, N_t) H: N_s parallel subchannels on each subcarrier.

    IA-QSMPA, equation (6); Goldsmith, Wireless Communications, 2005, Section 10.2.

    Args:
        channel: (F, N_r, N_t) H.
        streams: N_s, at most the smaller of N_r and N_t; None: as many.
    """
    channel = _checked(channel)
    streams = _streams(channel, streams)
    # Of a square H all of U and V are wanted, and LAPACK finds them another way, which rounds otherwise.
    left, gains, right = np.linalg.svd(channel, full_matrices=channel.shape[1] == channel.shape[2])
    return Beamforming(left[..., :streams], gains[:, :streams], right.conj().swapaxes(-1, -2)[..., :streams])


def estimated_channel(
    channel: NDArray[np.complex128], error_variance: float, generator: np.random.Generator
) -> NDArray[np.complex128]:
    """What both ends believe H to be: H plus errors CN(0, σ_e²), independent of H and of one another.

    As a least-squares estimate from pilots has it, σ_e² being the noise-to-pilot ratio. The paper assumes
    perfect knowledge, σ_e² = 0.

    Args:
        channel: (F, N_r, N_t) H.
        error_variance: σ_e² per entry, ≥ 0.
        generator: the source of all randomness.

    Returns:
        (F, N_r, N_t) complex128.
    """
    channel = _checked(channel)
    if not 0 <= error_variance < math.inf:
        raise ValueError(f"error_variance must be finite and at least 0, not {error_variance}")
    error = generator.standard_normal(channel.shape) + 1j * generator.standard_normal(channel.shape)
    return np.asarray(channel + np.sqrt(error_variance / 2) * error, np.complex128)


def effective_channel(channel: NDArray[np.complex128], beams: Beamforming) -> NDArray[np.complex128]:
    """(F, N_s, N_s) W_R^H·H·W_T of H and an estimate's beams: diag(λ) if the estimate is perfect (equation 6)."""
    expected = (*beams.combiner.shape[:2], beams.precoder.shape[1])
    if np.shape(channel) != expected:
        raise ValueError(f"channel must have the shape of the beams {expected}, not {np.shape(channel)}")
    return beams.combiner.conj().swapaxes(1, 2) @ channel @ beams.precoder


def equivalent_gains(
    channel: NDArray[np.complex128], beams: Beamforming, powers: NDArray[np.float64], noise_power: float
) -> NDArray[np.float64]:
    """Gains without interference that give the same ratio of signal to interference and noise.

    With G = W_R^H·H·W_T, the SINR |G_rr|²p_r / (σ² + Σ_{s≠r} |G_rs|²p_s) is γ = p_r·g²/σ² of the returned g. All
    streams are taken as active, as they are until the first block is done: later there is less interference. The
    paper, which assumes perfect knowledge of a channel that stays, has none.

    Args:
        channel: (F, N_r, N_t) H as it is.
        beams: of the estimate.
        powers: (F, N_s) p of each subchannel, ≥ 0.
        noise_power: σ², above 0.

    Returns:
        (F, N_s), λ if the estimate is perfect; none below `LEAST_GAIN` of the beams' largest.
    """
    seen = np.abs(effective_channel(channel, beams)) ** 2
    own = np.einsum("frr->fr", seen)
    disturbance = np.maximum(np.einsum("frs,fs->fr", seen, powers) - own * powers, 0)
    gains = np.sqrt(own * noise_power / (noise_power + disturbance))
    return np.asarray(np.maximum(gains, LEAST_GAIN * beams.gains.max()), np.float64)


def _checked(channel: NDArray[np.complex128]) -> NDArray[np.complex128]:
    channel = np.asarray(channel, dtype=np.complex128)
    if channel.ndim != 3 or channel.size == 0:
        raise ValueError(f"channel must have shape (F, N_r, N_t), not {channel.shape}")
    if not np.isfinite(channel).all():
        raise ValueError("channel must be finite")
    return channel


def _streams(channel: NDArray[np.complex128], streams: int | None) -> int:
    most = min(channel.shape[1:])
    return most if streams is None else integer_within("streams", streams, 1, most)
