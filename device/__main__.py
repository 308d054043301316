"""python -m device."""

import asyncio
import signal
import sys

from device.access import Access
from device.settings import DeviceSettings
from device.show_spool import ShowSpoolSettings, show_spool
from device.spool import Spool
from device.spool_file import SpoolError
from semlink.service.header_tag import device_key
from semlink.service.logs import configure_logs
from semlink.service.settings import StartupError, read_settings
from semlink.service.tracing import traced
from semlink.vision.engines import EngineError
from semlink.vision.photos import PhotosError, find_photos
from semlink.vision.weights import WeightsError

STOPPING = (signal.SIGTERM, signal.SIGINT)


def main() -> None:
    """Reads the settings and goes all rounds, or until told to stop. Exits with 1 if a frame failed."""
    if "--show-spool" in sys.argv[1:]:  # for which no camera's settings are needed
        show_spool(read_settings(ShowSpoolSettings, "device").spool)
        return
    settings = read_settings(DeviceSettings, "device")
    if settings.show_spool and settings.spool:
        show_spool(settings.spool)
        return
    configure_logs(settings, "device")
    for number in STOPPING:  # until the first round there is nothing to finish
        signal.signal(number, lambda *_: sys.exit(0))
    stop = asyncio.Event()
    try:
        photos = find_photos(settings.images)
        access = Access.of(settings)
        key = device_key(settings.header_key_file)
        spool = Spool(settings.spool, settings.spool_bytes) if settings.spool else None
        # Mistakes are explained before torch is loaded, which takes seconds.
        from device.encoder import Encoder
        from device.rounds import Rounds
        from device.spooled_rounds import SpooledRounds

        encoder = Encoder(settings)
    except (EngineError, PhotosError, SpoolError, StartupError, WeightsError) as error:
        sys.exit(f"device: {error}")
    common = (settings, access, encoder, photos, stop, key)
    rounds = SpooledRounds(*common, spool=spool) if spool else Rounds(*common)

    async def run() -> None:
        for number in STOPPING:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await rounds.run()

    with traced(settings, "device"):
        asyncio.run(run())
    sys.exit(1 if rounds.failures else 0)


if __name__ == "__main__":
    main()
