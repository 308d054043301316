"""Measured channel: matrices H or an SNR trace that were recorded elsewhere, and that frames meet in turn.

`semlink.channel.recording_files` reads them from files.
"""

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.checks import finite_vector, integer_within

SPACING_HZ = 15e3
"""Subcarrier spacing where a recording names none."""
SUBCARRIERS = 784
"""Subcarriers of the grid on which taps are turned into H, where a recording names none."""
MAX_SUBCARRIERS = 2**16
MAX_MATRIX_ENTRIES = 2**18
"""Entries of H over all subcarriers, of 8 bytes each: they still fit the message to a device."""
RANK_TOLERANCE = 1e-6
"""A stream whose singular value is below this share of the subcarrier's largest carries nothing."""
RANK_FRAMES = 8
"""Frames, spread over the recording, from which its rank is found."""


@dataclass(frozen=True, eq=False)
class ChannelMatrices:
    """H of every subcarrier during successive frames, scaled so that the mean of |h|² over all of it is 1.

    So the SNR of a channel is that of the mean measured entry, and what differs between frames, subcarriers and
    antennas is the measurement's. The measured level itself is `mean_power_db`.

    Raises:
        ValueError: these are no matrices of a channel; the message says why.
    """

    matrices: NDArray[np.complexfloating]
    """(frames, F, N_r, N_t) complex, receive antennas before transmit antennas; of one frame without the first."""
    spacing_hz: float = SPACING_HZ
    """Subcarrier spacing, above 0."""
    mean_power_db: float = field(init=False)
    """10·log10 of the mean of |h|² as it was measured."""

    def __post_init__(self) -> None:
        """Refuses what is no channel, and scales it."""
        given = np.asarray(self.matrices)
        if given.dtype.kind != "c":
            raise ValueError(f"H must be complex, such as complex64, not {given.dtype}")
        if given.ndim == 3:
            given = given[None]
        if given.ndim != 4 or given.size == 0:
            raise ValueError(
                "H must have shape (frames, subcarriers, receive, transmit), or one frame's without the first, "
                f"not {np.shape(self.matrices)}"
            )
        _, subcarriers, receive, transmit = given.shape
        check_dimensions(subcarriers, receive, transmit)
        if not 0 < self.spacing_hz < np.inf:
            raise ValueError(f"spacing_hz must be finite and above 0, not {self.spacing_hz}")
        with np.errstate(over="ignore"):
            for number, frame in enumerate(given):
                if not np.isfinite(frame.astype(np.complex128)).all():
                    raise ValueError(f"H must be finite: frame {number} has NaN or infinite entries")
        matrices: NDArray[Any] = np.empty(
            given.shape, np.complex64 if given.dtype.itemsize <= 8 else np.complex128
        )
        # By the largest part of an entry first: its square need not be a number.
        peak = max(float(np.abs([frame.real, frame.imag]).max()) for frame in given)
        if peak == 0:
            raise ValueError("H must not be zero everywhere")
        mean = 0.0
        for scaled, frame in zip(matrices, given, strict=True):
            scaled[...] = frame.astype(np.complex128) / peak
            mean += float((np.abs(frame.astype(np.complex128) / peak) ** 2).mean()) / len(given)
        matrices /= np.sqrt(mean)
        for number, scaled in enumerate(matrices):
            if not scaled.astype(np.complex64).any():  # in which it travels
                raise ValueError(f"H must not be zero everywhere: frame {number} is, beside others; leave it out")
        object.__setattr__(self, "matrices", matrices)
        object.__setattr__(self, "mean_power_db", float(20 * np.log10(peak) + 10 * np.log10(mean)))

    @property
    def frames(self) -> int:
        """How many frames were recorded."""
        return len(self.matrices)

    @property
    def subcarriers(self) -> int:
        """F."""
        return int(self.matrices.shape[1])

    @property
    def antennas(self) -> tuple[int, int]:
        """N_r, N_t."""
        return self.matrices.shape[2], self.matrices.shape[3]

    @cached_property
    def rank(self) -> int:
        """Most streams that carry anything: the largest median rank of H over the subcarriers of a frame."""
        chosen = np.unique(np.linspace(0, self.frames - 1, min(RANK_FRAMES, self.frames)).astype(int))
        return max(
            int(np.median(np.count_nonzero(gains > RANK_TOLERANCE * gains[:, :1], axis=1)))
            for gains in (np.linalg.svd(self.at(int(frame)), compute_uv=False) for frame in chosen)
        )

    @cached_property
    def digest(self) -> str:
        """Stands for the content."""
        return sha256(np.ascontiguousarray(self.matrices).data).hexdigest()

    def at(self, frame: int) -> NDArray[np.complex128]:
        """(F, N_r, N_t) H of a frame, counted from 0; after the last comes the first again."""
        return np.asarray(self.matrices[frame % self.frames], np.complex128)


