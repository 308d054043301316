"""python -m device."""

import asyncio
import signal
import sys

from device.settings import DeviceSettings
from semlink.photos import PhotosError, find_photos
from semlink.runtime.logs import configure_logs
from semlink.runtime.settings import read_settings
from semlink.weights import WeightsError


async def run(settings: DeviceSettings) -> int:
    """Runs the device until its rounds are over or it is told to stop; returns how many frames failed."""
    # Settings are checked and explained before torch is loaded, which takes seconds.
    from device.encoder import Encoder
    from device.rounds import Rounds

    photos = find_photos(settings.images)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    encoder = await asyncio.to_thread(Encoder, settings)
    rounds = Rounds(settings, encoder, photos, stop)
    await rounds.run()
    return rounds.failures


def main() -> None:
    """Reads the settings and runs the device. Exits with 1 if a frame was not answered."""
    settings = read_settings(DeviceSettings, "device")
    configure_logs(settings, "device")
    try:
        failures = asyncio.run(run(settings))
    except (PhotosError, WeightsError) as error:
        sys.exit(f"device: {error}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
