"""Admission control: rate limit, concurrency limit, shares; the refusals with their gRPC and HTTP status."""

import ipaddress
import time
from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus

import grpc
import structlog
from prometheus_client import CollectorRegistry, Counter

from semlink.service.keys import ApiKeys, read_keys
from semlink.service.logs import Sparse
from semlink.service.origin import Sites
from semlink.service.settings import HttpSettings

log = structlog.get_logger(__name__)

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Addresses that only this machine reaches."""
MAX_CALLERS = 10_000
"""Callers in a rate limit's memory; beyond, the one that called longest ago is dropped: its burst starts anew."""


@dataclass(frozen=True)
class Caller:
    """Who makes the call that a task serves.

    Attributes:
        key: name of the caller's API key; empty where no key is needed.
        has_rivals: other keys are accepted too, so that places are shared among them.
    """

    key: str = ""
    has_rivals: bool = False

    @property
    def owner(self) -> str:
        """Owner of the caller's objects: the name of the key, up to the first slash."""
        return self.key.partition("/")[0]


NOBODY = Caller()
"""The caller where no key is needed."""
CALLER: ContextVar[Caller] = ContextVar("CALLER", default=NOBODY)
"""Caller of the call that this task serves; set by `Admission.admit`."""


class Refusal(Exception):
    """A request that can't be served; the message says why and what would help."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    status = HTTPStatus.BAD_REQUEST
    reason = "invalid"
    """For programs: a slug, one of docs/rest-and-grpc.md."""
    retry_after: float | None = None
    """Seconds until it may go better, where that is known."""


class NotAdmitted(Refusal):
    """A call without a valid key; the message never repeats what was sent."""

    reason = "key"  # also the label of the metric that counts such calls
    code = grpc.StatusCode.UNAUTHENTICATED
    status = HTTPStatus.UNAUTHORIZED


class ForeignHost(NotAdmitted):
    """A request under a name that is not this process's, as after DNS rebinding."""

    reason = "host"
    status = HTTPStatus.MISDIRECTED_REQUEST


class ForeignOrigin(NotAdmitted):
    """A request that a page of another site makes a browser send."""

    reason = "origin"
    status = HTTPStatus.FORBIDDEN


class TooManyCalls(NotAdmitted):
    """The caller is above its rate limit; `retry_after`: seconds until its next call is served."""

    reason = "rate"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, message: str, retry_after: float) -> None:
        """The message names the limit."""
        super().__init__(message)
        self.retry_after = retry_after


class Busy(TooManyCalls):
    """The limit of concurrent calls is reached."""

    reason = "busy"


class Crowded(Busy):
    """As many HTTP connections are open as may be."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


def refusal_counter(prefix: str, registry: CollectorRegistry) -> Counter:
    """Counter of calls that are not admitted; every label exists from the start, with 0."""
    counter = Counter(
        f"{prefix}_calls_refused",
        "Calls that were not let in, whatever they were for: without a good key, too many of one caller (rate), "
        "as many were under way as may be (busy), or a browser's, under a foreign name (host) or from a page of "
        "another site (origin).",
        ["protocol", "reason"],
        registry=registry,
    )
    for reason in ("key", "rate", "busy", "host", "origin"):
        counter.labels("http", reason)
    for reason in ("key", "rate", "busy"):
        counter.labels("grpc", reason)
    return counter


class ConcurrencyLimit:
    """Concurrency limit: at most so many calls of one kind at once; a context manager around each of them.

    Of several API keys none has more than half of the places, so that no key keeps all others out.
    """

    def __init__(self, limit: int, activity: str) -> None:
        """`limit`: calls at once; `activity`: what they do, for the message of the refusal ("are served")."""
        self._limit, self._activity = limit, activity
        self._of_key: Tally[str] = Tally()
        self.current = 0

    def __enter__(self) -> None:
        """Counts one more.

        Raises:
            Busy: `limit` calls are under way, or half as many of the caller's key, which is one of several.
        """
        caller = CALLER.get()
        share = max(1, self._limit // 2)
        if self.current >= self._limit:
            raise Busy(f"{self._limit} calls {self._activity} at once, and no more may", retry_after=1.0)
        if caller.has_rivals and self._of_key[caller.key] >= share:
            told = f"{share} calls of one key {self._activity} at once, and the key {caller.key!r} has so many"
            raise Busy(told, retry_after=1.0)
        self.current += 1
        self._of_key[caller.key] += 1

    def __exit__(self, *error: object) -> None:
        """Counts one less."""
        key = CALLER.get().key
        self.current -= 1
        self._of_key[key] -= 1
        if not self._of_key[key]:
            del self._of_key[key]


class RateLimit:
    """Rate limit: the generic cell rate algorithm (ITU-T I.371, virtual scheduling), one number for each caller.

    That number is when the caller's next call would be due if calls came evenly; a burst may run ahead of it.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`rate`: calls a second, > 0; `burst`: calls at once, ≥ 1, after a pause; `clock`: seconds."""
        self._interval, self._ahead, self._clock = 1 / rate, (burst - 1) / rate, clock
        self._due: OrderedDict[str, float] = OrderedDict()

    def wait(self, caller: str) -> float:
        """0 if the caller may call now, which is counted; else seconds until it may."""
        now = self._clock()
        due = max(self._due.get(caller, now), now)
        if due - now > self._ahead + 1e-9:
            return due - now - self._ahead
        self._due[caller] = due + self._interval
        self._due.move_to_end(caller)
        if len(self._due) > MAX_CALLERS:
            self._due.popitem(last=False)
        return 0.0


