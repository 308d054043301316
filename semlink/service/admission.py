"""Admission control: API keys, rate limit, concurrency limit; the refusals with their gRPC and HTTP status."""

import hashlib
import hmac
import ipaddress
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from pathlib import Path

import grpc
import structlog
from prometheus_client import CollectorRegistry, Counter
from pydantic import SecretStr

from semlink.service.origin import Sites
from semlink.service.settings import ListenSettings, SecretsInEnvironment, StartupError, read_secret

log = structlog.get_logger(__name__)

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Addresses that only this machine reaches."""
MAX_CALLERS = 10_000
"""Callers in a rate limit's memory; beyond, the one that called longest ago is dropped: its burst starts anew."""
MIN_KEY_LENGTH = 16
"""Characters of an API key; `openssl rand -hex 32` gives 64."""
_KEY = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""Form of a key after "Bearer" (RFC 6750, section 2.1)."""
_SCHEME = "bearer "


class Refusal(Exception):
    """A request that can't be served; the message says why and what would help."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    status = HTTPStatus.BAD_REQUEST
    retry_after: float | None = None
    """Seconds until it may go better, where that is known."""


class NotAdmitted(Refusal):
    """A call without a valid key; the message never repeats what was sent."""

    reason = "key"
    """Label of the metric that counts such calls."""
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
    for reason in ("key", "rate", "host", "origin"):
        counter.labels("http", reason)
    for reason in ("key", "rate", "busy"):
        counter.labels("grpc", reason)
    return counter


class ConcurrencyLimit:
    """Concurrency limit: at most so many calls of one kind at once; a context manager around each of them."""

    def __init__(self, limit: int, activity: str) -> None:
        """`limit`: calls at once; `activity`: what they do, for the message of the refusal ("are served")."""
        self._limit, self._activity = limit, activity
        self.current = 0

    def __enter__(self) -> None:
        """Counts one more.

        Raises:
            Busy: `limit` calls are under way.
        """
        if self.current >= self._limit:
            raise Busy(f"{self._limit} calls {self._activity} at once, and no more may", retry_after=1.0)
        self.current += 1

    def __exit__(self, *error: object) -> None:
        """Counts one less."""
        self.current -= 1


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


class ApiKeys:
    """API keys that are accepted, by name; only their SHA-256 is in memory."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        """`keys`: name → key."""
        self._digests = {name: _digest(key) for name, key in keys.items()}

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

    @classmethod
    def of(cls, settings: ListenSettings, refused: Counter, origins: Iterable[str] = ()) -> "Admission":
        """From the settings; `refused` is a `refusal_counter`, `origins` are those of other sites that may call.

        Raises:
            StartupError: as of `read_keys`.
        """
        keys = read_keys(settings.api_keys_file)
        if settings.host not in LOOPBACK:
            if keys is None:
                log.warning("anybody who reaches this process may call it: there are no API keys")
            elif settings.tls_certificate is None:
                log.warning("API keys travel unencrypted: there is no TLS")
        sites = Sites.of(settings.host, settings.allowed_hosts, origins)
        return cls(keys, settings.rate_limit, settings.rate_burst, refused, sites)

    @property
    def wants_keys(self) -> bool:
        """Whether callers need a key."""
        return self._keys is not None

    @property
    def has_rates(self) -> bool:
        """Whether there is a rate limit."""
        return self._rate is not None

    def count(self, protocol: str, refusal: NotAdmitted) -> None:
        """Counts a call that is refused."""
        if self._refused:
            self._refused.labels(protocol, refusal.reason).inc()

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
        """Admits a call, and returns the name of the caller's key; None where no key is needed.

        Args:
            authorization: "Bearer KEY" as received, if it was sent.
            address: IP address of the caller.

        Raises:
            NotAdmitted: the key is missing or wrong.
            TooManyCalls: the caller is above its rate limit.
        """
        name = self._keys.name_of(authorization) if self._keys and authorization else None
        # Calls with wrong keys count too, against their address.
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
    """The address; of IPv6 its 64-bit network, whose lower bits a caller can change at will."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(known) if known.version == 4 else str(ipaddress.ip_network((int(known) >> 64 << 64, 64)))


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
