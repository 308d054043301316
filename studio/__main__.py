"""Entry point: `make studio`, `semlink-studio`, or `python -m studio`."""

import asyncio
import json
import signal

import structlog
from prometheus_client import CollectorRegistry

from semlink.service.admission import Admission, refusal_counter
from semlink.service.http_connections import HttpServer
from semlink.service.listener import Health, bind, in_url
from semlink.service.logs import configure_logs
from semlink.service.settings import StartupError, read_settings
from semlink.service.tls import server_context
from semlink.vision.photos import PhotosError
from studio.settings import StudioSettings

log = structlog.get_logger("studio")

LATE_SECONDS = 5.0
"""Longest that requests which were not answered in time are waited for."""


async def serve(settings: StudioSettings) -> None:
    """Runs the studio until it is told to stop.

    Raises:
        StartupError: the port is taken, or a file of keys or one for TLS is unfit.
        PhotosError: there are no such pictures.
    """
    from studio.api import create_app
    from studio.studio import Studio

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    admission = Admission.of(settings, refusal_counter("studio", CollectorRegistry()))
    studio, health, tls = Studio(settings), Health(), server_context(settings)
    app = create_app(studio, health, admission)
    with bind(settings.host, settings.http_port) as http_socket:
        running, stopped = asyncio.create_task(studio.run()), asyncio.create_task(stop.wait())
        server = HttpServer(app, settings.max_http_connections, tls)
        serving = asyncio.create_task(server.serve(sockets=[http_socket]))
        where = f"{in_url(settings.host)}:{http_socket.getsockname()[1]}"
        print(json.dumps({"event": "listening", "http": where}), flush=True)
        log.info("open the page", url=f"{'https' if tls else 'http'}://{where}/", keys=admission.wants_keys)
        health.ready = True
        await asyncio.wait({running, stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
        health.ready = False
        studio.end()
        server.should_exit = True
        await asyncio.wait({serving})  # before the link ends, so that requests under way are answered
        if late := set(server.server_state.tasks):  # cancelled, but what they changed of the channel is set again
            await asyncio.wait(late, timeout=LATE_SECONDS)
        for task in (running, stopped):
            task.cancel()
        results = await asyncio.gather(running, serving, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result


def main() -> None:
    """Reads the settings and serves; exits with 1 if it can't start."""
    settings = read_settings(StudioSettings, "studio")
    configure_logs(settings, "studio")
    try:
        asyncio.run(serve(settings))
    except (PhotosError, StartupError) as error:
        log.error("cannot start", reason=str(error))
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
