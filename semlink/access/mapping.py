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
