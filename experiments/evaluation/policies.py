"""Policies measured: what views and votes come to where devices send opinions, and pictures only now and then.

The same functions decide as in the processes: `semlink.decision`. What becomes of sound pictures is read from the
looks (`experiments.evaluation.looks`); damaged ones are decoded and looked at anew.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from experiments.classifiers import Classifier, load_classifier
from experiments.data.image_sets import Example, view_groups
from experiments.evaluation.intervals import accuracy
from experiments.evaluation.looks import Looks, Model, Still
from experiments.evaluation.policy_cells import PolicyCell
from experiments.evaluation.rows import to_hex
from experiments.evaluation.run import Run
from semlink.access.protection import MOST_DESIGN_BER, revised_design
from semlink.channel.base import Arrival, Channel
from semlink.channel.over_bits import OverBits
from semlink.channel.segments import WholeFrame
from semlink.decision.alone import rung_to_send
from semlink.decision.asking import Ask, ViewState, decide
from semlink.decision.belief import Belief
from semlink.decision.calibration import Calibration, Rung
from semlink.decision.fusing import fuse, together
from semlink.decision.voting import majority_vote
from semlink.frame import Frame, FrameError
from semlink.source.codec import coder
from semlink.source.codec.frame import CodecFrame
from semlink.source.opinion import OpinionFrame, opinion_frame
from semlink.v1.link_pb2 import Wish
from semlink.vision.images import IMAGE_SIZE
from semlink.vision.weights import DEVICE_MODEL

ANSWER_BITS = 8
"""Of an answer that wishes for nothing, at least."""
MOST_ATTEMPTS = 5
"""Tries of a layer that is lost, where there is a way back."""


@dataclass
class Spent:
    """What a view has cost so far."""

    up: int = 0
    """Bits from the device: frames with all that protects them, lost ones too."""
    down: int = 0
    """Bits to the device: answers and wishes."""
    frames: int = 0
    pictures: int = 0


@dataclass
class View:
    """A view as the server knows it."""

    image: int
    spent: Spent = field(default_factory=Spent)
    opinion: Belief | None = None
    """None: it did not arrive."""
    belief: Belief | None = None
    """With its look; None: nothing arrived."""
    looks: int = 0
    channel: Channel | None = None
    """With the protection that it has come to; None: as at first."""


class Link:
    """Sends layers of views over a channel, and looks at what arrives."""

    def __init__(self, channel: Channel, looks: Looks, server: Model, calibration: Calibration, seed: int) -> None:
        """The looks have the stills of all rungs of the calibration, and the server's logits."""
        self._channel, self._seed, self._calibration, self._server = channel, seed, calibration, server
        self._protects = getattr(channel, "access", None) == "ldpc"
        stills = {Still(rung.side, rung.budget_bytes) for rung in calibration.rungs}
        self._frames = {still: looks.frames(still) for still in stills}
        self._logits = {still: looks.logits(server, still) for still in stills}

    def send(self, frame: Frame, view: View, layer: int, *, retries: bool) -> Frame | None:
        """The frame as it arrives, up to its first lost segment; None: nothing can be made of it.

        Where there is a way back, it is then sent again for twice the bit error rate, as devices do, and what
        follows it is protected for the bit error rate that the receiver has measured.
        """
        for attempt in range(MOST_ATTEMPTS if retries else 1):
            channel = view.channel or self._channel
            generator = np.random.default_rng((self._seed, view.image, layer, attempt))
            state = channel.draw_state(
                lambda *of: np.random.default_rng((self._seed, view.image, 1, *of)), frame=view.image
            )
            exposed = WholeFrame(frame) if self._protects else frame
            arrival = channel.transmit(exposed, None, state, generator)
            view.spent.up += 8 * len(frame.to_bytes()) if arrival.air_bits is None else arrival.air_bits
            view.spent.down += ANSWER_BITS * retries
            view.spent.frames += 1
            if not isinstance(exposed, WholeFrame):
                return frame.with_payload(arrival.received(frame)).without(arrival.missing)
            damaged = bool((arrival.flips < frame.header_bits).any())  # its CRC-32 tells
            arrived = None if damaged else exposed.arrived(arrival)
            if retries and isinstance(channel, OverBits):
                view.channel = replace(channel, design_ber=_revised(channel, arrival, lost=arrived is None))
            if arrived is not None:
                return arrived
        return None

    def say(self, view: View, opinion: Belief, *, retries: bool) -> None:
        """Sends the opinion; the view then knows what arrived of it."""
        arrived = self.send(opinion_frame(opinion), view, 0, retries=retries)
        if isinstance(arrived, OpinionFrame):
            view.opinion = view.belief = arrived.belief(opinion.classes)

    def show(self, view: View, still: Still, *, retries: bool) -> None:
        """Sends a picture; the view then believes what the opinion and the look at it say together."""
        sent = CodecFrame.from_bytes(self._frames[still][view.image])
        arrived = self.send(sent, view, 1, retries=retries)
        view.spent.pictures += 1
        view.looks += 1
        if not isinstance(arrived, CodecFrame) or not arrived.payload:
            return
        if arrived.payload == sent.payload:
            look = self._logits[still][view.image]
        else:
            try:
                look = self._classifier.logits(coder.decode(arrived)[None])[0]
            except FrameError:  # damaged beyond decoding
                return
        side = max(arrived.head.height, arrived.head.width)
        rung = self._calibration.rung_of(side, len(arrived.to_bytes()))
        view.belief = fuse(view.opinion, look, rung)

    @cached_property
    def _classifier(self) -> Classifier:
        return load_classifier(self._server.name, self._server.weights)


