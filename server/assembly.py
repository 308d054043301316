"""Composition root: the parts of one server, made from its settings and connected."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from fastapi import FastAPI

from semlink.decision.asking import decide
from semlink.decision.calibration import Calibration, CalibrationError, read_calibration
from semlink.service.admission import Admission
from semlink.service.header_tag import keys_of_devices
from semlink.service.listener import Health
from semlink.service.settings import StartupError
from server.frames import HeaderKeys
from server.link_service import LinkService
from server.metrics import Metrics
from server.recognition import Recognizer
from server.rest import create_app
from server.sessions import Rules, Sessions
from server.sessions.decisions import Asking
from server.sessions.memory import MemoryStore
from server.sessions.store import SessionStore
from server.settings import ServerSettings

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Assembly:
    """The parts that the process which runs a server needs.

    Attributes:
        recognizer: not started yet.
        sessions: with the views and votes.
        link: the link service.
        app: the REST API; it asks `admission` itself.
        health: what `app` reports as the server's health.
        admission: for the calls of the link service.
    """

    recognizer: Recognizer
    sessions: Sessions
    link: LinkService
    app: FastAPI
    health: Health
    admission: Admission


@asynccontextmanager
async def assembled(settings: ServerSettings) -> AsyncIterator[Assembly]:
    """A server with these settings, while the context lasts. Redis need not be there yet, nor stay.

    Raises:
        StartupError: a file of keys or a calibration can't be used, --redis is no address, or redis-py is not
            installed.
    """
    metrics, health = Metrics(), Health()
    admission = Admission.of(settings, metrics.calls_refused)
    keys = HeaderKeys(keys_of_devices(settings.header_keys_file)) if settings.header_keys_file else None
    timeout = settings.request_timeout_seconds
    calibration = _calibration(settings)
    sessions = Sessions(_store(settings, metrics, calibration), settings.max_waiting_calls, metrics)
    sessions.start_probing()
    recognizer = Recognizer(settings, sessions, metrics, calibration, keys)
    problems = recognizer.pictures.problem, recognizer.frames.problem, recognizer.decoders.problem
    health.checks += sessions.problem, *problems
    try:
        link = LinkService(recognizer, sessions, metrics, timeout)
        app = create_app(recognizer, sessions, metrics, health, admission, timeout, settings.max_held_bytes)
        yield Assembly(recognizer, sessions, link, app, health, admission)
    finally:
        await recognizer.pictures.close()
        await recognizer.frames.close()
        await sessions.close()


def _calibration(settings: ServerSettings) -> Calibration:
    try:
        return read_calibration(settings.calibration)
    except CalibrationError as error:
        raise StartupError(f"--calibration: {error}") from None


def _asking(settings: ServerSettings, calibration: Calibration) -> Asking:
    try:
        price = calibration.ask.price_for(settings.target_accuracy_loss, settings.budget_bits)
    except CalibrationError as error:
        flag = "--target-accuracy-loss" if settings.budget_bits is None else "--budget-bits"
        raise StartupError(f"{flag}: {error}") from None
    log.info("calibration", device=calibration.device, server=calibration.server, price_of_a_bit=price)
    return partial(decide, calibration=calibration, price=price)


def _store(settings: ServerSettings, metrics: Metrics, calibration: Calibration) -> SessionStore:
    rules = Rules(
        max_objects=settings.max_objects,
        ttl_seconds=settings.object_ttl_seconds,
        vote_after_seconds=settings.vote_after_seconds,
        quorum=settings.quorum,
        ask=_asking(settings, calibration),
        wish_seconds=settings.wish_seconds,
    )
    if not settings.redis:
        return MemoryStore(rules, metrics)
    try:
        from server.sessions.redis import RedisStore
    except ModuleNotFoundError:
        raise StartupError("--redis needs redis-py: pip install 'semlink[redis]'") from None
    try:
        return RedisStore(settings.redis, rules, metrics)
    except ValueError as error:  # the address itself may hold a password
        raise StartupError(f"--redis must be redis://HOST:PORT/DATABASE: {error}") from None
