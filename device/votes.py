"""Wait for votes: on a bounded number of objects at once; sending does not wait for it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from device.uplink import Uplink
from semlink.v1 import link_pb2 as pb

log = structlog.get_logger(__name__)

MAX_VOTES_AWAITED = 16
"""Objects whose vote is awaited at once, while later rounds go on."""


class Votes:
    """The votes that one device waits for, until it is stopped."""

    def __init__(self, uplink: Uplink) -> None:
        """Asks over `uplink`, whose `stop` ends all waits."""
        self._uplink = uplink
        self._awaited = self._passed_over = 0

    @contextmanager
    def place(self) -> Iterator[bool]:
        """Whether one more vote may be awaited within the context; that one may not is logged, once."""
        if self._awaited == MAX_VOTES_AWAITED:
            if not self._passed_over:
                log.warning("views are reported without their votes, too many are awaited", awaited=self._awaited)
            self._passed_over += 1
            yield False
            return
        self._awaited += 1
        try:
            yield True
        finally:
            self._awaited -= 1
            if self._passed_over and not self._awaited:
                log.info("votes are awaited again", reported_without=self._passed_over)
                self._passed_over = 0

    async def wait(self, object_id: str, device_id: str, seconds: float) -> pb.WaitVoteResponse | None:
        """What the server says of an object within so many seconds; None if the device was stopped before.

        Raises:
            UplinkError: there is no such object, or nobody answered.
        """
        waiting = asyncio.ensure_future(self._uplink.wait_vote(object_id, seconds, device_id))
        stopping = asyncio.ensure_future(self._uplink.stop.wait())
        await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if waiting.done():
            return waiting.result()
        waiting.cancel()
        return None
