"""A view that waits to be sent: encoded, and named once for all the times that it is sent."""

import json
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from device.encoder import Encoded
from device.spool_file import Stored
from semlink.source.iaq import IaqFrame
from semlink.source.iaq import coder as iaq


@dataclass(frozen=True, eq=False)
class Capture:
    """A view under the ids that it keeps.

    Attributes:
        number: its frame id.
        object_id: what is looked at.
        device_id: who looks.
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


def to_stored(capture: Capture, *, with_pixels: bool) -> Stored:
    """The capture as it goes into the spool; without its pixels it takes a fifth of the room, at ρ = 1/4."""
    view = capture.view
    details = {
        "photo": capture.photo,
        "viewpoint": capture.viewpoint,
        "attention_ms": view.attention_ms,
        "encode_ms": view.encode_ms,
    }
    return Stored(
        number=capture.number,
        object_id=capture.object_id,
        device_id=capture.device_id,
        expected_views=capture.expected_views,
        request_id=capture.request_id,
        taken_at=capture.taken_at,
        details=json.dumps(details),
        frame=view.data,
        attention=view.attention.astype("<f4").tobytes(),
        pixels=view.pixels.tobytes() if with_pixels else None,
    )


def from_stored(stored: Stored) -> Capture:
    """The capture as it was; where its pixels were not kept, they are what the frame shows."""
    details = json.loads(stored.details)
    frame = IaqFrame.from_bytes(stored.frame)
    view = Encoded(
        pixels=_pixels(frame, stored.pixels),
        attention=np.frombuffer(stored.attention, "<f4").astype(np.float32),
        frame=frame,
        data=stored.frame,
        attention_ms=details["attention_ms"],
        encode_ms=details["encode_ms"],
    )
    return Capture(
        number=stored.number,
        object_id=stored.object_id,
        device_id=stored.device_id,
        expected_views=stored.expected_views,
        request_id=stored.request_id,
        photo=details["photo"],
        viewpoint=details["viewpoint"],
        view=view,
        taken_at=stored.taken_at,
    )


def _pixels(frame: IaqFrame, kept: bytes | None) -> NDArray[np.uint8]:
    if kept is None:
        return np.clip(np.rint(iaq.decode(frame)), 0, 255).astype(np.uint8)
    grid = frame.geometry
    shape = (grid.rows * grid.patch_size, grid.columns * grid.patch_size, grid.channels)
    return np.frombuffer(kept, np.uint8).reshape(shape)
