"""The wait for the other views of an object: of so many votes at once, and sending waits for none of them."""

import asyncio

import structlog

from device.uplink import Uplink, UplinkError
from semlink.v1 import link_pb2 as pb

log = structlog.get_logger(__name__)

MAX_VOTES_AWAITED = 16
"""Objects whose vote is awaited at once, while later rounds go on."""

Standing = pb.ClassifyResponse | pb.WaitVoteResponse
"""Either tells the vote or, without one, how many views are missing."""


class Votes:
    """The votes that one device waits for, each at most `seconds` and until it is told to stop."""

    def __init__(self, seconds: float, stop: asyncio.Event) -> None:
        """`stop` ends all waits."""
        self._seconds, self._stop = seconds, stop
        self._awaited = self._passed_over = 0

    async def standing(self, uplink: Uplink, object_id: str, response: pb.ClassifyResponse) -> Standing:
        """How the vote on an answered view's object stands after the wait for it; `response`, if there was none.

        There is none for a vote that came with the answer, nor while `MAX_VOTES_AWAITED` others are awaited. That
        is logged when it begins and when it is over; so is a vote that was awaited in vain.
        """
        if response.HasField("vote"):
            return response
        if self._awaited == MAX_VOTES_AWAITED:
            if not self._passed_over:
                log.warning("views are reported without their votes, too many are awaited", awaited=self._awaited)
            self._passed_over += 1
            return response
        self._awaited += 1
        try:
            standing = await self._wait(uplink, object_id) or response
        except UplinkError as error:
            log.error("no vote", object_id=object_id, reason=str(error))
            standing = response
        finally:
            self._awaited -= 1
            if self._passed_over and not self._awaited:
                log.info("votes are awaited again", reported_without=self._passed_over)
                self._passed_over = 0
        if not standing.HasField("vote"):
            log.warning("views are missing", object_id=object_id, missing=standing.missing_views)
        return standing

    async def _wait(self, uplink: Uplink, object_id: str) -> pb.WaitVoteResponse | None:
        """What the server says at the end; None if the device was told to stop before."""
        waiting = asyncio.ensure_future(uplink.wait_vote(object_id, self._seconds))
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if waiting.done():
            return waiting.result()
        waiting.cancel()
        return None
