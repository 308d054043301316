"""Entry point: `semlink-device`, or `python -m device`."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from device.rounds import Clock, check_clock_rounds
from device.settings import DeviceSettings, ShowSpoolSettings
from device.sources.opening import open_source
from device.sources.source import SourceError
from device.spool import Spool, SpoolError, spool_contents
from device.uplink import Credentials
from semlink.decision.calibration import CalibrationError
from semlink.service.header_tag import device_key
from semlink.service.logs import configure_logs
from semlink.service.settings import StartupError, read_settings
from semlink.service.tracing import traced
from semlink.vision.engines import EngineError
from semlink.vision.photos import PhotosError
from semlink.vision.weights import WeightsError

MISTAKES = CalibrationError, EngineError, PhotosError, SourceError, SpoolError, StartupError, WeightsError
"""Of those who start a device, explained before it begins."""
STOPPING = (signal.SIGTERM, signal.SIGINT)


def main() -> None:
    """Reads the settings and goes all rounds, or until stopped. Exits with 1 if a frame failed."""
    if "--show-spool" in sys.argv[1:]:  # for which no camera's settings are needed
        show_spool(read_settings(ShowSpoolSettings, "device").spool)
        return
    settings = read_settings(DeviceSettings, "device")
    if settings.show_spool and settings.spool:
        show_spool(settings.spool)
        return
    configure_logs(settings, "device")
    # Until the first round there is nothing to finish. An exception might meet an import of C++, which aborts.
    for number in STOPPING:
        signal.signal(number, lambda *_: os._exit(0))
    stop = asyncio.Event()
    try:
        source = open_source(settings.images, settings.watch, settings.every)
        credentials = Credentials.of(settings)
        key = device_key(settings.header_key_file)
        spool = Spool(settings.spool, settings.spool_bytes) if settings.spool else None
        if spool and settings.clock_rounds and settings.every:
            check_clock_rounds(spool.status.next_number, settings.every, Clock())
        # Mistakes are explained before torch is loaded, which takes seconds.
        from device.device import Device
        from device.encoder import Encoder
        from device.opinion_encoder import OpinionEncoder
        from device.store_and_forward import StoreAndForward

        encoder = Encoder.of(settings) if settings.policy == "all" else OpinionEncoder.of(settings)
        device = Device(settings, credentials, encoder, source, stop, key)
        forward = StoreAndForward(device, spool) if spool else device
    except MISTAKES as error:
        sys.exit(f"device: {error}")

    async def run() -> None:
        for number in STOPPING:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await forward.run()

    with traced(settings, "device"):
        asyncio.run(run())
    sys.exit(1 if device.failures else 0)


def show_spool(path: Path) -> None:
    """Prints what a spool holds, also while a device uses it; explains why not, and exits with 1."""
    try:
        for each in spool_contents(path):
            print(json.dumps(each))
    except SpoolError as error:
        sys.exit(f"device: {error}")


if __name__ == "__main__":
    main()
