"""Host and Origin check: against requests that another site makes a browser send (CSRF, DNS rebinding).

A page of another site can send requests to any process that the browser reaches, also to one on loopback. The
browser says so in `Origin` (RFC 6454). Under a name of its own that resolves to this process (DNS rebinding) the
page would even be of the same origin; then the foreign name stands in `Host`. A literal address can't be rebound.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/@,]+)(?::(?P<port>[0-9]{0,5}))?")
"""`uri-host [":" port]` of RFC 9110, section 7.2."""
_PORTS = {"http": "80", "https": "443"}
ANY_HOST = "*"
"""Allowed host that stands for every name."""


@dataclass(frozen=True)
class Sites:
    """Names under which a process answers, and foreign origins whose pages may call it.

    Attributes:
        hosts: in lower case, besides literal IP addresses and localhost; `ANY_HOST`: every name.
        origins: as a browser sends them, such as https://app.example.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, host: str, allowed_hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> "Sites":
        """Of a process that listens on `host`: that name, the machine's own, and those that are allowed."""
        names = {host, socket.gethostname(), *allowed_hosts}
        return cls(frozenset(name.lower().rstrip(".") for name in names), frozenset(origins))

    def answers_to(self, host: str | None) -> bool:
        """Whether a request with this `Host` is meant for this process.

        Without the field, which HTTP/1.0 may leave out, it is: no browser leaves it out.

        >>> Sites(frozenset({"server"})).answers_to("server:8000")
        True
        >>> Sites().answers_to("[::1]:8000"), Sites().answers_to("attacker.example:8000")
        (True, False)
        """
        if host is None or ANY_HOST in self.hosts:
            return True
        name, _ = _name_and_port(host)
        return name == "localhost" or name in self.hosts or _is_address(name)

    def trusts(self, origin: str | None, host: str | None) -> bool:
        """Whether a page of this `Origin` may send a request with this `Host`.

        It may if both are one host and port, if the origin is allowed, or if there is none: no page has sent it.
        The scheme is not compared: behind a proxy that ends TLS the process doesn't know it.

        >>> Sites().trusts("http://localhost:8001", "localhost:8001")
        True
        >>> Sites().trusts("http://localhost:3000", "localhost:8001"), Sites().trusts("null", "localhost:8001")
        (False, False)
        """
        if origin is None or origin in self.origins:
            return True
        scheme, _, authority = origin.partition("://")
        if scheme not in _PORTS or host is None:
            return False
        (name, port), (own_name, own_port) = _name_and_port(authority), _name_and_port(host)
        standard = _PORTS[scheme]
        return bool(name) and (name, port or standard) == (own_name, own_port or standard)


def _name_and_port(host: str) -> tuple[str, str]:
    """Name in lower case without brackets, and port, possibly empty; no name if `host` is none."""
    found = _HOST.fullmatch(host)
    if found is None:
        return "", ""
    return found["name"].strip("[]").lower().rstrip("."), found["port"] or ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def checked_origin(origin: str) -> str:
    """The origin, if it is one.

    Raises:
        ValueError: it isn't SCHEME://HOST or SCHEME://HOST:PORT, in lower case, as browsers send it.
    """
    parts = urlsplit(origin)
    name, port = _name_and_port(parts.netloc)
    if parts.scheme not in _PORTS or not name or origin != f"{parts.scheme}://{parts.netloc.lower()}":
        raise ValueError(f"an origin is SCHEME://HOST[:PORT], such as https://app.example, not {origin!r}")
    if port == _PORTS[parts.scheme]:
        raise ValueError(f"browsers leave out the port {port} of {parts.scheme}: {origin!r}")
    return origin
