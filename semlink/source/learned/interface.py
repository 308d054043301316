"""Bit-importance interface: the flip probability ε of each bit position, by which source and access node agree.

Kong and Zhang, Section II-A: a picture of 32 × 32 is 64 tokens of 96 bits, and a binary symmetric channel with a
flip probability of its own stands for whatever carries a bit. The smaller its ε, the more a bit matters. NumPy
reads it, so that who carries bits needs no network.
"""

import hashlib
import io
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIDE = 32
"""Pixels a side of a tile, which is coded on its own."""
TOKENS, BITS = 64, 96
"""A tile's tokens, 8 × 8, and the bits of each."""
POSITIONS = TOKENS * BITS
"""M of the paper, 6144: a position is 96·token + bit."""
LEVELS = 16
LEVEL_BITS = POSITIONS // LEVELS
"""384: positions of one level of importance."""
ID_BYTES = 4
FILE = "interface.npy"
PRETRAINED = Path(__file__).resolve().with_name("pretrained")
"""Folders that come with the package, one a training, each with FILE; models/README.md describes them."""
MAX_FILE_BYTES = 1 << 16


@dataclass(frozen=True, eq=False)
class Interface:
    """Flip probabilities of the bit positions, and the identity that frames carry.

    Attributes:
        epsilon: (64, 96) float32 ε_n within (0, 0.5).
        id: first 4 bytes of the SHA-256 of the file.
    """

    epsilon: NDArray[np.float32]
    id: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> "Interface":
        """The interface of an .npy file.

        Raises:
            ValueError: it is no array of this shape, type and range.
        """
        try:
            epsilon = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{FILE} is no array of NumPy: {error}") from None
        if epsilon.shape != (TOKENS, BITS) or epsilon.dtype != np.float32:
            raise ValueError(f"an interface is ({TOKENS}, {BITS}) float32, not {epsilon.shape} {epsilon.dtype}")
        if not ((epsilon > 0) & (epsilon < 0.5)).all():
            raise ValueError("flip probabilities must be within (0, 0.5)")
        return cls(epsilon, hashlib.sha256(data).digest()[:ID_BYTES])

    @cached_property
    def importance(self) -> NDArray[np.float64]:
        """(64, 96) 1 - 2ε, by which the importance-aware net weighs bits (Section II-C): 1 never flips."""
        return 1 - 2 * self.epsilon.astype(np.float64)

    def levels(self) -> NDArray[np.int64]:
        """(16, 384) positions of each level, the most important level first, positions ascending within it.

        The positions are sorted by ε, of equal ones the lower position first, and cut into 16.
        """
        order = np.argsort(self.epsilon.ravel(), kind="stable")
        return np.sort(order.reshape(LEVELS, LEVEL_BITS), axis=1)

    def level_importance(self) -> NDArray[np.float64]:
        """(16,) mean of 1 - 2ε over the positions of each level, descending."""
        mean: NDArray[np.float64] = self.importance.ravel()[self.levels()].mean(axis=1)
        return mean


def load_interface(folder: Path) -> Interface:
    """Reads interface.npy of a folder.

    Raises:
        OSError: there is none.
        ValueError: it is no interface.
    """
    with (folder / FILE).open("rb") as file:
        return Interface.from_bytes(file.read(MAX_FILE_BYTES))


def know_interface(interface: Interface) -> None:
    """Makes the interface of a training of one's own known to this process, beside those of the package."""
    _packaged()[interface.id] = interface


def known_interface(identity: bytes) -> Interface | None:
    """The interface of this identity, if the package or this process has it."""
    return _packaged().get(identity)


@cache
def _packaged() -> dict[bytes, Interface]:
    """By identity; `know_interface` adds to it."""
    found = (load_interface(file.parent) for file in sorted(PRETRAINED.glob(f"*/{FILE}")))
    return {interface.id: interface for interface in found}


def to_bytes(epsilon: NDArray[np.float32]) -> bytes:
    """The .npy file of flip probabilities, format version 1.0: the same bytes everywhere.

    >>> epsilon = np.full((TOKENS, BITS), 0.25, np.float32)
    >>> Interface.from_bytes(to_bytes(epsilon)).level_importance()[0]
    np.float64(0.5)
    """
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(epsilon, "<f4"), version=(1, 0))
    return file.getvalue()