def _revised(channel: OverBits, arrival: Arrival, *, lost: bool) -> float | None:
    """The bit error rate that a device protects for after an answer: twice that where the frame was lost."""
    design = channel.design_ber or min(channel.own_ber, MOST_DESIGN_BER)
    if design == 0:  # of lost packets alone there is none
        return None
    if lost:
        return min(2 * design, MOST_DESIGN_BER)
    if arrival.measured_ber is None or not arrival.air_bits:
        return design
    return revised_design(design, arrival.measured_ber, arrival.air_bits)


def evaluate_policies(
    run: Run,
    calibration: Calibration,
    examples: Sequence[Example],
    pixels: NDArray[np.uint8],
    cells: Sequence[PolicyCell],
    progress: Progress,
) -> Iterator[tuple[PolicyCell, dict[str, Any]]]:
    """Measures policies one after the other.

    Args:
        run: models, seed and processes; the looks are in its cache.
        calibration: that of the cells.
        examples: the images with the labels of the server's model; views of a group are one object.
        pixels: (B, 224, 224, 3) their pixels.
        cells: what to measure.
        progress: progress bar.

    Yields:
        Each cell and the fields of its row, beside those that `evaluate` gives of any cell:
            `bits`: mean of a view, from the device; `downlink_bits`: to it; `true_ratio`: of both.
            `decision_bits`: mean of a decision, both ways: of a group of views, or where there are none, an image.
            `pictures`: share of views that sent one; `frames`: mean of a view, those sent again included.
            `fused`, `correct_fused`: what all views of a group together make likeliest, where there are groups.
    """
    device, server = Model(DEVICE_MODEL, run.device_weights), Model(run.server_model, run.server_weights)
    looks = Looks(list(pixels), run.cache)
    stills = sorted({Still(rung.side, rung.budget_bytes) for rung in calibration.rungs})
    looks.measure([None], [device], run.processes, progress)
    looks.measure(stills, [device, server], run.processes, progress)
    opinions = _opinions(run, calibration, looks.logits(device), pixels, progress)
    own = {still: looks.logits(device, still).argmax(axis=1) for still in stills}
    groups = view_groups(examples)
    grouped = {image for members in groups for image in members}
    objects = [*groups, *([image] for image in range(len(examples)) if image not in grouped)]
    for cell in progress.track(cells, description="policies"):
        link, price = Link(cell.channel, looks, server, calibration, run.seed), cell.price(calibration)
        views: dict[int, View] = {}
        for members in objects:
            here = [View(image) for image in members]
            if cell.method == "ask":
                _ask(link, here, [opinions[image] for image in members], calibration, price)
            else:
                for view in here:
                    _alone(link, view, opinions[view.image], calibration, price, own)
            views |= {view.image: view for view in here}
        yield cell, _summary([views[image] for image in range(len(examples))], examples, objects, groups)


