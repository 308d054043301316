"""API keys: read from files and the environment, held as SHA-256, compared in constant time."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from semlink.service.settings import SecretsInEnvironment, StartupError, read_secret

MIN_KEY_LENGTH = 16
"""Characters of an API key; `openssl rand -hex 32` gives 64."""
_KEY = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""Form of a key after "Bearer" (RFC 6750, section 2.1)."""
_SCHEME = "bearer "


class ApiKeys:
    """API keys that are accepted, by name; only their SHA-256 is in memory."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        """`keys`: name → key."""
        self._digests = {name: _digest(key) for name, key in keys.items()}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._digests)

    def name_of(self, authorization: str) -> str | None:
        """Name of the key in an `authorization` value ("Bearer KEY"); None if it is none of these.

        Takes the same time whatever the key: neither how much of it is right nor which one it is can be measured.
        """
        scheme, given = authorization[: len(_SCHEME)], _digest(authorization[len(_SCHEME) :].strip())
        found = None
        for name, digest in self._digests.items():
            if hmac.compare_digest(given, digest):
                found = name
        return found if scheme.lower() == _SCHEME else None


def read_keys(file: Path | None) -> ApiKeys | None:
    """API keys of a file and of SEMLINK_API_KEYS; None if there is neither.

    One `NAME KEY` on each line, or between commas in the environment; # begins a comment.

    Raises:
        StartupError: the file can't be read, or a key is too short or malformed. The message never shows one.
    """
    given = SecretsInEnvironment().api_keys
    if file is None and given is None:
        return None
    keys: dict[str, str] = {}
    if file is not None:
        _add(keys, read_secret(file, "--api-keys-file").splitlines(), f"{file} (--api-keys-file)")
    if given is not None:
        _add(keys, re.split(r"[\n,]", given.get_secret_value()), "SEMLINK_API_KEYS")
    if not keys:
        raise StartupError("--api-keys-file and SEMLINK_API_KEYS hold no key: write `NAME KEY`, or leave both out")
    return ApiKeys(keys)


def own_key(file: Path | None) -> SecretStr | None:
    """API key of this process for its own calls, from a file or SEMLINK_API_KEY; None if there is neither.

    Raises:
        StartupError: there are both, the file can't be read, or the key is too short or malformed.
    """
    given, where = SecretsInEnvironment().api_key, "SEMLINK_API_KEY"
    if file is not None:
        if given is not None:
            raise StartupError("either --api-key-file or SEMLINK_API_KEY may be set, not both")
        given, where = SecretStr(read_secret(file, "--api-key-file").strip()), f"{file} (--api-key-file)"
    if given is not None:
        _check_key(given.get_secret_value(), where)
    return given


def _check_key(key: str, where: str) -> None:
    if len(key) < MIN_KEY_LENGTH:
        raise StartupError(
            f"{where}: the key has {len(key)} characters; at least {MIN_KEY_LENGTH} are wanted: "
            "openssl rand -hex 32"
        )
    if not _KEY.fullmatch(key):
        raise StartupError(f"{where}: a key has letters, digits, . _ ~ + / - and, at its end, = only")


def _add(keys: dict[str, str], lines: list[str], source: str) -> None:
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        where = f"{source}, line {number}"
        if len(words) != 2:
            raise StartupError(f"{where}: must be `NAME KEY`, not {len(words)} words")
        name, key = words
        _check_key(key, where)
        if name in keys:
            raise StartupError(f"{where}: {name!r} has a key already")
        if key in keys.values():
            raise StartupError(f"{where}: {name!r} has the key of another name")
        keys[name] = key


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
