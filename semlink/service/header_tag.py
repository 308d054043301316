"""The tag of a frame's header: who sent it, as whose view of what, and that none of this was changed on the way.

The payload is outside: it is meant to be damaged. What the tag protects and what not is in docs/security.md.
"""

import hmac
import struct

TAG_BYTES = 16
"""Leftmost bytes of the digest that are sent: RFC 2104, Section 5, wants half the digest and 80 bits at least. A
guess is right with probability 2^-128 (NIST SP 800-107 Rev. 1, Section 5.3)."""

MIN_KEY_BYTES, MAX_KEY_BYTES = 32, 64
"""Shorter keys than a digest weaken HMAC; longer ones than a block of SHA-256 are hashed first (RFC 2104, 3)."""

_DOMAIN = b"semlink header tag 1\0"
_LENGTH = struct.Struct(">I")
_NUMBERS = struct.Struct(">QI")


def header_tag(
    key: bytes, header: bytes, *, object_id: str, device_id: str, frame_id: int, expected_views: int
) -> bytes:
    """HMAC-SHA256 (RFC 2104, FIPS 198-1) over what a view says of itself, cut to `TAG_BYTES`.

    Under it stand, numbers big-endian: "semlink header tag 1" and a zero byte, so that a key used elsewhere too
    makes no tags by accident; object id and device id in UTF-8, each after its length in 4 bytes; frame id in 8
    bytes, expected views in 4; and the header, which no other string can be mistaken for.

    Args:
        key: the device's secret.
        header: bytes of the frame up to its payload, CRC included.
        object_id: what is looked at; empty for a view that stands alone.
        device_id: who sends.
        frame_id: the device's count of its frames, below 2^64.
        expected_views: how many devices will give a view, 1 or more.
    """
    texts = [text.encode() for text in (object_id, device_id)]
    parts = [part for text in texts for part in (_LENGTH.pack(len(text)), text)]
    message = b"".join((_DOMAIN, *parts, _NUMBERS.pack(frame_id, expected_views), header))
    return hmac.digest(key, message, "sha256")[:TAG_BYTES]
