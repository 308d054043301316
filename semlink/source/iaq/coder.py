"""Importance-aware quantization, end to end: pixels and attention into a frame, a frame into pixels."""

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from annotated_types import Interval
from numpy.typing import ArrayLike, NDArray

from semlink.parameters import Notation, Only, Option
from semlink.source.iaq.allocation.methods import allocate, allocation_method, allocation_methods
from semlink.source.iaq.distortion import MAX_CONVEX_BIT_ERROR_RATE
from semlink.source.iaq.frame import Geometry, IaqFrame, header_bits
from semlink.source.iaq.quantizer import dequantize, quantize
from semlink.source.patches import to_image, to_patches
from semlink.source.registry import CodedImage

PATCH_SIZE = 16
MAX_BITS = 8
HEADER_BITS = header_bits(Geometry(14, 14, PATCH_SIZE, 3), MAX_BITS)
"""Bits of the header of a 224 × 224 colour image's frame."""

if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[*allocation_methods()]

WEIGHING = tuple(name for name, method in allocation_methods().items() if method.weighs)
"""Allocation methods that use γ and the bit error rate they are told."""
THRESHOLDED = tuple(name for name, method in allocation_methods().items() if method.has_threshold)
"""Allocation methods whose bits follow from a threshold."""


def encode(
    image: NDArray[np.uint8],
    scores: ArrayLike,
    *,
    method: Annotated[
        MethodName,
        Option("how bits are allocated to the patches"),
        Notation(
            "M_i",
            "",
            "min_M ∑_i w_i D(2^(M_i); μ), B_add + P^2 C ∑_i M_i ≤ B",
            "of incremental and, for real M_i, water-filling: IAQ, equations (9), (10) and Section IV-C",
        ),
    ] = "incremental",
    rho: Annotated[
        float,
        Interval(ge=0, le=1),
        Only("total_bits", (None,)),
        Option("compression ratio of the payload to the 8-bit image"),
        Notation("ρ", "", "ρ = (P^2 C ∑_i M_i)/(8 H W C)", "IAQ, Section V"),
    ] = 0.25,
    total_bits: Annotated[
        int | None,
        Interval(ge=HEADER_BITS),
        Option("budget for header and payload together, instead of --rho"),
        Notation(
            "B", "bit", "B_add + P^2 C ∑_i M_i ≤ B", "IAQ, equation (10); B_add counts every bit of the header"
        ),
    ] = None,
    gamma: Annotated[
        float,
        Interval(gt=0),
        Only("method", WEIGHING),
        Option("how strongly attention steers the bits: shape of the weight (31)"),
        Notation("γ", "", "w_i = (1 - d) ((a_i - a_min)/(a_max - a_min))^γ + d", "IAQ, equation (31), d = 10⁻⁷"),
    ] = 1.0,
    design_ber: Annotated[
        float,
        Interval(ge=0, le=MAX_CONVEX_BIT_ERROR_RATE),
        Only("method", WEIGHING),
        Option("bit error rate that the allocation assumes"),
        Notation(
            "μ",
            "",
            "D(Q; μ) = (D_0 Q^(log_2((1 - μ)/4)))/(1 - μ) (4/3 μ Q^2 + 4 μ Q + 1 - 16/3 μ)\n"
            "Q = 2^(M_i), D_0 = (P^2 C (u_max - u_min)^2)/4",
            "IAQ, equations (8) and (21)",
        ),
    ] = 0.0,
    threshold: Annotated[
        float | None,
        Only("method", THRESHOLDED),
        Option("of attention, for the methods that go by one: attention-threshold, -sum-threshold"),
        Notation(
            "δ",
            "",
            'M_i = M_max "where" a_i > δ',
            "attention-threshold (IAQ, Section V, AT); attention-sum-threshold: from the highest a_i on, until "
            "their sum exceeds δ (AST)",
        ),
    ] = None,
) -> CodedImage[IaqFrame]:
    """Quantizes an image by the importance of its patches (IAQ, Section III, and IV-C for `design_ber` > 0).

    Args:
        image: (H, W, C) 8-bit pixels, C 1 or 3, sides multiples of 16.
        scores: (N,) importance of each patch, in raster order.
        method: how the bits are allocated, see `semlink.source.iaq.allocation.methods`.
        rho: compression ratio ρ of the payload to the 8-bit image, in [0, 1].
        total_bits: B_target of equation (10), for header and payload together; then `rho` is not looked at.
        gamma: shape of the weight function (31), > 0.
        design_ber: bit error rate μ that the allocation assumes, in [0, 3/13].
        threshold: of the methods that have one.

    Returns:
        The frame, whose segments are the patches, and the scores as their importance.

    Raises:
        ValueError: an argument is outside these ranges, or `total_bits` does not pay for the header.
        FrameError: the image has a shape that no frame carries.

    >>> coded = encode(np.arange(512, dtype=np.uint8).reshape(16, 32, 1), [0.9, 0.1], rho=1 / 4)
    >>> coded.frame.bits, coded.frame.payload_bits, coded.frame.rho
    (array([4, 0], dtype=uint8), 1024, 0.25)
    """
    if image.dtype != np.uint8:
        raise ValueError(f"image must be 8-bit, not {image.dtype}")
    if not 0 <= rho <= 1:
        raise ValueError(f"rho must be within [0, 1], not {rho}")
    patches = to_patches(image, PATCH_SIZE)
    if np.shape(scores) != (len(patches),):
        raise ValueError(f"scores must be one per patch: {len(patches)}, not {np.size(scores)}")
    height, width, channels = image.shape
    geometry = Geometry(height // PATCH_SIZE, width // PATCH_SIZE, PATCH_SIZE, channels)
    bits = allocate(
        method,
        scores,
        _steps(geometry, rho, total_bits),
        gamma=gamma,
        bit_error_rate=design_ber,
        threshold=threshold,
        max_bits=MAX_BITS,
    )
    return CodedImage(_frame(image, patches, bits, geometry), np.asarray(scores, np.float64))


def check_settings(*, method: str = "incremental", threshold: float | None = None, **_: object) -> None:
    """ValueError unless a threshold is given just where the method has one."""
    allocation_method(method).check_threshold(threshold)


def encode_with(image: NDArray[np.uint8], bits: NDArray[np.int64]) -> IaqFrame:
    """The frame of an image whose bits are chosen already, as by a transmission plan.

    Args:
        image: (H, W, C) 8-bit pixels, C 1 or 3, sides multiples of 16.
        bits: (N,) bits M_i of each patch, 0..8, in raster order.

    Raises:
        ValueError: an argument is outside these ranges.
        FrameError: the image has a shape that no frame carries.
    """
    if image.dtype != np.uint8:
        raise ValueError(f"image must be 8-bit, not {image.dtype}")
    patches = to_patches(image, PATCH_SIZE)
    if np.shape(bits) != (len(patches),):
        raise ValueError(f"bits must be one per patch: {len(patches)}, not {np.size(bits)}")
    height, width, channels = image.shape
    return _frame(image, patches, bits, Geometry(height // PATCH_SIZE, width // PATCH_SIZE, PATCH_SIZE, channels))


def _frame(
    image: NDArray[np.uint8], patches: NDArray[np.uint8], bits: NDArray[np.int64], geometry: Geometry
) -> IaqFrame:
    low, high = int(image.min()), int(image.max())
    return IaqFrame.from_codes(
        quantize(patches, bits, low, high),
        bits,
        geometry=geometry,
        low=low,
        high=high,
        max_bits=MAX_BITS,
    )


def _steps(geometry: Geometry, rho: float, total_bits: int | None) -> int:
    """What the budget pays for: the sum of all M_i, each of which costs P·P·C bits."""
    most = MAX_BITS * geometry.patches
    if total_bits is None:
        # The lift is for ratios of whole steps: 1568·(8/1568) is a little below 8, and must not lose a step.
        return int(most * rho + 1e-6)
    header = header_bits(geometry, MAX_BITS)
    if total_bits < header:
        raise ValueError(f"total_bits must pay for the header: at least {header}, not {total_bits}")
    return min(most, (total_bits - header) // geometry.values_per_patch)


def decode(frame: IaqFrame) -> NDArray[np.float64]:
    """(H, W, C) pixels of a frame within [u_min, u_max], unrounded: centres of cells (IAQ, Section III-A).

    >>> frame = encode(np.full((16, 16, 1), 7, np.uint8), [1.0]).frame
    >>> decode(frame)[0, 0]
    array([7.])
    """
    geometry = frame.geometry
    patches = dequantize(frame.codes, frame.bits, frame.low, frame.high)
    return to_image(patches, geometry.rows, geometry.columns, geometry.patch_size)
