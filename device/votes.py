"""Wait for the vote on an object: of a bounded number of objects at once; sending does not wait for it."""

import asyncio

import structlog

from device.uplink import Uplink, UplinkError
from semlink.v1 import link_pb2 as pb

log = structlog.get_logger(__name__)

MAX_VOTES_AWAITED = 16
"""Objects whose vote is awaited at once, while later rounds go on."""

VoteAnswer = pb.ClassifyResponse | pb.WaitVoteResponse
"""Either has the vote or, without one, the number of missing views."""


class Votes:
    """The votes that one device waits for, each at most `seconds` and until the device is stopped."""

    def __init__(self, uplink: Uplink, seconds: float) -> None:
        """Asks over `uplink`, whose `stop` ends all waits."""
        self._uplink, self._seconds = uplink, seconds
        self._awaited = self._passed_over = 0

    async def after_wait(self, object_id: str, response: pb.ClassifyResponse) -> VoteAnswer:
        """The last answer on an object after the wait for its vote; `response`, if there was no wait.

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
        answer: VoteAnswer = response
        try:
            answer = await self._wait(object_id) or response
        except UplinkError as error:
            log.error("no vote", object_id=object_id, reason=str(error))
        finally:
            self._awaited -= 1
            if self._passed_over and not self._awaited:
                log.info("votes are awaited again", reported_without=self._passed_over)
                self._passed_over = 0
        if not answer.HasField("vote"):
            log.warning("views are missing", object_id=object_id, missing=answer.missing_views)
        return answer

    async def _wait(self, object_id: str) -> pb.WaitVoteResponse | None:
        """The server's answer at the end of the wait; None if the device was stopped before."""
        waiting = asyncio.ensure_future(self._uplink.wait_vote(object_id, self._seconds))
        stopping = asyncio.ensure_future(self._uplink.stop.wait())
        await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if waiting.done():
            return waiting.result()
        waiting.cancel()
        return None
