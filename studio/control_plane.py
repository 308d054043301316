"""Client of the channel emulator's control plane: who meets what, presets, scenario, events."""

import asyncio
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx
import structlog
from pydantic import SecretStr

from semlink.channel.base import channels

log = structlog.get_logger(__name__)

CALL_SECONDS = 3.0
MOST_EVENTS = 1000
"""That are asked for at once: as many as an emulator holds."""
MOST_DETAIL = 300
"""Characters of a problem that are repeated."""
PATHS = ("impairments", "presets", "scenario", "events", "reset")
"""Beginnings of paths below /v1/ that the page may call."""
MOST_PATH, MOST_QUERY = 512, 1024
"""Characters of such a path, of which a device id is the longest part, and of a query."""


def may_be_called(path: str, query: str) -> bool:
    """Whether a path below /v1/ is one that the page may call, and leads nowhere else.

    >>> may_be_called("impairments/camera-1", ""), may_be_called("impairments/../../metrics", "")
    (True, False)
    """
    parts = path.split("/")
    is_short = len(path) <= MOST_PATH and len(query) <= MOST_QUERY
    return is_short and parts[0] in PATHS and not {".", ".."} & set(parts)


def problem_of(answer: httpx.Response) -> str:
    """What a problem document says; empty of an answer that is none."""
    if answer.is_success:
        return ""
    try:
        return f"HTTP {answer.status_code}: {str(answer.json()['detail'])[:MOST_DETAIL]}"
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"


