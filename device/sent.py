"""Bits on air: what of a view went out, layer by layer, what was said to it, and every bit that this took."""

from dataclasses import dataclass, field

from google.rpc.error_details_pb2 import ErrorInfo

from device.capture import Encoded
from device.planning import PlannedView
from semlink.v1 import link_pb2 as pb

LEAST_ANSWER_BITS = 8
"""Bits that an answer that wishes for nothing is counted as, 8 being the least that can be sent."""
Answer = pb.ClassifyResponse | pb.WaitVoteResponse
"""Either may have a wish, and has the vote or, without one, the number of missing views."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A frame that was answered.

    Attributes:
        number: of the layer.
        view: as it was sent at last.
        planned: the same with its plan, if it had one.
        response: the server's.
        round_trip_ms: time until then.
        wish: what it was sent for, if it was wished for.
    """

    number: int
    view: Encoded
    planned: PlannedView | None
    response: pb.ClassifyResponse
    round_trip_ms: float
    wish: pb.Wish | None = None


@dataclass(eq=False)
class Sent:
    """A view that is being sent.

    Attributes:
        layers: those that were answered, the first one first.
        answer: the last that was said of the view.
        has_declined: a picture could not be made, or was refused; the server decides without, and gets no other.
        design_ber: bit error rate that the next frame's code is to be for, as the last one taught; 0: as was told.
        uplink_bits: of all frames and plans, with every try, and parity where the channel counts it.
        downlink_bits: of all wishes, and a byte for every other answer.
    """

    layers: list[Layer] = field(default_factory=list)
    answer: Answer = field(default_factory=pb.WaitVoteResponse)
    has_declined: bool = False
    design_ber: float = 0.0
    uplink_bits: int = 0
    downlink_bits: int = 0

    @property
    def has_vote(self) -> bool:
        """The vote is known."""
        return self.answer.HasField("vote")

    @property
    def wish(self) -> pb.Wish | None:
        """What the server wants, if it wants something that it has not got and may get."""
        wanted = self.answer.wish if self.answer.HasField("wish") and not self.has_declined else None
        return wanted if wanted and self.layers and wanted.layer > self.layers[-1].number else None

    def hear(self, answer: Answer) -> None:
        """Takes an answer in."""
        self.answer = answer
        self.downlink_bits += max(8 * answer.wish.ByteSize(), LEAST_ANSWER_BITS)

    def count(self, request: pb.ClassifyRequest, air_bits: int) -> None:
        """Counts a frame that was on the air; `air_bits` as the channel says, 0 where it does not."""
        self.uplink_bits += air_bits or 8 * len(request.frame)
        if request.HasField("plan"):
            self.uplink_bits += 8 * request.plan.ByteSize()

    def count_failed(self, request: pb.ClassifyRequest, info: ErrorInfo) -> None:
        """Counts a frame that was on the air in vain, and the refusal if there was one."""
        told = info.metadata.get("air_bits", "")
        self.count(request, int(told) if told.isdecimal() and len(told) < 12 else 0)
        if info.reason:
            self.downlink_bits += LEAST_ANSWER_BITS