@dataclass(frozen=True, eq=False)
class SnrTrace:
    """SNR of successive frames: each value holds from its frame on until the next one's.

    >>> trace = SnrTrace([20.0, 5.0], [0, 3])
    >>> print(*(trace.at(frame) for frame in range(6)))
    20.0 20.0 20.0 5.0 20.0 20.0

    Raises:
        ValueError: these are no SNRs of frames; the message says why.
    """

    snr_db: NDArray[np.float64]
    """(n,) SNR in dB, within [-50, 100]."""
    since: NDArray[np.int64] | None = None
    """(n,) frame from which each holds, ascending from 0; None: one a frame."""

    def __post_init__(self) -> None:
        """Refuses what is no trace."""
        snr_db = finite_vector("snr_db", self.snr_db)
        if snr_db.min() < -50 or snr_db.max() > 100:
            raise ValueError(f"snr_db must be within [-50, 100], not {snr_db.min():g} to {snr_db.max():g}")
        since = np.arange(snr_db.size) if self.since is None else np.asarray(self.since)
        if since.shape != snr_db.shape or since.dtype.kind not in "iu":
            raise ValueError("frames must be integers, one for each SNR")
        if since[0] != 0 or (np.diff(since) <= 0).any():
            raise ValueError("frames must begin with 0 and ascend")
        object.__setattr__(self, "snr_db", snr_db)
        object.__setattr__(self, "since", since.astype(np.int64))

    @property
    def frames(self) -> int:
        """How many frames it covers: the last SNR holds for one."""
        assert self.since is not None
        return int(self.since[-1]) + 1

    @cached_property
    def digest(self) -> str:
        """Stands for the content."""
        return sha256(self.snr_db.tobytes() + np.asarray(self.since).tobytes()).hexdigest()

    def at(self, frame: int) -> float:
        """SNR in dB of a frame, counted from 0; after the last comes the first again."""
        assert self.since is not None
        return float(self.snr_db[np.searchsorted(self.since, frame % self.frames, side="right") - 1])


Recording = ChannelMatrices | SnrTrace


def check_dimensions(subcarriers: int, receive: int, transmit: int) -> None:
    """ValueError unless H of one frame is of a size that a link can have."""
    integer_within("subcarriers", subcarriers, 1, MAX_SUBCARRIERS)
    if subcarriers * receive * transmit > MAX_MATRIX_ENTRIES:
        raise ValueError(
            f"H of a frame must have at most {MAX_MATRIX_ENTRIES} entries, not {subcarriers} subcarriers × "
            f"{receive} × {transmit} antennas: take fewer subcarriers or antennas"
        )


def frequency_response(
    taps: NDArray[np.complexfloating],
    delays: ArrayLike,
    *,
    subcarriers: int = SUBCARRIERS,
    spacing_hz: float = SPACING_HZ,
) -> NDArray[np.complex128]:
    """H[f] = Σ_l taps[l]·exp(-2πj·f·Δf·τ_l): a channel of taps on the OFDM grid (Goldsmith, 2005, Section 12.4).

    Args:
        taps: (frames, taps, N_r, N_t) complex, or one frame's without the first.
        delays: (taps,) τ_l in seconds, within [0, 1/Δf): a later echo falls into the next OFDM symbol.
        subcarriers: F.
        spacing_hz: Δf.

    Returns:
        (frames, F, N_r, N_t); subcarrier f is f·Δf above the first.

    Raises:
        ValueError: an argument is outside these ranges.

    >>> np.abs(frequency_response(np.array([[[1.0]], [[1j]]]), [0, 1 / 60e3], subcarriers=4)).ravel().round(3)
    array([1.414, 2.   , 1.414, 0.   ])
    """
    taps = np.asarray(taps)
    if taps.ndim == 3:
        taps = taps[None]
    if taps.ndim != 4 or taps.size == 0 or taps.dtype.kind != "c":
        raise ValueError(
            "taps must be complex of shape (frames, taps, receive, transmit), or one frame's without the first, "
            f"not {taps.dtype} of {taps.shape}"
        )
    check_dimensions(subcarriers, *taps.shape[2:])
    if not 0 < spacing_hz < np.inf:
        raise ValueError(f"spacing_hz must be finite and above 0, not {spacing_hz}")
    delays = finite_vector("delays", delays)
    if delays.size != taps.shape[1]:
        raise ValueError(f"delays must be {taps.shape[1]} numbers, one for each tap, not {delays.size}")
    if delays.min() < 0 or delays.max() >= 1 / spacing_hz:
        raise ValueError(
            f"delays must be within [0, {1 / spacing_hz:g}) s, the time of an OFDM symbol at {spacing_hz:g} Hz, "
            f"not {delays.min():g} to {delays.max():g}"
        )
    phases = np.exp(-2j * np.pi * spacing_hz * np.arange(subcarriers)[:, None] * delays)
    return np.asarray(np.einsum("fl,nlrt->nfrt", phases, taps, optimize=True), np.complex128)
