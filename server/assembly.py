"""One server, put together: what it answers over gRPC and over HTTP, with one model and one store behind both."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI

from semlink.service.admission import Admission
from semlink.service.header_tag import keys_of_devices
from semlink.service.listener import Health
from server.classifier import Classifier
from server.header_keys import HeaderKeys
from server.link_service import LinkService
from server.metrics import Metrics
from server.recognition import Recognizer
from server.rest import create_app
from server.sessions import Sessions, open_sessions
from server.settings import ServerSettings


@dataclass(frozen=True)
class Assembly:
    """The parts that whoever runs a server has to do with.

    Attributes:
        classifier: not started yet.
        sessions: where views and votes are kept.
        link: the link service.
        app: the REST API, which asks `admission` itself.
        health: what `app` tells of it.
        admission: whom the link service is for.
    """

    classifier: Classifier
    sessions: Sessions
    link: LinkService
    app: FastAPI
    health: Health
    admission: Admission


@asynccontextmanager
async def assembled(settings: ServerSettings) -> AsyncIterator[Assembly]:
    """A server as the settings want it, while the context lasts.

    Raises:
        StartupError: the settings can't be kept.
    """
    metrics, health = Metrics(), Health()
    admission = Admission.of(settings, metrics.calls_refused)
    classifier = Classifier(settings, metrics)
    keys = keys_of_devices(settings.header_keys_file) if settings.header_keys_file else None
    timeout = settings.request_timeout_seconds
    async with open_sessions(settings, metrics) as sessions:
        recognizer = Recognizer(classifier, sessions, metrics, None if keys is None else HeaderKeys(keys))
        link = LinkService(recognizer, sessions, metrics, timeout)
        app = create_app(recognizer, sessions, metrics, health, admission, timeout, settings.max_held_bytes)
        yield Assembly(classifier, sessions, link, app, health, admission)
