"""Which subchannel carries which patch: importance-aware mapping, and the two it is compared with."""

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.checks import finite_vector


class Mapping(StrEnum):
    """Subcarrier mappings of IA-QSMPA, Table I."""

    IMPORTANCE = "importance"
    RANDOM = "random"
    INVERSE = "inverse"


def map_subcarriers(
    scores: ArrayLike,
    gains: ArrayLike,
    mapping: Mapping | str = Mapping.IMPORTANCE,
    *,
    generator: np.random.Generator | None = None,
) -> NDArray[np.int64]:
    """The block, that is the patch, that each subchannel carries; every block gets N_s·F/N of them.

    IA-QSMPA, Section III-A, equations 8 and 9: the subchannels are sorted by gain and cut into N groups, and the
    groups go to the patches by ascending importance. The inverse mapping hands them out by descending
    importance; the random one deals out subchannels without regard to gain. Equal scores and equal gains keep
    their order.

    Args:
        scores: (N,) importance of each patch.
        gains: (F, N_s) singular values λ of each subchannel, N_s·F a multiple of N.
        mapping: a `Mapping` or its name.
        generator: the source of randomness of the random mapping, which alone needs one.

    Returns:
        (F, N_s) int64, values 0 to N - 1.

    Raises:
        ValueError: no such mapping, no generator for the random one, or the numbers do not fit.
    """
    try:
        mapping = Mapping(mapping)
    except ValueError:
        raise ValueError(f"mapping must be one of {', '.join(Mapping)}, not {mapping!r}") from None
    scores = finite_vector("scores", scores)
    gains = np.asarray(gains, dtype=np.float64)
    if gains.ndim != 2 or gains.size == 0 or gains.size % scores.size:
        raise ValueError(
            f"gains must have shape (F, N_s) with a multiple of {scores.size} in number, not {gains.shape}"
        )
    if mapping == Mapping.RANDOM:
        if generator is None:
            raise ValueError("generator must be given for the random mapping")
        subchannels = generator.permutation(gains.size)
    else:
        subchannels = np.argsort(gains, axis=None, kind="stable")
    patches = np.argsort(scores, kind="stable")
    if mapping == Mapping.INVERSE:
        patches = patches[::-1]
    blocks = np.empty(gains.size, np.int64)
    blocks[subchannels] = np.repeat(patches, gains.size // scores.size)
    return blocks.reshape(gains.shape)


def gains_of_blocks(gains: ArrayLike, block_of_subchannel: ArrayLike, count: int) -> NDArray[np.float64]:
    """(N, N_s·F/N) gains of the subchannels of each block; their mean is λ[i] of equation 8.

    Args:
        gains: (F, N_s) singular values.
        block_of_subchannel: (F, N_s) blocks, each the same number of times, as from `map_subcarriers`.
        count: number of blocks N.

    Raises:
        ValueError: the blocks do not share the subchannels evenly.
    """
    gains = np.asarray(gains, dtype=np.float64)
    blocks = np.asarray(block_of_subchannel)
    if blocks.shape != gains.shape:
        raise ValueError(f"block_of_subchannel must have the shape of gains {gains.shape}, not {blocks.shape}")
    check_even(blocks, count)
    return gains.ravel()[np.argsort(blocks, axis=None, kind="stable")].reshape(count, -1)


def check_even(block_of_subchannel: NDArray[np.int64], count: int) -> None:
    """ValueError unless every block 0 to count - 1 has the same number of subchannels (IA-QSMPA, Section II)."""
    blocks = np.asarray(block_of_subchannel).ravel()
    if not np.issubdtype(blocks.dtype, np.integer):
        raise ValueError("block_of_subchannel must be integers")
    if blocks.size == 0 or blocks.min() < 0 or blocks.max() >= count:
        raise ValueError(f"block_of_subchannel must be within [0, {count - 1}]")
    shares = np.bincount(blocks, minlength=count)
    if (shares != shares[0]).any():
        raise ValueError(
            f"block_of_subchannel must give every block {blocks.size / count:g} subchannels: "
            f"block {int(np.argmin(shares))} has {shares.min()}, block {int(np.argmax(shares))} has {shares.max()}"
        )
