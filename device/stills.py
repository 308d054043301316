"""Stills on wish: the picture of a view, coded anew at the side and within the bytes that somebody names."""

import time
from dataclasses import replace
from typing import Any

from device.capture import Encoded
from semlink.source.codec.coder import encode_look
from semlink.source.registry import source_coder


def still(view: Encoded, codec: str, side: int, most_bytes: int) -> Encoded:
    """A frame of the codec coder for a view; always the same bytes.

    Args:
        view: with its pixels.
        codec: avif, webp or jpeg.
        side: longer side in pixels.
        most_bytes: of the frame, header included.

    Raises:
        ValueError: side or bytes are out of the coder's bounds, or the view has no pixels.
    """
    if view.original is None:
        raise ValueError("the view's pixels were not stored")
    settings: dict[str, Any] = {"codec": codec, "side": side, "budget_bytes": most_bytes}
    source_coder("codec").check_settings(settings)
    started = time.perf_counter()
    data = encode_look(view.pixels, **settings).frame.to_bytes()
    encode_ms = 1e3 * (time.perf_counter() - started)
    return replace(view, data=data, attention_ms=0.0, encode_ms=encode_ms, following=())
