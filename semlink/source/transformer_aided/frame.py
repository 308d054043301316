"""Frame of profile 1: quantized tokens of the patches that were selected, and the mask that says which.

The profile's own header fields:

    grid rows 1, columns 1 | patch size 1, channels 1 | token dimension D 2 | bits b 1
    | decoder 4, first bytes of the SHA-256 of its scale file | mask ceil(N/8)

PAYLOAD: for each patch of the mask in raster order, for each of the D values of its token, b bits. A segment is a
patch of the grid; one that was not sent has no bits.

Fields are of fixed length, so that one flipped payload bit damages one value of one token. The mask is the M of
Mortaheb et al. (arXiv 2405.01521, Section III), who do not count it; the true ratio of a frame does.
"""

import struct
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.frame import Frame, FrameError, check_values
from semlink.source.iaq.frame import Geometry, check_geometry
from semlink.source.iaq.packing import pack, unpack
from semlink.source.transformer_aided.quantizer import ID_BYTES, MAX_BITS, MAX_DIMENSION, MIN_BITS

_FIXED = struct.Struct(f">BBBBHB{ID_BYTES}s")


@dataclass(frozen=True, eq=False)
class TokenFrame(Frame):
    """One image as the tokens of some of its patches.

    Attributes:
        geometry: grid, patch size and channels (1 or 3), each 1..255, at most `MAX_VALUES` values in all.
        dimension: D, values of a token, 1..4096, at most `MAX_VALUES` in all tokens of the grid.
        bits: b, bits of a value, 2..8.
        decoder: (4 bytes) the decoder that the tokens are for, see `semlink.source.transformer_aided.quantizer`.
        sent: (N,) bool, the mask of patches whose tokens are in the payload, in raster order.
        payload: the packed codes; the padding bits at its end carry nothing.
    """

    profile: ClassVar[int] = 1
    rules: ClassVar[tuple[str, ...]] = ("geometry", "token_dimension", "token_bits", "mask", "decoder")

    geometry: Geometry
    dimension: int
    bits: int
    decoder: bytes
    sent: NDArray[np.bool_]
    payload: bytes

    def __post_init__(self) -> None:
        """Raise FrameError unless every rule holds."""
        check_geometry(self.geometry)
        if not 1 <= self.dimension <= MAX_DIMENSION:
            raise FrameError("token_dimension", f"a token has 1 to {MAX_DIMENSION} values, not {self.dimension}")
        check_values(self.geometry.patches * self.dimension)
        if not MIN_BITS <= self.bits <= MAX_BITS:
            raise FrameError("token_bits", f"a token's value has {MIN_BITS} to {MAX_BITS} bits, not {self.bits}")
        if len(self.decoder) != ID_BYTES:
            raise FrameError("decoder", f"a decoder is named by {ID_BYTES} bytes, not {len(self.decoder)}")
        if self.sent.shape != (self.geometry.patches,) or self.sent.dtype != bool:
            raise FrameError("mask", f"the mask must be ({self.geometry.patches},) bool, not {self.sent.shape}")
        self._check_payload()

    @classmethod
    def from_codes(
        cls, codes: NDArray[np.uint8], sent: NDArray[np.bool_], *, geometry: Geometry, bits: int, decoder: bytes
    ) -> Self:
        """Packs the codes of the tokens that are sent.

        Args:
            codes: (n, D) codes of the n patches of the mask, in raster order, each below 2^b.
            sent: (N,) mask of n patches.
            geometry: shape of the image.
            bits: b, 2..8.
            decoder: the 4 bytes that name the decoder.

        Raises:
            FrameError: a rule of the format is broken.
            ValueError: `codes` has the wrong shape or type, or a code does not fit its bits.
        """
        if codes.ndim != 2 or len(codes) != np.count_nonzero(sent) or codes.dtype != np.uint8:
            raise ValueError(
                f"codes must be uint8, a row each patch that is sent, not {codes.dtype} {codes.shape}"
            )
        if (codes >> bits).any():
            raise ValueError(f"codes must be below 2^{bits}")
        payload = pack(codes, np.full(len(codes), bits, np.uint8))
        return cls(geometry, codes.shape[1], bits, decoder, sent, payload)

    @cached_property
    def codes(self) -> NDArray[np.uint8]:
        """(n, D) codes of the tokens that were sent, in raster order."""
        widths = np.full(np.count_nonzero(self.sent), self.bits, np.uint8)
        return unpack(self.payload, widths, self.dimension)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the image."""
        return self.geometry.shape

    @property
    def segment_bits(self) -> NDArray[np.int64]:
        """(N,) bits D·b of each patch that was sent, in raster order; 0 of the others."""
        return np.where(self.sent, self.dimension * self.bits, 0)

    @cached_property
    def payload_bits(self) -> int:
        """Bits n·D·b that carry tokens, without the padding; found without an array of `segment_bits`."""
        return int(np.count_nonzero(self.sent)) * self.dimension * self.bits

    @property
    def importance(self) -> NDArray[np.float64]:
        """(N,) 1 where a token was sent and 0 elsewhere: the attention that chose it is not in the frame."""
        return self.sent.astype(np.float64)

    def with_payload(self, payload: bytes) -> Self:
        """The frame with another payload of the same length."""
        return replace(self, payload=payload)

    def without(self, segments: ArrayLike) -> Self:
        """The frame as if some patches had not been selected: neither mask nor payload has them."""
        kept = self._kept(segments)
        return self if kept.all() else replace(self, sent=self.sent & kept, payload=self._payload_of(kept))

    @property
    def fields(self) -> bytes:
        """Geometry, dimension, bits, decoder and mask."""
        geometry = self.geometry
        return (
            _FIXED.pack(
                geometry.rows, geometry.columns, geometry.patch_size, geometry.channels,
                self.dimension, self.bits, self.decoder,
            )
            + np.packbits(self.sent).tobytes()
        )  # fmt: skip

    @classmethod
    def fields_bytes(cls, header: memoryview) -> int:
        """Length of the fields, which follows from the grid."""
        if len(header) < _FIXED.size:
            raise FrameError("truncated", f"{len(header)} bytes are too few for the fields of a frame header")
        return _FIXED.size + -(-header[0] * header[1] // 8)

    @classmethod
    def from_fields(cls, fields: bytes, payload: bytes) -> Self:
        """The frame of these header fields."""
        rows, columns, patch_size, channels, dimension, bits, decoder = _FIXED.unpack_from(fields)
        mask = np.unpackbits(np.frombuffer(fields, np.uint8, offset=_FIXED.size)).astype(bool)
        if mask[rows * columns :].any():
            raise FrameError("mask", "the padding of the mask must be zero")
        geometry = Geometry(rows, columns, patch_size, channels)
        return cls(geometry, dimension, bits, decoder, mask[: rows * columns], payload)
