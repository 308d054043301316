"""Entry point: `semlink-server`, or `python -m server`."""

import asyncio
import importlib.util
import os
import signal
import sys

from semlink.service.listener import listen
from semlink.service.logs import configure_logs
from semlink.service.settings import StartupError, read_settings
from semlink.service.tracing import traced
from semlink.vision.engines import EngineError
from semlink.vision.weights import WeightsError
from server.assembly import assembled
from server.settings import ServerSettings


async def serve(settings: ServerSettings) -> None:
    """Runs the server until SIGTERM or SIGINT."""
    async with assembled(settings) as server:
        await listen(
            server.link,
            server.app,
            server.health,
            server.admission,
            settings,
            prepare=server.recognizer.start,
            stopping=server.sessions.end_waits,
        )
    if server.recognizer.is_loading:
        os._exit(0)  # the thread that loads can't be stopped, and a usual exit would wait for it


def run_on_ray(settings: ServerSettings) -> None:
    """Runs replicas of the server behind Ray Serve until SIGTERM or SIGINT.

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

    def end(*_: object) -> None:
        if settings.cluster == "ray":
            sys.exit(0)  # with Ray's processes
        os._exit(0)  # an exception might meet an import of C++, which aborts, or a destructor, where it is lost

    for number in (signal.SIGTERM, signal.SIGINT):  # until it listens there is nothing to finish
        signal.signal(number, end)
    try:
        if settings.cluster == "ray":
            run_on_ray(settings)
        elif settings.replicas > 1 or settings.max_replicas:
            raise StartupError("--replicas and --max-replicas need --cluster ray")
        else:
            with traced(settings, "server"):
                asyncio.run(serve(settings))
    except (EngineError, StartupError, WeightsError) as error:
        sys.exit(f"server: {error}")


if __name__ == "__main__":
    main()
