"""Deciding alone, on one-way links: whether a device sends a picture after its opinion, and how large a one.

There is no way back, so nobody asks. A device that is sure sends its opinion alone. Otherwise it codes its picture
rung by rung, looks at what the server would see, and sends the first that keeps its own answer.
"""

from collections.abc import Callable

from semlink.decision.belief import Belief
from semlink.decision.calibration import Calibration, Rung


def rung_to_send(
    opinion: Belief, calibration: Calibration, price: float, label_seen: Callable[[Rung], int]
) -> Rung | None:
    """The rung of the picture that a device sends; None: it is sure, and its opinion is enough.

    Args:
        opinion: the device's, calibrated.
        calibration: of the device and the server.
        price: accuracy, 0 to 1, that a bit must bring.
        label_seen: what the device's own model makes of its picture at a rung, coded and decoded. It is asked from
            the fewest bytes on, of rungs whose expected gain pays for their bits; the last of them is sent anyway.
    """
    worth = [
        rung
        for rung in calibration.rungs
        if rung.accuracy_after(opinion.confidence) - opinion.confidence > price * rung.bits
    ]
    for rung in worth[:-1]:
        if label_seen(rung) == opinion.label:
            return rung
    return worth[-1] if worth else None
