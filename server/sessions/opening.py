"""Where the server keeps its sessions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from semlink.service.settings import StartupError
from server.metrics import Metrics
from server.sessions.memory import MemorySessions
from server.sessions.views import Rules, Sessions
from server.settings import ServerSettings


@asynccontextmanager
async def open_sessions(settings: ServerSettings, metrics: Metrics) -> AsyncIterator[Sessions]:
    """The sessions that the settings ask for: in Redis if it is named, else in memory.

    Redis need not be there yet, nor stay: see `server.sessions.redis`.

    Raises:
        StartupError: there is no such address, or redis-py is not installed.
    """
    rules = Rules(
        max_objects=settings.max_objects,
        ttl_seconds=settings.object_ttl_seconds,
        max_waiting=settings.max_waiting_calls,
        vote_after_seconds=settings.vote_after_seconds,
        quorum=settings.quorum,
    )
    if not settings.redis:
        yield MemorySessions(rules, metrics)
        return
    try:
        from server.sessions.redis import RedisSessions
    except ModuleNotFoundError:
        raise StartupError("--redis needs redis-py: pip install 'semlink[redis]'") from None
    try:
        sessions = RedisSessions(settings.redis, rules, metrics)
    except ValueError as error:  # the address itself may hold a password
        raise StartupError(f"--redis must be redis://HOST:PORT/DATABASE: {error}") from None
    try:
        yield sessions
    finally:
        await sessions.close()
