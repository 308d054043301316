"""Entry point: `semlink-channel --upstream HOST:PORT`, or `python -m channel_emulator`."""

import asyncio

import structlog

from channel_emulator.channel_states import ChannelStates
from channel_emulator.control import control_plane
from channel_emulator.impairments import impairment_of, start_with
from channel_emulator.live import LiveImpairments
from channel_emulator.metrics import Metrics
from channel_emulator.per_device import Impairments, PatchError
from channel_emulator.proxy import ImpairingProxy
from channel_emulator.scenario import read_scenario
from channel_emulator.settings import Settings
from semlink.service.admission import Admission
from semlink.service.listener import Health, listen
from semlink.service.logs import configure_logs
from semlink.service.settings import StartupError, read_settings
from semlink.service.tls import channel_credentials, connect
from semlink.service.tracing import traced

log = structlog.get_logger("channel_emulator")


async def serve(settings: Settings) -> None:
    """Runs the emulator until it is told to stop.

    Raises:
        StartupError: a port is taken, or a scenario, a file of keys or one for TLS is unfit.
    """
    start_with(channel_file=settings.channel_file)
    metrics, health = Metrics(), Health()
    start = Impairments(default=impairment_of(settings.impairment()))
    try:
        impairments = LiveImpairments(start, read_scenario(settings.scenario) if settings.scenario else None)
    except PatchError as error:
        raise StartupError(f"{settings.scenario} (--scenario): {error}") from None

    async def prepare() -> None:
        # Ready at once: an upstream that is not there yet is each call's own matter.
        log.info("passing frames on", upstream=settings.upstream, impairment=start.default.model_dump())

    admission = Admission.of(settings, metrics.calls_refused)
    async with connect(settings.upstream, channel_credentials(settings)) as channel:
        await listen(
            ImpairingProxy(channel, settings, impairments, metrics),
            control_plane(impairments, metrics, health, admission),
            health,
            admission,
            settings,
            prepare=prepare,
            channel_servicer=ChannelStates(channel, settings, impairments),
        )


def main() -> None:
    """Reads the settings and serves; exits with 1 if it can't start."""
    settings = read_settings(Settings, "channel_emulator")
    configure_logs(settings, "channel_emulator")
    try:
        with traced(settings, "channel_emulator"):
            asyncio.run(serve(settings))
    except StartupError as error:
        log.error("cannot start", reason=str(error))
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
