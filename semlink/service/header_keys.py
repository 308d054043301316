"""Keys of header tags, as operators keep them: in files, and for one device in the environment."""

import re
from pathlib import Path

from pydantic import SecretBytes

from semlink.service.header_tag import MAX_KEY_BYTES, MIN_KEY_BYTES
from semlink.service.secrets import SecretsInEnvironment, read_secret
from semlink.service.startup import StartupError

_HEX = re.compile(rf"(?:[0-9a-fA-F]{{2}}){{{MIN_KEY_BYTES},{MAX_KEY_BYTES}}}")


def device_key(file: Path | None) -> SecretBytes | None:
    """The key in a device's file, or else in SEMLINK_HEADER_KEY; None where there is neither.

    Raises:
        StartupError: there are both, or what there is is no key. The message tells none.
    """
    given = SecretsInEnvironment().header_key
    if file is None:
        return None if given is None else _key(given.get_secret_value(), "SEMLINK_HEADER_KEY")
    if given is not None:
        raise StartupError("either --header-key-file or SEMLINK_HEADER_KEY may be set, not both")
    return _key(read_secret(file, "--header-key-file").strip(), str(file))


def keys_of_devices(file: Path) -> dict[str, SecretBytes]:
    """The keys in a server's file: one line each, device id and key; empty lines are skipped.

    Raises:
        StartupError: the file can't be read, is empty, or a line is not of this form. The message tells no key.
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
