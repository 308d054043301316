"""Belief propagation: layered sum-product decoding (Hocevar, SiPS 2004) of the LDPC codes of 5G NR, in float32.

A layer is a row of the base graph, whose Z checks share no bit. A check tells each of its bits
2·atanh(Π tanh(L/2)) of the other bits' log-likelihood ratios L. Decoding ends when all parity checks hold; where
they do, the block is taken as right.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semlink.access.ldpc import Entry, Ldpc

ITERATIONS = 30
"""At most; a dozen are enough where the rate is not too high."""
MOST_LLR = 30.0
"""Bound of log-likelihood ratios, which are clipped; beyond, tanh is 1 in float32 anyway."""
_NEARLY_ONE = np.float32(1 - 2**-22)
"""Largest product of tanh that is taken: a message of at most 2·atanh of it, about 16."""

F32 = NDArray[np.float32]


class Decoded(NamedTuple):
    """Blocks after decoding."""

    information: NDArray[np.uint8]
    """(B, k) values 0 and 1; where checks still fail, the last guess."""
    holds: NDArray[np.bool_]
    """(B,) whether all parity checks hold. Those that hold with a wrong guess are rare, and nobody knows them."""


def decode(code: Ldpc, received: NDArray[np.floating]) -> Decoded:
    """Information bits from log-likelihood ratios.

    >>> code = Ldpc(k=40, n=100)
    >>> sent = np.random.default_rng(0).integers(0, 2, (2, 40), np.uint8)
    >>> ratios = 4.0 * (1 - 2.0 * code.encode(sent))
    >>> ratios[0, ::5] = 0  # erased
    >>> decoded = decode(code, ratios)
    >>> (decoded.information == sent).all(), decoded.holds
    (np.True_, array([ True,  True]))

    Args:
        code: how they were encoded.
        received: (B, n) log P(0)/P(1) of the bits on the air; 0 where nothing is known.

    Raises:
        ValueError: these are no blocks of the code.
    """
    if received.ndim != 2 or received.shape[1] != code.n:
        raise ValueError(f"received must be (blocks, {code.n}), not {np.shape(received)}")
    count, z = len(received), code.lifting
    total = np.zeros((code.columns, z, count), np.float32)
    of_bit = total.reshape(code.columns * z, count)
    of_bit[code.sent] = np.clip(received.T, -MOST_LLR, MOST_LLR)
    of_bit[code.fillers] = MOST_LLR
    decoded = Decoded(np.empty((count, code.k), np.uint8), np.zeros(count, bool))
    messages = [np.zeros((len(row), z, count), np.float32) for row in code.rows]
    left = np.arange(count)
    for _ in range(ITERATIONS if count else 0):
        for row, old in zip(code.rows, messages, strict=True):
            _update(total, row, old)
        wrong = total < 0
        decoded.information[left] = wrong.reshape(-1, left.size)[: code.k].T
        going = _fails(wrong, code)
        decoded.holds[left[~going]] = True
        if not going.any():
            break
        if not going.all():
            left, total = left[going], total[..., going]
            messages = [message[..., going] for message in messages]
    return decoded


def _update(total: F32, row: tuple[Entry, ...], messages: F32) -> None:
    """One layer's checks: changes `total` and the layer's messages (entries, Z, B), both in place."""
    z = total.shape[1]
    extrinsic = np.empty_like(messages)
    for (column, shift), into in zip(row, extrinsic, strict=True):
        into[: z - shift], into[z - shift :] = total[column, shift:], total[column, :shift]
    extrinsic -= messages
    tanh = np.tanh(extrinsic * np.float32(0.5))
    # The product of all others: of those before times of those behind, which needs no division.
    messages[0] = 1
    for before, value, into in zip(messages, tanh, messages[1:], strict=False):
        np.multiply(before, value, out=into)
    behind = tanh[-1].copy()
    for into, value in zip(messages[-2::-1], tanh[-2::-1], strict=False):
        into *= behind
        behind *= value
    np.clip(messages, -_NEARLY_ONE, _NEARLY_ONE, out=messages)
    np.subtract(1, messages, out=tanh)
    messages += 1
    messages /= tanh
    np.log(messages, out=messages)  # 2·atanh(x) = ln((1 + x)/(1 - x))
    extrinsic += messages
    for (column, shift), value in zip(row, extrinsic, strict=True):
        total[column, shift:], total[column, :shift] = value[: z - shift], value[z - shift :]


def _fails(bits: NDArray[np.bool_], code: Ldpc) -> NDArray[np.bool_]:
    """(B,) whether a check fails, of (columns, Z, B) bits."""
    failed = np.zeros(bits.shape[2], bool)
    for row in code.rows:
        parity = np.zeros(bits.shape[1:], bool)
        for column, shift in row:
            parity[: code.lifting - shift] ^= bits[column, shift:]
            parity[code.lifting - shift :] ^= bits[column, :shift]
        failed |= parity.any(axis=0)
    return failed
