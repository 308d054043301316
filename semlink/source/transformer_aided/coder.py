"""Transformer-aided selection, end to end: tokens of the most attended patches into a frame, a frame into pixels.

The device's vision transformer has made the tokens already (encoder and projector of Mortaheb et al., arXiv
2405.01521, Sections II-A and II-B). Here they are selected, quantized and packed, which is the paper's compressor
(Section II-C), and painted again by its decoder. Tokens mean something to the decoder alone that was trained on
them: a frame names it, and another one refuses the frame.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from semlink.frame import FrameError
from semlink.parameters import Notation, Option
from semlink.source.iaq.frame import Geometry
from semlink.source.registry import CodedImage, Seen
from semlink.source.transformer_aided.frame import TokenFrame
from semlink.source.transformer_aided.quantizer import MAX_BITS, MIN_BITS, Scales, dequantize, quantize
from semlink.source.transformer_aided.selection import select

if TYPE_CHECKING:  # torch takes seconds to load
    from semlink.vision.token_decoder import TokenDecoder

FOLDER = "token-decoder"
"""Folder of the decoder's files, in a folder of weights."""
GEOMETRY = Geometry(14, 14, 16, 3)
TOKEN_VALUES = 192
"""Values of a token, D, which are those of DeiT-Tiny, for who plans without the models."""
"""Pictures that decoders paint: 224 × 224 pixels, of 14 × 14 tokens."""
NOT_SENT = 127.5
"""Grey of patches whose tokens did not arrive."""


@dataclass(frozen=True, eq=False)
class _Models:
    scales: Scales
    decoder: "TokenDecoder"


_loaded: list[_Models] = []
"""The models of this process: one, or none yet."""


def load(weights: Path | None = None) -> None:
    """Reads the scales and the decoder into this process, instead of those that were read before.

    Args:
        weights: a folder whose folder token-decoder is looked into first, before the package's own models.

    Raises:
        WeightsError: they are missing, damaged, or do not belong together; the message says what to do.
    """
    from semlink.vision.token_decoder import SCALES_NAME, TOKEN_DECODER, load_decoder
    from semlink.vision.weights import WeightsError

    named = None if weights is None else weights / FOLDER
    folder = named if named is not None and named.is_dir() else TOKEN_DECODER
    decoder = load_decoder(folder)
    try:
        scales = Scales.read(folder / SCALES_NAME)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{error}: copy it anew from where the decoder was trained") from error
    _loaded[:] = [_Models(scales, decoder)]


def model_files() -> tuple[Path, ...]:
    """Decoder and scales of the package."""
    from semlink.vision.token_decoder import SCALES_NAME, TOKEN_DECODER, WEIGHTS_NAME

    return TOKEN_DECODER / WEIGHTS_NAME, TOKEN_DECODER / SCALES_NAME


def encode(
    image: NDArray[np.uint8],
    seen: Seen,
    *,
    ratio: Annotated[
        float,
        Interval(ge=0, le=1),
        Option("rate r: share of the patches whose tokens are sent"),
        Notation("r", "", "k = ⌊r N⌋", "Mortaheb et al., Section III; k: tokens that are sent, of N = 196"),
    ] = 0.5,
    alpha: Annotated[
        float,
        Interval(ge=0, le=1),
        Option("share of them that goes by attention; the rest is drawn at random"),
        Notation("α", "", "k_λ = ⌊α k⌋", "Mortaheb et al., Section III; k_λ: tokens above the threshold λ"),
    ] = 0.85,
    token_bits: Annotated[
        int,
        Interval(ge=MIN_BITS, le=MAX_BITS),
        Option("bits of each value of a token"),
        Notation("b", "bit", "B = b D k", "B: bits of the payload; D: values of a token, 192 of DeiT-Tiny"),
    ] = 3,
    selection_seed: Annotated[
        int, Interval(ge=0, le=2**63 - 1), Option("seed of the patches drawn at random", is_seed=True)
    ] = 0,
) -> CodedImage[TokenFrame]:
    """Selects tokens by attention and quantizes them.

    Args:
        image: (224, 224, 3) 8-bit pixels, which the tokens were made of; only their shape is looked at.
        seen: tokens (196, D) and attention (196,) of `semlink.vision.vit.tokens_and_attention`.
        ratio: rate r, within [0, 1].
        alpha: share α of the budget, within [0, 1]; see `semlink.source.transformer_aided.selection`.
        token_bits: b, 2..8.
        selection_seed: of the patches that are drawn at random.

    Returns:
        The frame, whose segments are the patches; their importance is the attention of those that are sent, and 0
        of the others. Its ρ counts the bits of tokens: at r = 1 it is D·b/(8·P·P·C), not 1.

    Raises:
        ValueError: an argument is outside these ranges.
        WeightsError: `load` was not called.
    """
    if image.shape != GEOMETRY.shape or image.dtype != np.uint8:
        raise ValueError(f"image must be 8-bit, of shape {GEOMETRY.shape}, not {image.dtype} of {image.shape}")
    scales = _models().scales
    shape = GEOMETRY.patches, scales.dimension
    if seen.tokens.shape != shape or seen.attention.shape != shape[:1]:
        raise ValueError(
            f"tokens and attention must have shapes {shape} and {shape[:1]}, "
            f"not {seen.tokens.shape} and {seen.attention.shape}"
        )
    sent = select(seen.attention, ratio, alpha, np.random.default_rng(selection_seed))
    codes = quantize(seen.tokens[sent], scales, token_bits)
    frame = TokenFrame.from_codes(codes, sent, geometry=GEOMETRY, bits=token_bits, decoder=scales.id)
    return CodedImage(frame, np.where(sent, seen.attention, 0).astype(np.float64))


def decode(frame: TokenFrame) -> NDArray[np.float64]:
    """(224, 224, 3) pixels of a frame within 0..255, unrounded; grey where no token arrived.

    Raises:
        FrameError: it is for another decoder.
        WeightsError: `load` was not called.
    """
    models = _models()
    if frame.decoder != models.scales.id:
        raise FrameError(
            "decoder", f"the tokens are for decoder {frame.decoder.hex()}; here is {models.scales.id.hex()}"
        )
    if frame.geometry != GEOMETRY or frame.dimension != models.scales.dimension:
        raise FrameError(
            "decoder",
            f"decoder {frame.decoder.hex()} paints {GEOMETRY.rows} × {GEOMETRY.columns} tokens of "
            f"{models.scales.dimension} values, not {frame.geometry.rows} × {frame.geometry.columns} of "
            f"{frame.dimension}, {frame.shape} pixels",
        )
    from semlink.vision.token_decoder import decoded_pixels

    tokens = np.zeros((GEOMETRY.patches, frame.dimension), np.float32)
    tokens[frame.sent] = dequantize(frame.codes, models.scales, frame.bits)
    pixels = decoded_pixels(models.decoder, tokens[None], frame.sent[None])[0]
    return np.where(_painted(frame.sent), pixels, NOT_SENT).astype(np.float64)


def _models() -> _Models:
    if _loaded:
        return _loaded[0]
    from semlink.vision.weights import WeightsError

    raise WeightsError("no decoder of tokens is loaded: call semlink.source.transformer_aided.load first")


def _painted(sent: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W, 1) the pixels of the patches in the mask, M ⊗ B of equation (2)."""
    side = GEOMETRY.patch_size
    return sent.reshape(GEOMETRY.rows, GEOMETRY.columns).repeat(side, axis=0).repeat(side, axis=1)[..., None]
