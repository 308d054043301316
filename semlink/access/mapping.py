"""Subcarrier mapping: which subchannels carry which segment of a payload. Importance-aware, and two to compare."""

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.checks import finite_vector


class SubcarrierMapping(StrEnum):
    """Subcarrier mappings of IA-QSMPA, Table I."""

    IMPORTANCE = "importance"
    RANDOM = "random"
    INVERSE = "inverse"


def map_subcarriers(
    importance: ArrayLike,
    gains: ArrayLike,
    mapping: SubcarrierMapping | str = SubcarrierMapping.IMPORTANCE,
    *,
    generator: np.random.Generator | None = None,
) -> NDArray[np.int64]:
    """The block that each subchannel belongs to, and with it the segment; every block gets N_s·F/N of them.

    IA-QSMPA, Section III-A, equations 8 and 9: the subchannels are sorted by gain and cut into N groups, and the
    groups go to the segments by ascending importance. The inverse mapping hands them out by descending
    importance; the random one deals out subchannels without regard to gain. Equal importance and equal gains keep
    their order.

    Beyond the paper, N_s·F need not be a multiple of N: the first groups, which are the weakest, have one
    subchannel more than the others. Under all methods but Top-β, T_d is then shorter than if the strongest had it.

    Args:
        importance: (N,) importance of each segment, in any scale: only its order matters.
        gains: (F, N_s) singular values λ of each subchannel, N_s·F at least N.
        mapping: a `SubcarrierMapping` or its name.
        generator: the source of randomness of the random mapping, which alone needs one.

    Returns:
        (F, N_s) int64, values 0 to N - 1.

    Raises:
        ValueError: no such mapping, no generator for the random one, or the numbers do not fit.

    >>> map_subcarriers([0.9, 0.1, 0.2], [[0.5, 3.0], [1.0, 0.1], [2.0, 0.7]])
    array([[1, 0],
           [2, 1],
           [0, 2]])
    """
    try:
        mapping = SubcarrierMapping(mapping)
    except ValueError:
        raise ValueError(f"mapping must be one of {', '.join(SubcarrierMapping)}, not {mapping!r}") from None
    importance = finite_vector("importance", importance)
    gains = np.asarray(gains, dtype=np.float64)
    if gains.ndim != 2 or gains.size < importance.size:
        raise ValueError(
            f"gains must have shape (F, N_s) with at least {importance.size} in number, not {gains.shape}"
        )
    if mapping == SubcarrierMapping.RANDOM:
        if generator is None:
            raise ValueError("generator must be given for the random mapping")
        subchannels = generator.permutation(gains.size)
    else:
        subchannels = np.argsort(gains, axis=None, kind="stable")
    segments = np.argsort(importance, kind="stable")
    if mapping == SubcarrierMapping.INVERSE:
        segments = segments[::-1]
    blocks = np.empty(gains.size, np.int64)
    least, left = divmod(gains.size, importance.size)
    blocks[subchannels] = np.repeat(segments, least + (np.arange(importance.size) < left))
    return blocks.reshape(gains.shape)
