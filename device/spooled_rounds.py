"""Rounds with a spool: the camera goes on whatever becomes of the link, and what waits is sent in order."""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import grpc
import structlog

from device.capture import Capture, from_stored, to_stored
from device.planning import PlanningError
from device.rounds import Rounds
from device.spool import Spool
from device.spool_file import SpoolError
from device.uplink import LONGEST_PAUSE_SECONDS, Uplink, UplinkError, UplinkStopped
from semlink.service import tracing
from semlink.service.correlation import begin_request

log = structlog.get_logger(__name__)

REFUSALS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
)
"""What is said of one frame, and would be said of it again. All else passes, or is mended by somebody."""


@dataclass(eq=False, kw_only=True)
class SpooledRounds(Rounds):
    """The life of a device that loses no view while its spool has room.

    Every view is stored before it is sent. It is removed once its answer is reported or, if that lacks the vote,
    before the wait for it, or when it is refused for good; only then the next one is sent.
    Numbers go on where the last process with this spool left off, whatever became of it.

    Attributes:
        spool: closed at the end.
    """

    spool: Spool

    def __post_init__(self) -> None:
        """Nothing is stored or sent before `run`."""
        super().__post_init__()
        self._stored, self._removed = asyncio.Event(), asyncio.Event()
        self._sending_ended = asyncio.Event()
        self._all_stored = self._waiting_for_room = False

    async def run(self) -> None:
        """Goes all rounds and sends what they give, after what is left from before.

        A device that is to go a number of rounds gives up sending when it has gone them and nobody has answered
        for `retry_seconds`; any other does only when told to stop. What is not sent stays in the spool.
        """
        spool = self.spool
        dropped = spool.standing.counts.dropped
        log.info("spool", **self._standing_of_spool())
        async with self._uplink() as uplink, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send_all(uplink, tasks))
            await self._store_all()
            self._all_stored = True
            self._stored.set()
        lost = await asyncio.to_thread(spool.close)
        self.failures += lost + spool.standing.counts.dropped - dropped
        if spool.standing.views:
            self.failures += not self.stop.is_set()
            log.warning("views are left in the spool", **self._standing_of_spool())

    async def _store_all(self) -> None:
        async for number in self._numbers(self.spool.standing.counts.next_number):
            if not self.settings.every:
                await self._wait_for_room()
            if self._sending_ended.is_set():
                return
            capture = await self._capture(number)
            if capture is not None:
                stored = to_stored(capture, with_pixels=bool(self.settings.plan or self.settings.pictures))
                await asyncio.to_thread(self.spool.put, stored)
                tracing.tracer.end()
                self._stored.set()

    async def _wait_for_room(self) -> None:
        """Without a pace of its own, a camera waits rather than have views dropped."""
        self._removed.clear()
        while self.spool.standing.full and not self.stop.is_set() and not self._sending_ended.is_set():
            self._waiting_for_room = True
            await _any_of(self._removed, self._sending_ended, self.stop)
            self._removed.clear()
        self._waiting_for_room = False

    async def _send_all(self, uplink: Uplink, tasks: asyncio.TaskGroup) -> None:
        """Sends view after view, the oldest first, until told to stop, or until there will be no more."""
        try:
            while not self.stop.is_set():
                self._stored.clear()
                stored = await asyncio.to_thread(self.spool.take)
                if stored is not None:
                    await self._send_stored(uplink, from_stored(stored), tasks)
                elif self._all_stored:
                    return
                else:
                    await _any_of(self._stored, self.stop)
        except UplinkStopped as error:
            log.warning("frame stays in the spool", reason=str(error))
        except UplinkError as error:
            log.error("nobody answers, frames stay in the spool", reason=str(error))
        except SpoolError as error:
            self.failures += 1
            log.error("sending ends", reason=str(error))
        finally:
            self._sending_ended.set()

    async def _send_stored(self, uplink: Uplink, capture: Capture, tasks: asyncio.TaskGroup) -> None:
        """Sends a view until it is answered or refused.

        Raises:
            UplinkStopped: told to stop before.
            UplinkError: nobody answered, and there is nothing else to do.
        """
        ids: dict[str, Any] = {
            "object_id": capture.object_id,
            "device_id": capture.device_id,
            "frame_id": capture.number,
        }
        begin_request(capture.request_id, **ids)
        tracing.tracer.begin("stored frame", **ids)
        while True:
            try:
                sent = await self._classify(uplink, capture)
            except UplinkStopped as error:
                tracing.tracer.end(str(error))
                raise
            except (UplinkError, PlanningError) as error:
                if isinstance(error, PlanningError) or error.code in REFUSALS:
                    self.failures += 1
                    log.error("frame given up", reason=str(error))
                    tracing.tracer.end(str(error))
                    await self._remove(capture)
                    return
                if self.settings.rounds and (self._all_stored or self._waiting_for_room):
                    tracing.tracer.end(str(error))
                    raise
                log.warning("frame stays in the spool and is sent again", reason=str(error))
                await uplink.pause(error.retry_delay_seconds + random.uniform(0, LONGEST_PAUSE_SECONDS))
                continue
            if sent.response.HasField("vote"):
                await self._report(uplink, capture, sent)
                await self._remove(capture)
            else:
                # It is counted, and not to be sent again if this process ends before there is a vote.
                await self._remove(capture)
                tasks.create_task(self._report(uplink, capture, sent))
            return

    async def _remove(self, capture: Capture) -> None:
        await asyncio.to_thread(self.spool.done, capture.number)
        self._removed.set()

    def _spool_report(self, capture: Capture) -> dict[str, Any]:
        return {"taken_at": capture.taken_at, **self._standing_of_spool()}

    def _standing_of_spool(self) -> dict[str, Any]:
        now = self.spool.standing
        dropped, faults = now.counts.dropped, now.counts.faults
        return {"held": now.views, "bytes": now.bytes, "dropped": dropped, "faults": faults}


async def _any_of(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for each in waiting:
        each.cancel()
