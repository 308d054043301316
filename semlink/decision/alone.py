"""Deciding alone, on one-way links: whether a device sends a picture after its opinion, and how large a one.

There is no way back, so nobody asks. A device that is sure sends its opinion alone. Otherwise it codes its picture
rung by rung, looks at what the server would see, and sends the first that keeps its own answer.
"""

from collections.abc import Iterator

from semlink.decision.belief import Belief
from semlink.decision.calibration import Calibration, Rung


def rungs_worth_sending(opinion: Belief, calibration: Calibration, price: float) -> Iterator[Rung]:
    """Rungs whose expected gain pays for their bits, from the fewest bytes on; none where the device is sure.

    Args:
        opinion: the device's, calibrated.
        calibration: of the device and the server.
        price: accuracy, 0 to 1, that a bit must bring.
    """
    for rung in calibration.rungs:
        if rung.accuracy_after(opinion.confidence) - opinion.confidence > price * rung.bits:
            yield rung
