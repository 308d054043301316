"""IAQ frame, or JPEG, WebP or AVIF file, of one image over a channel: what arrives of it, and at what cost."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.evaluation.ldpc import Code, decode, encode, error_rate
from semlink.channel.base import Arrival, Carried, Channel, RawBits
from semlink.channel.fading import FadingState
from semlink.source.codec.rate_control import best_within
from semlink.source.iaq import coder as iaq

CODECS = {"jpeg": "JPEG", "webp": "WEBP", "avif": "AVIF"}
"""Codecs of Pillow, by the names they go by here."""
PROTECTED = {f"{codec}-ldpc": codec for codec in CODECS}
"""The same behind an LDPC code, by the names that they go by then."""


@dataclass(frozen=True, eq=False)
class Received:
    """What arrived of one image.

    Attributes:
        pixels: (H, W, 3) in [0, 255].
        bits: everything that went on the air.
        bits_per_patch: (N,) payload bits M_i·P²·C of each patch; None for codecs, whose bits belong to no patch.
        lost: nothing could be decoded; the pixels are plain grey.
        more: what else there is to tell of it, by names that all images of a cell share.
        payload_bits: bits of the payload, where they are not those of patches.
    """

    pixels: NDArray
    bits: int
    bits_per_patch: NDArray[np.int64] | None
    lost: bool
    more: Mapping[str, float] = field(default_factory=dict)
    payload_bits: int = 0


def send_frame(
    image: NDArray[np.uint8],
    scores: NDArray,
    channel: Channel,
    generator: np.random.Generator,
    state: FadingState | None = None,
    **allocation: Any,
) -> Received:
    """Sends an image as a frame, its payload exposed, its header protected, as in the papers.

    Segments that do not arrive leave mid-grey patches. `Received.more` is that of `shares_of`.

    Args:
        image: (224, 224, 3) 8-bit pixels.
        scores: (196,) importance.
        channel: one that takes no plans.
        generator: the channel's randomness.
        state: what the channel's `draw_state` gave.
        allocation: as of `semlink.source.iaq.coder.encode`.
    """
    frame = iaq.encode(image, scores, **allocation).frame
    arrival = channel.transmit(frame, None, state, generator)
    arrived = frame.with_payload(arrival.received(frame)).without(arrival.missing)
    return Received(
        iaq.decode(arrived),
        frame.header_bits + 8 * len(frame.payload),
        frame.segment_bits,
        lost=0 < arrival.missing.size == frame.segment_bits.size,
        more=shares_of(arrival, frame),
    )


def shares_of(arrival: Arrival, sent: Carried) -> dict[str, float]:
    """Shares of a payload: bits that arrive inverted (`bit_errors`), segments that do not (`lost_blocks`)."""
    return {
        "bit_errors": arrival.flips.size / max(sent.payload_bits, 1),
        "lost_blocks": arrival.missing.size / sent.segment_bits.size,
    }


def send_picture(
    image: NDArray[np.uint8],
    codec: str,
    budget: int,
    channel: Channel,
    generator: np.random.Generator,
    code: Code | None = None,
    state: FadingState | None = None,
) -> Received:
    """Sends an image as a picture file, at the best quality that its budget pays for, all of it exposed.

    The file's length is known at the other end. Damage that a code leaves is treated as that without one: what
    can be decoded of the file is.

    Args:
        image: (H, W, 3) 8-bit pixels.
        codec: jpeg, webp or avif.
        budget: bits that may go on the air.
        channel: one that takes no plans.
        generator: the channel's randomness.
        code: protects the file, filled up with zeros, over a channel with an `error_rate`; its bits are within the
            budget.
        state: what the channel's `draw_state` gave.

    Raises:
        ValueError: no such codec, a budget below the smallest file or the code's bits, or a code over a channel
            without a bit error rate, or whose errors are not independent.
    """
    if codec not in CODECS:
        raise ValueError(f"codec must be one of {', '.join(CODECS)}, not {codec!r}")
    if code is not None and code.bits > budget:
        raise ValueError(f"budget: {budget} bits are fewer than the code's {code.bits}")
    file = _best_file(image, CODECS[codec], budget // 8 if code is None else code.file_bytes)
    more: dict[str, float] = {}
    if code is None:
        sent = RawBits(file, values=image.size)
        arrival = channel.transmit(sent, None, state, generator)
        bits, arrived, more = 8 * len(file), arrival.received(sent), shares_of(arrival, sent)
    elif ber := error_rate(channel):
        bits, (arrived, more) = code.bits, _protected(file, code, channel, ber, state, generator)
    else:
        raise ValueError(f"code: it is for a channel with independent errors, not for {channel.name}")
    try:
        with Image.open(io.BytesIO(arrived), formats=(CODECS[codec],)) as picture:
            # A damaged header may claim any size.
            if max(picture.size) > max(image.shape):
                raise ValueError("larger than what was sent")
            pixels = np.asarray(picture.convert("RGB").resize(image.shape[1::-1], Image.Resampling.BICUBIC))
        return Received(pixels, bits, None, lost=False, more=more)
    except Exception:  # decoders raise nearly anything when fed damage
        return Received(np.full_like(image, 128), bits, None, lost=True, more=more)


def _protected(
    file: bytes,
    code: Code,
    channel: Channel,
    ber: float,
    state: FadingState | None,
    generator: np.random.Generator,
) -> tuple[bytes, dict[str, float]]:
    """What arrives of a file that is sent in code blocks, and `shares_of` what was on the air."""
    information = np.zeros(code.blocks * code.k, np.uint8)
    information[: 8 * len(file)] = np.unpackbits(np.frombuffer(file, np.uint8))
    coded = encode(information.reshape(code.blocks, code.k), code)
    sent = RawBits(np.packbits(coded).tobytes(), coded.size)
    arrival = channel.transmit(sent, None, state, generator)
    coded.reshape(-1)[arrival.flips] ^= 1
    decoded = decode(coded, code, ber).reshape(-1)
    return np.packbits(decoded[: 8 * len(file)]).tobytes(), shares_of(arrival, sent)


def _best_file(image: NDArray[np.uint8], codec: str, most_bytes: int) -> bytes:
    """The whole file, container included, of the highest quality within the budget."""
    return best_within(Image.fromarray(image), most_bytes, lambda picture, quality: _file(picture, codec, quality))


def _file(picture: Image.Image, codec: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, codec, quality=quality)
    return buffer.getvalue()
