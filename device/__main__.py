"""python -m device."""

import asyncio
import signal
import sys

from device.access import Access
from device.settings import DeviceSettings
from semlink.photos import PhotosError, find_photos
from semlink.runtime.header_keys import HeaderKeyError, device_key
from semlink.runtime.logs import configure_logs
from semlink.runtime.settings import read_settings
from semlink.runtime.startup import StartupError
from semlink.runtime.tracing import traced
from semlink.weights import WeightsError

STOPPING = (signal.SIGTERM, signal.SIGINT)


def main() -> None:
    """Reads the settings and goes all rounds, or until told to stop. Exits with 1 if a frame failed."""
    settings = read_settings(DeviceSettings, "device")
    configure_logs(settings, "device")
    for number in STOPPING:  # until the first round there is nothing to finish
        signal.signal(number, lambda *_: sys.exit(0))
    stop = asyncio.Event()
    try:
        photos = find_photos(settings.images)
        access = Access.of(settings)
        key = device_key(settings.header_key_file)
        # Mistakes are explained before torch is loaded, which takes seconds.
        from device.encoder import Encoder
        from device.rounds import Rounds

        rounds = Rounds(settings, access, Encoder(settings), photos, stop, key)
    except (HeaderKeyError, PhotosError, StartupError, WeightsError) as error:
        sys.exit(f"device: {error}")

    async def run() -> None:
        for number in STOPPING:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await rounds.run()

    with traced(settings, "device"):
        asyncio.run(run())
    sys.exit(1 if rounds.failures else 0)


if __name__ == "__main__":
    main()
