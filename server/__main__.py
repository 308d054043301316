"""python -m server."""

import asyncio
import signal
import sys

from semlink.runtime.listener import Health, StartupError, listen
from semlink.runtime.logs import configure_logs
from semlink.runtime.settings import read_settings
from semlink.weights import WeightsError
from server.settings import ServerSettings


async def serve(settings: ServerSettings) -> None:
    """Runs the server until it is told to stop."""
    # Mistakes in the settings are explained before torch is loaded, which takes seconds.
    from server.classifier import Classifier
    from server.link_service import LinkService
    from server.recognition import Recognizer
    from server.rest import create_app
    from server.sessions import Sessions

    classifier = Classifier(settings.model, settings.weights, settings.threads)
    sessions = Sessions(max_objects=settings.max_objects, ttl_seconds=settings.object_ttl_seconds)
    recognizer = Recognizer(classifier, sessions)
    health = Health()
    await listen(
        LinkService(recognizer, sessions),
        create_app(recognizer, sessions, health),
        health,
        host=settings.host,
        grpc_port=settings.grpc_port,
        http_port=settings.http_port,
        max_concurrent_calls=settings.max_concurrent_calls,
        prepare=classifier.start,
    )


def main() -> None:
    """Reads the settings and serves."""
    settings = read_settings(ServerSettings, "server")
    configure_logs(settings, "server")
    for number in (signal.SIGTERM, signal.SIGINT):  # until it listens there is nothing to finish
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        asyncio.run(serve(settings))
    except (StartupError, WeightsError) as error:
        sys.exit(f"server: {error}")


if __name__ == "__main__":
    main()