def _opinions(
    run: Run, calibration: Calibration, logits: NDArray[np.float32], pixels: NDArray[np.uint8], progress: Progress
) -> list[Belief]:
    """What the device thinks of each picture, of those that it is unsure of by a look at the mirrored one too."""
    unsure = [image for image, once in enumerate(logits) if calibration.wants_mirror(once)]
    device = Model(DEVICE_MODEL, run.device_weights)
    mirrored = Looks([np.ascontiguousarray(pixels[image][:, ::-1]) for image in unsure], run.cache)
    mirrored.measure([None], [device], run.processes, progress)
    second = dict(zip(unsure, mirrored.logits(device), strict=True)) if unsure else {}
    return [
        calibration.opinion(once, second[image]) if image in second else calibration.opinion(once)
        for image, once in enumerate(logits)
    ]


def _ask(
    link: Link, views: Sequence[View], opinions: Sequence[Belief], calibration: Calibration, price: float
) -> None:
    """A dialogue about one object: opinions, wishes until there are none, and the pictures wished for."""
    for view, opinion in zip(views, opinions, strict=True):
        link.say(view, opinion, retries=True)
    there = [view for view in views if view.belief is not None]
    while asks := _wishes(there, calibration, price):
        for ask in asks:
            view = there[ask.view]
            wish = Wish(layer=1 + view.looks, most_bytes=ask.most_bytes, side=ask.side)
            view.spent.down += 8 * wish.ByteSize()
            link.show(view, Still(ask.side, ask.most_bytes), retries=True)
    if len(views) > 1:  # each waits for the vote
        for view in views:
            view.spent.down += ANSWER_BITS


def _wishes(views: Sequence[View], calibration: Calibration, price: float) -> tuple[Ask, ...]:
    states = [ViewState(view.belief, view.looks, may_be_asked=True) for view in views if view.belief is not None]
    return decide(states, calibration, price) if states else ()


def _alone(
    link: Link,
    view: View,
    opinion: Belief,
    calibration: Calibration,
    price: float,
    own: dict[Still, NDArray[np.int64]],
) -> None:
    """A device that nobody answers: its opinion, and the picture that it finds worth its bits."""

    def label_seen(rung: Rung) -> int:
        return int(own[Still(rung.side, rung.budget_bytes)][view.image])

    # What the device knows of its opinion is what it says: quantized.
    said = opinion_frame(opinion).belief(opinion.classes)
    link.say(view, opinion, retries=False)
    if (rung := rung_to_send(said, calibration, price, label_seen)) is not None:
        link.show(view, Still(rung.side, rung.budget_bytes), retries=False)


def _decision_bits(views: Sequence[View], objects: Sequence[Sequence[int]]) -> float:
    spent = [views[image].spent for members in objects for image in members]
    return sum(each.up + each.down for each in spent) / len(objects)


def _summary(
    views: Sequence[View],
    examples: Sequence[Example],
    objects: Sequence[Sequence[int]],
    groups: Sequence[Sequence[int]],
) -> dict[str, Any]:
    correct = [
        view.belief is not None and view.belief.label == example.label
        for view, example in zip(views, examples, strict=True)
    ]
    image_bits = 8 * IMAGE_SIZE * IMAGE_SIZE * 3
    spent = Counter[str]()
    for view in views:
        spent.update(vars(view.spent))
    both, count = spent["up"] + spent["down"], len(views)

    def votes(decision: Callable[[Sequence[Belief]], int]) -> tuple[Any, str | None]:
        """Accuracy of a group's decision, and which are right."""
        right = []
        for members in groups:
            beliefs = [belief for image in members if (belief := views[image].belief) is not None]
            right.append(bool(beliefs) and decision(beliefs) == examples[members[0]].label)
        samples = [examples[first].sample for first, *_ in groups]
        return (accuracy(right, samples), to_hex(right)) if groups else (None, None)

    four_view, correct_votes = votes(
        lambda beliefs: majority_vote([each.label for each in beliefs], [each.confidence for each in beliefs])
    )
    fused, correct_fused = votes(lambda beliefs: together(beliefs).label)
    return {
        "single": accuracy(correct, [example.sample for example in examples]),
        "correct": to_hex(correct),
        "four_view": four_view,
        "correct_votes": correct_votes,
        "fused": fused,
        "correct_fused": correct_fused,
        "bits": spent["up"] / count,
        "downlink_bits": spent["down"] / count,
        "true_ratio": both / count / image_bits,
        "decision_bits": _decision_bits(views, groups or objects),
        "pictures": spent["pictures"] / count,
        "frames": spent["frames"] / count,
        "lost": sum(view.belief is None for view in views) / count,
    }
