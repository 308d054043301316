"""Dialogue: a view goes out layer by layer, first what is sent unasked, then what the server wishes for."""

import asyncio
import time
from dataclasses import replace

import grpc
import structlog
from tenacity import RetryCallState

from device.capture import Capture, Encoded
from device.sender import FRAME_LOST, Sender
from device.sent import Sent
from device.stills import still
from device.uplink import REFUSALS, Uplink, UplinkError
from device.votes import Votes
from semlink.service import tracing
from semlink.v1 import link_pb2 as pb

log = structlog.get_logger(__name__)

MAX_LAYER = 7
"""Of the contract."""


class Dialogues:
    """The dialogues of one device with the server, several at once."""

    def __init__(self, sender: Sender, uplink: Uplink, vote_seconds: float) -> None:
        """`vote_seconds`: how long a vote, or a wish, is waited for."""
        self._sender, self._uplink, self._seconds = sender, uplink, vote_seconds
        self._votes = Votes(uplink)
        self.pause = uplink.pause

    async def begin(self, capture: Capture, sent: Sent) -> None:
        """Sends what goes out unasked, and what the answers wish for.

        Args:
            capture: the view.
            sent: what was sent of it, to go on with where it was left.

        Raises:
            UplinkError: it was refused, or nobody answered.
            PlanningError: there is no plan for the channel.
        """
        await self._anew_if_forgotten(capture, sent, None)

    async def finish(self, capture: Capture, sent: Sent) -> None:
        """Waits for the vote, if it is not known yet, and meanwhile sends what the server wishes for.

        There is no wait while those on too many other objects are awaited; it ends when the device is stopped.

        Raises:
            UplinkError: the server knows no such object, or nobody answered.
            PlanningError: there is no plan for the channel.
        """
        if sent.has_vote:
            return
        with self._votes.place() as has_place:
            if has_place:
                await self._anew_if_forgotten(capture, sent, time.monotonic() + self._seconds)
        if not sent.has_vote:
            log.warning("views are missing", object_id=capture.object_id, missing=sent.answer.missing_views)

    async def _anew_if_forgotten(self, capture: Capture, sent: Sent, end: float | None) -> None:
        """Begins again where a server that was started anew knows nothing of the view, until it is to be over."""

        def is_forgotten(error: BaseException) -> bool:
            has_layers = capture.view.on_wish or capture.view.following
            return bool(has_layers and isinstance(error, UplinkError) and error.code is grpc.StatusCode.NOT_FOUND)

        def note(state: RetryCallState) -> None:
            log.warning("the server has forgotten the view, which is sent anew", object_id=capture.object_id)
            sent.layers.clear()
            sent.has_declined = False

        seconds = None if end is None else self._seconds
        await self._uplink.retrying(is_forgotten, note, seconds)(self._exchange, capture, sent, end)

    async def _exchange(self, capture: Capture, sent: Sent, end: float | None) -> None:
        """Sends what has to be sent, and then waits for the vote or a wish until `end`, if there is one."""
        for number, view in enumerate(capture.view.layers[len(sent.layers) :], len(sent.layers)):
            if not sent.has_declined:
                await self._send(capture, number, view, sent)
        while not sent.has_vote:
            if wish := sent.wish:
                await self._grant(wish, capture, sent)
            elif end is None:
                return
            else:
                # Wishes end a wait that is made by the device's name.
                name = "" if sent.has_declined else capture.device_id
                answer = await self._votes.wait(capture.object_id, name, max(end - time.monotonic(), 0.0))
                if answer is None:
                    return
                sent.hear(answer)
                if not sent.has_vote and sent.wish is None:
                    return

    async def _grant(self, wish: pb.Wish, capture: Capture, sent: Sent) -> None:
        """Sends the picture that the server wishes for, if there can be such a picture.

        Raises:
            UplinkError, PlanningError: as of `Sender.send`.
        """
        codec = capture.view.on_wish
        log.info("the server wishes for a picture", side=wish.side, most_bytes=wish.most_bytes)
        try:
            if not codec or wish.layer > MAX_LAYER:
                raise ValueError(f"layer {wish.layer} was not offered")
            with tracing.span("still", side=wish.side, most_bytes=wish.most_bytes):
                made = await asyncio.to_thread(still, capture.view, codec, wish.side, wish.most_bytes)
        except ValueError as error:
            log.error("the wish is passed over", reason=str(error))
            sent.has_declined = True
            return
        last = replace(made, on_wish="") if wish.layer == MAX_LAYER else made
        await self._send(capture, wish.layer, last, sent, wish)

    async def _send(
        self, capture: Capture, number: int, view: Encoded, sent: Sent, wish: pb.Wish | None = None
    ) -> None:
        """Sends a layer; a picture that is refused, or is lost under every code, costs no opinion.

        Raises:
            UplinkError, PlanningError: as of `Sender.send`.
        """
        try:
            sent.layers.append(await self._sender.send(capture, number, view, sent, wish))
        except UplinkError as error:
            is_lost = error.info.reason == FRAME_LOST
            if not number or not (is_lost or error.code in REFUSALS):
                raise
            log.error("the picture is lost" if is_lost else "the picture is refused", reason=str(error))
            sent.has_declined = True
