"""Capture: an encoded view under the ids that it keeps, however often it is sent; and as a row of a table."""

import json
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from semlink.frame import Frame
from semlink.source.registry import decode, read_frame
from semlink.v1 import link_pb2 as pb
from semlink.vision.images import IMAGE_SIZE

COLUMNS = (
    "number", "object_id", "device_id", "expected_views", "request_id", "taken_at", "details", "frame",
    "attention", "pixels",
)  # fmt: skip
"""Names of what `to_row` gives; `details` is JSON, the last three are bytes, none where there is no attention. The
frames of several layers stand one behind the other; the details then have their lengths."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """A view, ready to send.

    Attributes:
        data: the frame's bytes, as they go on the air.
        attention: (N,) attention on each patch; None where the source coder takes none.
        original: 8-bit values of the view's pixels; None where a spool did not store them.
        attention_ms: time in the vision transformer, normalisation included.
        encode_ms: time in the source coder and for packing.
        following: frames of the layers behind it, which are sent unasked.
        on_wish: codec of the picture that is made of the original if the server wishes for one; empty: none is.
    """

    data: bytes
    attention: NDArray[np.float32] | None
    original: NDArray[np.uint8] | None
    attention_ms: float
    encode_ms: float
    following: tuple[bytes, ...] = ()
    on_wish: str = ""

    @property
    def layers(self) -> list[Self]:
        """The view's frames in the order in which they go out unasked, this one first."""
        later = [
            replace(self, data=data, attention_ms=0.0, encode_ms=0.0, following=self.following[number:])
            for number, data in enumerate(self.following, 1)
        ]
        return [self, *later]

    @property
    def more(self) -> "pb.ClassifyRequest.More":
        """What may follow this frame."""
        if self.following:
            return pb.ClassifyRequest.FOLLOWS
        return pb.ClassifyRequest.ON_WISH if self.on_wish else pb.ClassifyRequest.NOTHING

    @cached_property
    def frame(self) -> Frame:
        """The frame that `data` holds."""
        return read_frame(self.data)

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """(224, 224, 3) 8-bit pixels: the original's or, where there is none, what the frame shows."""
        if self.original is None:
            return np.clip(np.rint(decode(self.frame)), 0, 255).astype(np.uint8)
        return self.original.reshape(IMAGE_SIZE, IMAGE_SIZE, 3)


@dataclass(frozen=True, eq=False)
class Capture:
    """A view and its ids.

    Attributes:
        number: its frame id.
        object_id: what is looked at.
        device_id: the camera.
        expected_views: how many devices look at the object.
        request_id: of all calls that are made for it.
        photo: where its picture comes from.
        viewpoint: 1 to 4, or None for the whole photo.
        view: what the encoder made of it.
        taken_at: seconds since 1970.
    """

    number: int
    object_id: str
    device_id: str
    expected_views: int
    request_id: str
    photo: str
    viewpoint: int | None
    view: Encoded
    taken_at: float = field(default_factory=time.time)

    @property
    def ids(self) -> dict[str, Any]:
        """What names it in logs, traces and requests."""
        return {"object_id": self.object_id, "device_id": self.device_id, "frame_id": self.number}

    def without_pixels(self) -> Self:
        """The same for a table where nothing is made of the pixels: a fifth of the size at ρ = 1/4."""
        return replace(self, view=replace(self.view, original=None))


def to_row(capture: Capture) -> tuple[Any, ...]:
    """The capture's values for `COLUMNS`."""
    view, original = capture.view, capture.view.original
    details = {
        "photo": capture.photo,
        "viewpoint": capture.viewpoint,
        "attention_ms": view.attention_ms,
        "encode_ms": view.encode_ms,
        "lengths": [len(data) for data in (view.data, *view.following)],
        "on_wish": view.on_wish,
    }
    return (
        capture.number,
        capture.object_id,
        capture.device_id,
        capture.expected_views,
        capture.request_id,
        capture.taken_at,
        json.dumps(details),
        b"".join((view.data, *view.following)),
        b"" if view.attention is None else view.attention.astype("<f4").tobytes(),
        None if original is None else original.tobytes(),
    )


def from_row(row: list[Any]) -> Capture:
    """The capture that gave such a row."""
    number, object_id, device_id, expected, request_id, taken_at, details, data, attention, pixels = row
    more = json.loads(details)
    ends = [0, *accumulate(more.get("lengths", [len(data)]))]  # older spools have views of one frame alone
    first, *following = [data[start:end] for start, end in pairwise(ends)]
    view = Encoded(
        data=first,
        attention=np.frombuffer(attention, "<f4").astype(np.float32) if attention else None,
        original=None if pixels is None else np.frombuffer(pixels, np.uint8),
        attention_ms=more["attention_ms"],
        encode_ms=more["encode_ms"],
        following=tuple(following),
        on_wish=more.get("on_wish", ""),
    )
    photo, viewpoint = more["photo"], more["viewpoint"]
    return Capture(number, object_id, device_id, expected, request_id, photo, viewpoint, view, taken_at)
