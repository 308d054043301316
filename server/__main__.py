"""python -m server."""

import asyncio
import importlib.util
import os
import signal
import sys

from semlink.runtime.admission import Admission
from semlink.runtime.header_keys import HeaderKeyError, keys_of_devices
from semlink.runtime.listener import Health, listen
from semlink.runtime.logs import configure_logs
from semlink.runtime.settings import read_settings
from semlink.runtime.startup import StartupError
from semlink.runtime.tracing import traced
from semlink.weights import WeightsError
from server.classifier import Classifier
from server.header_keys import HeaderKeys
from server.link_service import LinkService
from server.metrics import Metrics
from server.recognition import Recognizer
from server.rest import create_app
from server.sessions import open_sessions
from server.settings import ServerSettings


async def serve(settings: ServerSettings) -> None:
    """Runs the server until it is told to stop."""
    metrics, health, admission = Metrics(), Health(), Admission.of(settings)
    classifier = Classifier(settings, metrics)
    keys = keys_of_devices(settings.header_keys_file) if settings.header_keys_file else None
    timeout = settings.request_timeout_seconds
    async with open_sessions(settings, metrics) as sessions:
        recognizer = Recognizer(classifier, sessions, metrics, None if keys is None else HeaderKeys(keys))
        await listen(
            LinkService(recognizer, sessions, metrics, timeout),
            create_app(recognizer, sessions, metrics, health, admission, timeout, settings.max_held_bytes),
            health,
            admission,
            settings,
            # Those that wait for votes can take no more than their own share, so the rest is left for frames.
            max_concurrent_calls=settings.max_concurrent_calls + settings.max_waiting_calls,
            prepare=classifier.start,
        )
    if classifier.is_loading:
        os._exit(0)  # the thread that loads can't be stopped, and a usual exit would wait for it


def run_on_ray(settings: ServerSettings) -> None:
    """Runs replicas of the server behind Ray Serve until it is told to stop.

    Raises:
        StartupError: Ray is not installed, or can't do it.
    """
    if importlib.util.find_spec("ray") is None:
        raise StartupError("--cluster ray needs Ray: pip install 'semlink[ray]'")
    from server.cluster.local import run

    run(settings)


def main() -> None:
    """Reads the settings and serves."""
    settings = read_settings(ServerSettings, "server")
    configure_logs(settings, "server")
    for number in (signal.SIGTERM, signal.SIGINT):  # until it listens there is nothing to finish
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        if settings.cluster == "ray":
            run_on_ray(settings)
        elif settings.replicas > 1 or settings.max_replicas:
            raise StartupError("--replicas and --max-replicas need --cluster ray")
        else:
            with traced(settings, "server"):
                asyncio.run(serve(settings))
    except (HeaderKeyError, StartupError, WeightsError) as error:
        sys.exit(f"server: {error}")


if __name__ == "__main__":
    main()
