"""Whom a process that listens answers: who shows a key, and does not call too often."""

import ipaddress
from http import HTTPStatus

import grpc
import structlog
from prometheus_client import CollectorRegistry, Counter

from semlink.service.api_keys import ApiKeys, read_keys
from semlink.service.rate_limit import RateLimit
from semlink.service.settings import ListenSettings

log = structlog.get_logger(__name__)

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Hosts that only this machine reaches."""


class NotAdmitted(Exception):
    """A call that is not served; the message says why, and never what was shown."""

    reason = "key"
    code = grpc.StatusCode.UNAUTHENTICATED
    status = HTTPStatus.UNAUTHORIZED
    retry_after: float | None = None


class TooManyCalls(NotAdmitted):
    """The caller calls too often; `retry_after`: seconds until it may again."""

    reason = "rate"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, message: str, retry_after: float) -> None:
        """The message says what is the limit."""
        super().__init__(message)
        self.retry_after = retry_after


class Busy(TooManyCalls):
    """As many calls are under way as may be."""

    reason = "busy"


def refusal_counter(prefix: str, registry: CollectorRegistry) -> Counter:
    """Counts the calls that are not admitted; every label is shown from the start, as 0."""
    counter = Counter(
        f"{prefix}_calls_refused",
        "Calls that were not let in, whatever they were for: without a good key, too many of one caller (rate), "
        "or as many were under way as may be (busy).",
        ["protocol", "reason"],
        registry=registry,
    )
    for reason in ("key", "rate"):
        counter.labels("http", reason)
    for reason in ("key", "rate", "busy"):
        counter.labels("grpc", reason)
    return counter


class Admission:
    """Keys and rates of one process, over gRPC and HTTP together."""

    def __init__(
        self,
        keys: ApiKeys | None = None,
        rate: float | None = None,
        burst: int = 1,
        refused: Counter | None = None,
    ) -> None:
        """Without `keys` everybody is admitted; `rate`: calls a second of one key, or of one address without."""
        self._keys, self._rate, self._refused = keys, rate, refused
        # Apart, so that no number of addresses makes a key forgotten.
        self._of_keys, self._of_addresses = (RateLimit(rate, burst) if rate else None for _ in range(2))

    @classmethod
    def of(cls, settings: ListenSettings, refused: Counter) -> "Admission":
        """As the settings want it; `refused` is a `refusal_counter`.

        Raises:
            StartupError: the keys can't be read, or are unfit.
        """
        keys = read_keys(settings.api_keys_file)
        if settings.host not in LOOPBACK:
            if keys is None:
                log.warning("anybody who reaches this process may call it: there are no API keys")
            elif settings.tls_certificate is None:
                log.warning("API keys travel unencrypted: there is no TLS")
        return cls(keys, settings.rate_limit, settings.rate_burst, refused)

    @property
    def wants_keys(self) -> bool:
        """A key must be shown."""
        return self._keys is not None

    @property
    def has_rates(self) -> bool:
        """Callers may call so often only."""
        return self._rate is not None

    def count(self, protocol: str, refusal: NotAdmitted) -> None:
        """Counts a call that is turned away."""
        if self._refused:
            self._refused.labels(protocol, refusal.reason).inc()

    def admit(self, authorization: str | None, address: str) -> str | None:
        """The name of the caller's key; None where none is wanted.

        Args:
            authorization: "Bearer KEY", as it came.
            address: IP address of the caller.

        Raises:
            NotAdmitted: no key, or no good one.
            TooManyCalls: too often.
        """
        name = self._keys.name_of(authorization) if self._keys and authorization else None
        # Who tries keys that are none is counted too, by address.
        limit, caller = (self._of_keys, name) if name else (self._of_addresses, _network(address))
        wait = limit.wait(caller) if limit else 0.0
        if wait:
            whose = f"the key {name!r}" if name else "one address"
            raise TooManyCalls(f"{whose} may call {self._rate:g} times a second: wait {wait:.2g} s", wait)
        if self._keys and not name:
            log.info("not admitted", address=address, reason="wrong key" if authorization else "no key")
            raise NotAdmitted(
                "the key is not one that is accepted here"
                if authorization
                else "a key is wanted: send `authorization: Bearer KEY`"
            )
        return name


def _network(address: str) -> str:
    """What one caller can't leave at will: an address, or the 64-bit network of one of version 6."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(known) if known.version == 4 else str(ipaddress.ip_network((int(known) >> 64 << 64, 64)))
