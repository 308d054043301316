"""Device: captures views and sends them, directly or through a spool."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from pydantic import SecretBytes

from device.capture import Capture
from device.credentials import Credentials
from device.encoder import Encoder
from device.planning import PlanningError
from device.rounds import Failures, Rounds
from device.sender import Sender
from device.settings import DeviceSettings
from device.spool import Spool
from device.store_and_forward import StoreAndForward
from device.uplink import Uplink, UplinkError, UplinkStopped
from semlink.service import tracing

log = structlog.get_logger(__name__)


@dataclass(frozen=True, eq=False)
class Device:
    """A device's parts.

    Attributes:
        settings: of the device.
        credentials: what every call goes out with.
        encoder: makes frames of views.
        photos: one each round, the first again after the last.
        stop: ends it after the frame under way.
        key: makes the tags of headers, if there is one.
        spool: where captures wait for their answers; None: they are sent or lost. Closed at the end.
        failures: frames that were given up.
    """

    settings: DeviceSettings
    credentials: Credentials
    encoder: Encoder
    photos: list[Path]
    stop: asyncio.Event
    key: SecretBytes | None = None
    spool: Spool | None = None
    failures: Failures = field(default_factory=Failures, init=False)

    async def run(self) -> None:
        """Goes all rounds. A frame that is given up is logged and counted in `failures`; the next one follows."""
        settings = self.settings
        rounds = Rounds(settings, self.encoder, self.photos, self.stop, self.failures)
        async with Uplink(
            settings.to, settings.call_seconds, settings.retry_seconds, self.stop, self.credentials
        ) as uplink:
            sender = Sender(settings, uplink, self.key)
            if self.spool:
                await StoreAndForward(rounds, self.spool, sender, uplink).run()
            else:
                await self._send_directly(rounds, sender)

    async def _send_directly(self, rounds: Rounds, sender: Sender) -> None:
        """Encodes each view while the last one is still on the air."""

        async def send(capture: Capture) -> None:
            try:
                sent = await sender.send(capture)
            except UplinkStopped as error:
                log.warning("frame given up", reason=str(error))
                tracing.end(str(error))
            except (UplinkError, PlanningError) as error:
                self.failures.add("frame given up", error)
            else:
                tasks.create_task(sender.report(capture, sent))

        # Leaving the group waits for the last frame and for all votes.
        async with asyncio.TaskGroup() as tasks:
            sending: asyncio.Task[None] | None = None
            async for number in rounds.numbers():
                capture = await rounds.capture(number)
                if capture is None:
                    continue
                if sending is not None:
                    await sending
                sending = tasks.create_task(send(capture))