@dataclass
class ControlPlane:
    """The control plane of one emulator.

    Attributes:
        address: says HOST:PORT, which may become known only later.
        changed: called when something is known to have changed; what is then known is below.
        impairments: who meets what; None while nobody told.
        scenario: the scenario and where it is; None: there is none.
        events: the emulator's newest events, oldest first, but for those that `put` and `play` bring about.
        changes: how often who meets what was changed, as far as events tell, but for `put` and `play`.
        problem: why it does not tell what it is asked, as without a good key; empty where it does.
    """

    address: Callable[[], str]
    changed: Callable[[], None]
    tls: ssl.SSLContext | None = None
    key: SecretStr | None = None
    impairments: dict[str, Any] | None = None
    scenario: dict[str, Any] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    changes: int = 0
    problem: str = ""
    _cursor: int = 0
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    _before_scenario: dict[str, Any] | None = None
    _put: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Opens no connection yet."""
        headers = {} if self.key is None else {"Authorization": f"Bearer {self.key.get_secret_value()}"}
        self._client = httpx.AsyncClient(
            timeout=CALL_SECONDS, trust_env=False, headers=headers, verify=self.tls or True
        )

    async def close(self) -> None:
        """Closes the connection."""
        await self._client.aclose()

    async def call(
        self,
        method: str,
        path: str,
        query: str = "",
        body: bytes = b"",
        content_type: bytes = b"application/json",
    ) -> httpx.Response:
        """One call of the control plane; no redirect is followed.

        Args:
            method: of HTTP.
            path: below /v1/, not encoded: every character of it stays part of the path.
            query: as it stood behind the question mark.
            body: of the request.
            content_type: of the body.

        Raises:
            httpx.HTTPError: nobody answered.
        """
        scheme = "https" if self.tls else "http"
        url = f"{scheme}://{self.address()}/v1/{quote(path)}?{query}"
        headers = {b"Content-Type": content_type} if body else {}
        return await self._client.request(method, url, content=body or None, headers=headers)

    @property
    def _standing(self) -> tuple[Any, Any]:
        """What is a change if it changes: not how far a scenario has come."""
        return self.impairments, self.scenario and {**self.scenario, "position": 0}

    async def refresh(self) -> None:
        """Asks for all that is known; while nobody answers, it stays.

        A change is told, whoever made it.
        """
        await self._take_in(even_if_quiet=True)

    async def catch_up(self) -> None:
        """Asks for events alone, and for all that is known where there are any."""
        await self._take_in(even_if_quiet=False)

    async def _take_in(self, *, even_if_quiet: bool) -> None:
        async with self._one_at_a_time:
            try:
                has_news = await self._read_events()  # first, so that what is known is never older than its events
                if has_news or even_if_quiet:
                    await self._ask(has_news=has_news)
            except (httpx.HTTPError, ValueError) as error:
                self.problem = "its control plane does not answer"
                log.debug("the control plane does not answer", reason=repr(error))

    async def _ask(self, *, has_news: bool) -> None:
        known, before = self.impairments, self._standing
        met, scenario = [await self.call("GET", path) for path in ("impairments", "scenario")]
        self.problem = problem_of(met)
        if met.is_success and (now := met.json()) != known:
            self.impairments = now  # else the same object, which rounds hold by the hundred
        if scenario.is_success:
            found = scenario.json()
            if not (self.scenario and self.scenario["steps"] == found["steps"]):
                self._before_scenario = known
            self.scenario = found
        elif scenario.status_code == HTTPStatus.NOT_FOUND:
            self.scenario = None
        if has_news or before != self._standing:
            self.changed()

    async def put(self, impairments: dict[str, Any]) -> bool:
        """Has the emulator take these impairments for a moment; says whether it did."""
        async with self._one_at_a_time:
            try:
                answer = await self._send("PUT", "impairments", impairments)
            except httpx.HTTPError as error:
                log.warning("the channel could not be set", reason=repr(error))
                self._put.append(impairments)  # it may have been heard
                return False
            if answer.is_success:
                self.impairments = answer.json()
                self._put.append(answer.json())
            return answer.is_success

    async def give_back(self) -> None:
        """Has an emulator that was started anew take what the one before it was last known to be set to.

        That is who met what, and the scenario, where it was, on the settings that it began from, playing or not.

        Raises:
            httpx.HTTPError: it does not answer.
        """
        impairments, scenario = self.impairments, self.scenario
        self._cursor, self.events = 0, []
        if scenario is not None:
            if self._before_scenario is not None:
                await self._send("PUT", "impairments", self._before_scenario)
            await self._send("PUT", "scenario", {name: scenario[name] for name in ("loop", "steps")})
            await self._send("PATCH", "scenario", {"playing": False, "position": scenario["position"]})
        if impairments is not None:
            await self._send("PUT", "impairments", impairments)
        if scenario is not None and scenario["playing"]:
            await self.play()

    async def play(self) -> None:
        """Has the scenario go on.

        Raises:
            httpx.HTTPError: nobody answered.
        """
        answer = await self._send("PATCH", "scenario", {"playing": True})
        if answer.is_success:
            self.scenario = answer.json()

    async def _send(self, method: str, path: str, value: Any) -> httpx.Response:
        answer = await self.call(method, path, body=json.dumps(value).encode())
        if not answer.is_success:
            log.warning("the emulator refuses what it is to be set to", path=path, reason=problem_of(answer))
        return answer

    def takes_plans(self, device_id: str) -> bool:
        """Whether the channel that a device's frames meet wants a plan with each."""
        if self.impairments is None:
            return False
        met = self.impairments["devices"].get(device_id, self.impairments["default"])
        kind = channels().get(met["type"])
        return kind is not None and kind.takes_plan

    async def _read_events(self) -> bool:
        answer = await self.call("GET", "events", f"after={self._cursor}&limit={MOST_EVENTS}")
        if answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY:  # a cursor of a process that is no more
            is_another, self._cursor, self.events, self._put = self._cursor > 0, 0, [], []
            return is_another
        if not answer.is_success:
            return False
        page = answer.json()
        put, self._put, self._cursor = self._put, [], page["next"]
        new = [event for event in page["events"] if not (put and _is_of(put, event))]
        self.events = [*self.events, *new][-100:]
        self.changes += sum(event["kind"] == "settings" and _is_change(event) for event in new)
        return bool(new)


def _is_change(event: dict[str, Any]) -> bool:
    """Whether an event of settings tells of others than before, which a step of a scenario may not."""
    return event["after"]["default"] is not None or bool(event["after"]["devices"])


def _is_of(put: list[dict[str, Any]], event: dict[str, Any]) -> bool:
    """Whether an event tells of what was put for a moment, or of a scenario that paused, and went on as it was."""
    if event["kind"] != "settings":
        return event["kind"] == "scenario" and event["action"] in ("paused", "playing")
    default, devices = event["after"]["default"], event["after"]["devices"]
    if not _is_change(event):
        return True
    return event["action"] == "PUT /v1/impairments" and any(
        default in (None, each["default"])
        and all(own == each["devices"].get(name) for name, own in devices.items())
        for each in put
    )
