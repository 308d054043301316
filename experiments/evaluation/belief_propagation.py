"""LDPC decoding: layered belief propagation (Hocevar, SiPS 2004) for the codes of 5G NR, in float32.

It stops when all parity checks hold, which sionna's decoder cannot. Measured for 10 iterations of 10 blocks of
k = 4800 and n = 8000 bits, on one thread: sionna's takes some 40 times as long with `cn_schedule="layered"`, and
some 5 times as long when it floods, which needs more iterations.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

ITERATIONS = 30
"""At most; a dozen are enough where the rate is not too high."""
MOST_LLR = 30.0
"""Bound of log-likelihood ratios, which are clipped; beyond, tanh is 1 in float32 anyway."""


class Decoder:
    """Decodes one code. A layer is a row of the base graph: its checks share no bit."""

    def __init__(self, encoder: Any) -> None:
        """Reads the code's parity checks.

        Args:
            encoder: sionna's LDPC5GEncoder.
        """
        self._k, z, filler = encoder.k, encoder.z, encoder.k_filler
        # Sent are the bits after the first 2z, without the fillers, which are known to be 0. Checks that would
        # only tell bits that are not sent are left out: each but the first four has one new bit.
        last = 2 * z + filler + encoder.n
        columns = max(math.ceil(last / z), encoder.k_ldpc // z + 4)
        sent = np.arange(2 * z, columns * z)
        known = (sent >= self._k) & (sent < encoder.k_ldpc)
        self._sent = torch.from_numpy(sent[~known][: encoder.n])
        self._fillers = slice(self._k, encoder.k_ldpc)
        self._bits = columns * z
        checks = columns * z - encoder.k_ldpc
        self._parity = encoder.pcm[:checks, : self._bits].tocsr().astype(np.int32)
        rows = [self._parity[start : start + z].tocoo() for start in range(0, checks, z)]
        self._layers = []
        for row in rows:
            order = np.lexsort((row.row, row.col // z))  # by column of the base graph, then by check
            self._layers.append(torch.from_numpy(row.col[order].astype(np.int64)))
        self._z = z

    def decode(self, received: Tensor) -> Tensor:
        """Information bits from log-likelihood ratios.

        Args:
            received: (B, n) log P(0)/P(1) of the bits sent.

        Returns:
            (B, k) bits, uint8; where checks still fail after `ITERATIONS`, the last guess.
        """
        total = torch.zeros(self._bits, len(received))
        total[self._sent] = received.T.clamp(-MOST_LLR, MOST_LLR)
        total[self._fillers] = MOST_LLR
        decided = torch.empty(len(received), self._k, dtype=torch.uint8)
        messages = [torch.zeros(len(layer), len(received)) for layer in self._layers]
        left = torch.arange(len(received))
        for _ in range(ITERATIONS):
            for number, layer in enumerate(self._layers):
                messages[number] = self._update(total, layer, messages[number])
            hard = (total < 0).to(torch.int8)
            decided[left] = hard[: self._k].T.to(torch.uint8)
            going = torch.from_numpy(((self._parity @ hard.numpy()) & 1).any(axis=0))
            if not going.any():
                break
            if not going.all():
                left, total = left[going], total[:, going]
                messages = [message[:, going] for message in messages]
        return decided

    def _update(self, total: Tensor, layer: Tensor, old: Tensor) -> Tensor:
        """Sum-product of one layer's checks; changes `total` and returns the layer's new messages."""
        extrinsic = total.index_select(0, layer) - old
        shape = (-1, self._z, extrinsic.shape[1])
        size = _phi(extrinsic.abs()).view(shape)
        sign = torch.where(extrinsic < 0, -1.0, 1.0).view(
            shape
        )  # never 0: a bit with no information still gets one
        new = (_phi(size.sum(0) - size) * sign.prod(0) * sign).view(extrinsic.shape)
        total.index_copy_(0, layer, extrinsic + new)
        return new


def _phi(x: Tensor) -> Tensor:
    """-ln tanh(x/2), its own inverse; kept finite."""
    return x.clamp(1e-6, MOST_LLR).mul_(0.5).tanh_().log_().neg_()
