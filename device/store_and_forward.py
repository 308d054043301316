"""Store and forward: captures go into a spool whatever becomes of the link, and are sent from it in order."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from device.capture import Capture
from device.device import Device
from device.dialogue import Dialogues
from device.planning import PlanningError
from device.sent import Sent
from device.spool import Spool, SpoolError
from device.uplink import LONGEST_PAUSE_SECONDS, REFUSALS, UplinkError, UplinkStopped
from semlink.service import tracing
from semlink.service.correlation import begin_request

log = structlog.get_logger(__name__)


class StoreAndForward:
    """A device that loses no view while its spool has room.

    Every capture is stored before it is sent. It is removed once its answer is reported or, if that lacks the
    vote, before the wait for it, or when it is refused for good; only then the next one is sent. A capture that
    the server may wish for more of is kept until its vote is reported, while others are sent. Numbers go on where
    the last process with this spool left off, whatever became of it.
    """

    def __init__(self, device: Device, spool: Spool) -> None:
        """`device` captures and sends, and counts failures; nothing happens before `run`, which closes `spool`."""
        self.device, self._spool, self._stop, self._settings = device, spool, device.stop, device.settings
        self._stored, self._removed = asyncio.Event(), asyncio.Event()
        self._sending_ended = asyncio.Event()
        self._all_stored = self._waiting_for_room = False

    async def run(self) -> None:
        """Goes all rounds and sends what they give, after what is left from before.

        A device that is to go a number of rounds gives up sending when it has gone them and nobody has answered
        for `retry_seconds`; any other does only when it is stopped. What is not sent stays in the spool.
        """
        spool, dropped = self._spool, self._spool.status.dropped
        log.info("spool", **spool.status.report)
        async with self.device.dialogues() as dialogues, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send_all(dialogues, tasks))
            await self._store_all()
            self._all_stored = True
            self._stored.set()
        await asyncio.to_thread(spool.close)
        self.device.failures += spool.status.dropped - dropped
        if spool.status.held:
            self.device.failures += not self._stop.is_set()
            log.warning("views are left in the spool", **spool.status.report)

    async def _store_all(self) -> None:
        await self._wait_for_room()
        async for capture in self.device.captures(self._spool.status.next_number):
            uses_pixels = self._settings.plan or self._settings.pictures or capture.view.on_wish
            await asyncio.to_thread(self._spool.put, capture if uses_pixels else capture.without_pixels())
            tracing.end()
            self._stored.set()
            await self._wait_for_room()
            if self._sending_ended.is_set():
                return

    async def _wait_for_room(self) -> None:
        """Without a pace of its own, a camera waits rather than have views dropped."""
        self._removed.clear()
        while (
            not self._settings.every
            and self._spool.status.full
            and not self._stop.is_set()
            and not self._sending_ended.is_set()
        ):
            self._waiting_for_room = True
            await _any_of(self._removed, self._sending_ended, self._stop)
            self._removed.clear()
        self._waiting_for_room = False

    async def _send_all(self, dialogues: Dialogues, tasks: asyncio.TaskGroup) -> None:
        """Sends view after view, the oldest first, until stopped, or until there will be no more."""
        try:
            while not self._stop.is_set():
                self._stored.clear()
                capture = await asyncio.to_thread(self._spool.take)
                if capture is not None:
                    await self._send(capture, dialogues, tasks)
                elif self._all_stored:
                    return
                else:
                    await _any_of(self._stored, self._stop)
        except UplinkStopped as error:
            log.warning("frame stays in the spool", reason=str(error))
            tracing.end(str(error))
        except UplinkError as error:
            log.error("nobody answers, frames stay in the spool", reason=str(error))
            tracing.end(str(error))
        except SpoolError as error:
            self.device.give_up("sending ends", error)
        finally:
            self._sending_ended.set()

    async def _send(self, capture: Capture, dialogues: Dialogues, tasks: asyncio.TaskGroup) -> None:
        """Sends a view until it is answered or refused.

        Raises:
            UplinkStopped: stopped before.
            UplinkError: nobody answered, and there is nothing else to do.
        """
        begin_request(capture.request_id, **capture.ids)
        tracing.begin("stored frame", **capture.ids)
        sent = Sent()
        if not await self._until_answered(dialogues.begin, capture, dialogues, sent):
            await self._remove(capture)
        elif sent.has_vote:
            await self._report(capture, sent)
            await self._remove(capture)
        elif capture.view.on_wish:
            tasks.create_task(self._converse(capture, dialogues, sent))
        else:
            # It is counted, and not to be sent again if this process ends before there is a vote.
            await self._remove(capture)
            tasks.create_task(self._wait(capture, dialogues, sent))

    async def _wait(self, capture: Capture, dialogues: Dialogues, sent: Sent) -> None:
        await self.device.wait(capture, dialogues, sent)
        await self._report(capture, sent)

    async def _converse(self, capture: Capture, dialogues: Dialogues, sent: Sent) -> None:
        """Answers wishes for more of a view until its vote; where that does not come so far, it stays stored."""
        try:
            if await self._until_answered(dialogues.finish, capture, dialogues, sent):
                if self._stop.is_set() and not sent.has_vote:
                    raise UplinkStopped("told to stop before the vote")
                await self._report(capture, sent)
            await self._remove(capture)
        except UplinkError as error:
            log.warning("frame stays in the spool", reason=str(error))
            tracing.end(str(error))

    async def _until_answered(
        self,
        send: Callable[[Capture, Sent], Awaitable[None]],
        capture: Capture,
        dialogues: Dialogues,
        sent: Sent,
    ) -> bool:
        """Sends until there is an answer; False: the view is refused, and given up.

        Raises:
            UplinkStopped: stopped before.
            UplinkError: nobody answered, and there is nothing else to do.
        """
        while True:
            try:
                await send(capture, sent)
                return True
            except UplinkStopped:
                raise
            except PlanningError as error:
                self.device.give_up("frame given up", error)
                return False
            except UplinkError as error:
                if error.code in REFUSALS:
                    self.device.give_up("frame given up", error)
                    return False
                has_no_more_to_do = self._all_stored or (self._waiting_for_room and self._settings.rounds)
                if has_no_more_to_do:
                    raise
                log.warning("frame stays in the spool and is sent again", reason=str(error))
                await dialogues.pause(error.retry_delay_seconds + random.uniform(0, LONGEST_PAUSE_SECONDS))

    async def _report(self, capture: Capture, sent: Sent) -> None:
        await self.device.report(capture, sent, {"taken_at": capture.taken_at, **self._spool.status.report})

    async def _remove(self, capture: Capture) -> None:
        await asyncio.to_thread(self._spool.done, capture.number)
        self._removed.set()


async def _any_of(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for each in waiting:
        each.cancel()
