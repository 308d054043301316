"""Header tag: HMAC-SHA256 over a frame's header and the ids of its view; and the keys for it.

It does not cover the payload, which is meant to be damaged: see docs/security.md.
"""

import hmac
import re
import struct
from pathlib import Path

from pydantic import SecretBytes

from semlink.service.settings import SecretsInEnvironment, StartupError, read_secret

TAG_BYTES = 16
"""Leftmost bytes of the digest that are sent: RFC 2104, Section 5, wants half the digest and 80 bits at least. A
guess is right with probability 2^-128 (NIST SP 800-107 Rev. 1, Section 5.3)."""

MIN_KEY_BYTES, MAX_KEY_BYTES = 32, 64
"""Shorter keys than a digest weaken HMAC; longer ones than a block of SHA-256 are hashed first (RFC 2104, 3)."""

_HEX = re.compile(rf"(?:[0-9a-fA-F]{{2}}){{{MIN_KEY_BYTES},{MAX_KEY_BYTES}}}")
_DOMAIN, _LAYERED_DOMAIN = b"semlink header tag 1\0", b"semlink header tag 2\0"
_LENGTH = struct.Struct(">I")
_NUMBERS = struct.Struct(">QI")


def header_tag(
    key: bytes,
    header: bytes,
    *,
    object_id: str,
    device_id: str,
    frame_id: int,
    expected_views: int,
    layer: int = 0,
    more: int = 0,
) -> bytes:
    """HMAC-SHA256 (RFC 2104, FIPS 198-1) over a frame's header and the ids of its view, cut to `TAG_BYTES`.

    The message, numbers big-endian: "semlink header tag 1" and a zero byte, so that a key that is used elsewhere
    too makes no tags by accident; object id and device id in UTF-8, each after its length in 4 bytes; frame id in
    8 bytes, expected views in 4; and the header. Where layer or `more` is not 0, it begins with "semlink header
    tag 2" instead, and the two, 1 byte each, come before the header.

    Args:
        key: the device's secret.
        header: bytes of the frame up to its payload, CRC included.
        object_id: the object in view; empty for a view that stands alone.
        device_id: the sender.
        frame_id: the device's count of its frames, below 2^64.
        expected_views: how many devices will give a view, 1 or more.
        layer: which layer of the view the frame is, 0..255.
        more: what may follow it, as `ClassifyRequest.More` numbers it.
    """
    texts = [text.encode() for text in (object_id, device_id)]
    parts = [part for text in texts for part in (_LENGTH.pack(len(text)), text)]
    domain, layered = (_LAYERED_DOMAIN, bytes((layer, more))) if layer or more else (_DOMAIN, b"")
    message = b"".join((domain, *parts, _NUMBERS.pack(frame_id, expected_views), layered, header))
    return hmac.digest(key, message, "sha256")[:TAG_BYTES]


def device_key(file: Path | None) -> SecretBytes | None:
    """A device's key, from its file or SEMLINK_HEADER_KEY; None if there is neither.

    Raises:
        StartupError: there are both, or it is malformed. The message never shows a key.
    """
    given = SecretsInEnvironment().header_key
    if file is None:
        return None if given is None else _key(given.get_secret_value(), "SEMLINK_HEADER_KEY")
    if given is not None:
        raise StartupError("either --header-key-file or SEMLINK_HEADER_KEY may be set, not both")
    return _key(read_secret(file, "--header-key-file").strip(), str(file))


def keys_of_devices(file: Path) -> dict[str, SecretBytes]:
    """Keys by device id, from a server's file with a device id and a key on each line; empty lines are skipped.

    Raises:
        StartupError: the file can't be read, is empty, or a line is malformed. The message never shows a key.
    """
    keys: dict[str, SecretBytes] = {}
    for number, line in enumerate(read_secret(file, "--header-keys-file").splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        *before, key = line.rsplit(maxsplit=1)
        device_id = "".join(before).strip()
        if not 1 <= len(device_id) <= 128:
            raise StartupError(f"{where}: must be a device id of 1 to 128 characters, a space and its key")
        if device_id in keys:
            raise StartupError(f"{where}: device {device_id!r} has a key already")
        keys[device_id] = _key(key, where)
    if not keys:
        raise StartupError(f"{file} holds no keys: write a line for each device, its id, a space and its key")
    return keys


def _key(text: str, where: str) -> SecretBytes:
    if not _HEX.fullmatch(text):
        raise StartupError(
            f"{where}: a key is {2 * MIN_KEY_BYTES} to {2 * MAX_KEY_BYTES} hexadecimal digits, an even number of "
            f"them; make one with: openssl rand -hex {MIN_KEY_BYTES}"
        )
    return SecretBytes(bytes.fromhex(text))
