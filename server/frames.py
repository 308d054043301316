"""Frame validation: what a frame must be before it is decoded, and the verification of its header tag."""

import hmac
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import SecretBytes

from semlink.frame import MAX_FRAME_BYTES, Frame, FrameError
from semlink.service.header_tag import MIN_KEY_BYTES, header_tag
from semlink.source.registry import read_frame
from semlink.vision.images import IMAGE_SIZE
from server.refusals import BadFrame, BadTag

MODEL_SHAPE = (IMAGE_SIZE, IMAGE_SIZE, 3)


def parse_frame(data: bytes, lost_segments: Sequence[int]) -> Frame:
    """A frame of any profile that decodes to an image of the model's shape.

    Args:
        data: the frame as it came.
        lost_segments: numbers of lost segments (patches), in any order; some may come twice.

    Raises:
        BadFrame: it is too long, malformed, of another shape, or has no such segments.
    """
    try:
        frame = read_frame(data, most_bytes=MAX_FRAME_BYTES)
    except FrameError as error:
        raise BadFrame(str(error), error.reason) from None
    if frame.shape != MODEL_SHAPE:
        raise BadFrame(f"the model takes {MODEL_SHAPE} pixels, not {frame.shape}", "geometry")
    segments = frame.segment_bits.size
    if len(lost_segments) > segments or max(lost_segments, default=-1) >= segments:
        within = f"at most {segments} numbers within 0..{segments - 1}" if segments else "none: the frame has none"
        raise BadFrame(f"lost patches must be {within}", "lost_patches")
    return frame


class HeaderKeys:
    """The devices' keys. A device without one is refused like one that used a wrong key, by the same steps."""

    def __init__(self, keys: Mapping[str, SecretBytes]) -> None:
        """`keys` by device id."""
        self._keys = keys
        self._unknown = SecretBytes(secrets.token_bytes(MIN_KEY_BYTES))

    def check(self, tag: bytes, header: bytes, *, device_id: str, **ids: Any) -> None:
        """Verifies the tag of a view of these ids; see `semlink.service.header_tag.header_tag`.

        Raises:
            BadTag: it was not made of this header and these ids with the device's key.
        """
        key = self._keys.get(device_id, self._unknown).get_secret_value()
        if not hmac.compare_digest(tag, header_tag(key, header, device_id=device_id, **ids)):
            raise BadTag("the header's tag is not one that this device makes with its key")