class Admission:
    """Admission by API key and rate, over gRPC and HTTP together; over HTTP also by Host and Origin."""

    def __init__(
        self,
        keys: ApiKeys | None = None,
        rate: float | None = None,
        burst: int = 1,
        refused: Counter | None = None,
        sites: Sites | None = None,
    ) -> None:
        """Without `keys` everybody is admitted; `rate`: calls a second of one key, or else of one address."""
        self._keys, self._rate, self._refused, self._sites = keys, rate, refused, sites or Sites()
        # Apart, so that no number of addresses can drop a key from the memory.
        self._of_keys, self._of_addresses = (RateLimit(rate, burst) if rate else None for _ in range(2))
        self._logs = Sparse()

    @classmethod
    def of(cls, settings: HttpSettings, refused: Counter) -> "Admission":
        """From the settings; `refused` is a `refusal_counter`.

        Raises:
            StartupError: as of `read_keys`.
        """
        keys = read_keys(settings.api_keys_file)
        if settings.host not in LOOPBACK:
            if keys is None:
                log.warning("anybody who reaches this process may call it: there are no API keys")
            elif settings.tls_certificate is None:
                log.warning("API keys travel unencrypted: there is no TLS")
        sites = Sites.of(settings.host, settings.allowed_hosts, settings.cors_origins)
        return cls(keys, settings.rate_limit, settings.rate_burst, refused, sites)

    @property
    def origins(self) -> frozenset[str]:
        """Origins of other sites whose pages may call."""
        return self._sites.origins

    @property
    def wants_keys(self) -> bool:
        """Whether callers need a key."""
        return self._keys is not None

    @property
    def has_rates(self) -> bool:
        """Whether there is a rate limit."""
        return self._rate is not None

    def count(self, protocol: str, refusal: NotAdmitted, address: str) -> None:
        """Counts a call from `address` that is refused; logs it, if not many are."""
        if self._refused:
            self._refused.labels(protocol, refusal.reason).inc()
        left_out = self._logs.admits(refusal.reason)
        if left_out is not None:
            told = {"reason": refusal.reason, "detail": str(refusal), "left_out": left_out}
            log.info("not admitted", address=address, **told)

    def check_site(self, host: str | None, origin: str | None) -> None:
        """Refuses what a browser sends for a page of another site.

        Args:
            host: the field `Host` of a request.
            origin: its field `Origin`, if it has one.

        Raises:
            ForeignHost: the name is none of this process's.
            ForeignOrigin: the page is neither of this host nor of an origin that is allowed.
        """
        if not self._sites.answers_to(host):
            raise ForeignHost(
                "the Host of this request is neither an IP address nor a name of this process: add the name to "
                "--allowed-hosts (SEMLINK_ALLOWED_HOSTS), or call another"
            )
        if not self._sites.trusts(origin, host):
            raise ForeignOrigin("a page of another origin may not call this process")

    def admit(self, authorization: str | None, address: str) -> str | None:
        """Admits a call, and returns the name of the caller's key; None where no key is needed. Sets CALLER.

        Args:
            authorization: "Bearer KEY" as received, if it was sent.
            address: IP address of the caller.

        Raises:
            NotAdmitted: the key is missing or wrong.
            TooManyCalls: the caller is above its rate limit.
        """
        CALLER.set(NOBODY)  # a connection's requests may be served in one context
        name = self._keys.name_of(authorization) if self._keys is not None and authorization else None
        # Calls with wrong keys count too, against their address.
        limit, caller = (self._of_keys, name) if name else (self._of_addresses, _network(address))
        wait = limit.wait(caller) if limit else 0.0
        if wait:
            whose = f"the key {name!r}" if name else "one address"
            raise TooManyCalls(f"{whose} may call {self._rate:g} times a second: wait {wait:.2g} s", wait)
        if self._keys is None:
            return None
        if not name:
            raise NotAdmitted(
                "the key is not one that is accepted here"
                if authorization
                else "a key is wanted: send `authorization: Bearer KEY`"
            )
        CALLER.set(Caller(name, has_rivals=len(self._keys) > 1))
        return name


def _network(address: str) -> str:
    """The address; of IPv6 its 64-bit network, whose lower bits a caller can change at will."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(known) if known.version == 4 else str(ipaddress.ip_network((int(known) >> 64 << 64, 64)))
