"""Client of the channel emulator's control plane: who meets what, presets, scenario, events."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import structlog
from pydantic import SecretStr

from semlink.channel.base import channels

log = structlog.get_logger(__name__)

CALL_SECONDS = 3.0
PATHS = ("impairments", "presets", "scenario", "events", "reset")
"""Beginnings of paths below /v1/ that the page may call."""


@dataclass
class ControlPlane:
    """The control plane of one emulator.

    Attributes:
        address: says HOST:PORT, which may become known only later.
        changed: called when something is known to have changed; what is then known is below.
        impairments: who meets what; None while nobody told.
        scenario: the scenario and where it is; None: there is none.
        events: the emulator's newest events, oldest first.
    """

    address: Callable[[], str]
    changed: Callable[[], None]
    tls: ssl.SSLContext | None = None
    key: SecretStr | None = None
    impairments: dict[str, Any] | None = None
    scenario: dict[str, Any] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    _cursor: int = 0

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
        self, method: str, path: str, body: bytes = b"", content_type: str = "application/json"
    ) -> httpx.Response:
        """One call of the control plane, `path` being below /v1/.

        Raises:
            httpx.TransportError: nobody answered.
        """
        scheme = "https" if self.tls else "http"
        headers = {"Content-Type": content_type} if body else {}
        url = f"{scheme}://{self.address()}/v1/{path}"
        return await self._client.request(method, url, content=body or None, headers=headers)

    async def refresh(self) -> None:
        """Asks for all that is known; while nobody answers, it stays.

        A change is told, whoever made it.
        """
        try:
            before = (self.impairments, self.scenario and {**self.scenario, "position": 0})
            answers = [await self.call("GET", path) for path in ("impairments", "scenario")]
            if answers[0].is_success:
                self.impairments = answers[0].json()
            self.scenario = answers[1].json() if answers[1].is_success else None
            new = await self._read_events()
            if new or before != (self.impairments, self.scenario and {**self.scenario, "position": 0}):
                self.changed()
        except (httpx.HTTPError, ValueError) as error:
            log.debug("the control plane does not answer", reason=repr(error))

    async def put_back(self, impairments: dict[str, Any]) -> bool:
        """Has an emulator, such as one that was started anew, take these impairments; says whether it did."""
        try:
            answer = await self._client_put(impairments)
        except httpx.HTTPError as error:
            log.warning("the channel could not be set", reason=repr(error))
            return False
        if answer.is_success:
            self.impairments = answer.json()
        return answer.is_success

    async def _client_put(self, impairments: dict[str, Any]) -> httpx.Response:
        scheme = "https" if self.tls else "http"
        return await self._client.put(f"{scheme}://{self.address()}/v1/impairments", json=impairments)

    def takes_plans(self, device_id: str) -> bool:
        """Whether the channel that a device's frames meet wants a plan with each."""
        if self.impairments is None:
            return False
        met = self.impairments["devices"].get(device_id, self.impairments["default"])
        kind = channels().get(met["type"])
        return kind is not None and kind.takes_plan

    async def _read_events(self) -> bool:
        answer = await self.call("GET", f"events?after={self._cursor}&limit=100")
        if not answer.is_success:  # a cursor of a process that is no more
            self._cursor = 0
            return False
        page = answer.json()
        self._cursor = page["next"]
        self.events = [*self.events, *page["events"]][-100:]
        return bool(page["events"])
