"""Calibrating the link that asks: temperature, weights of looks and operating points, fitted on pictures.

Everything is read from logits that were measured once: the device's on each picture, and both models' on the still
of every rung. Fitted by maximum likelihood; the operating points are then those of pictures that their fit has not
seen (cross-fitting in five folds), so that they don't flatter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, logit, logsumexp, softmax

from experiments.data.image_sets import ImageSet
from experiments.evaluation.looks import Looks, Model, Still
from semlink.decision.alone import rung_to_send
from semlink.decision.asking import ViewState, decide
from semlink.decision.belief import Belief
from semlink.decision.calibration import LEAST_DOUBT, MAX_WEIGHT, Calibration, Curve, OperatingPoint, Rung
from semlink.decision.fusing import fuse
from semlink.decision.voting import majority_vote
from semlink.source.opinion import opinion_frame
from semlink.vision.images import model_pixels, open_image
from semlink.vision.storage import read_weights
from semlink.vision.weights import find_weights

LADDER = (Still(224, 15053),)
"""Pictures that are asked for, all of a quality that is enough. With smaller ones beside, gains of a point or two
would have to be told apart by some hundred photos, and the wrong ones are chosen."""
MIRROR_BELOW = 0.5
"""So it is with a third of photos; a second look at the others changes next to nothing."""
FOLDS = 5
PRICES = tuple(np.geomspace(1e-7, 1e-5, 81).tolist())
"""Of a bit, in accuracy: from pictures for nearly every view to none."""
OPINION_BITS = 128
"""Of an opinion's frame."""
MOST_TEMPERATURE = 10.0
"""Of the device's logits, and 1 over the least."""
SLOPE, SLOPE_WEIGHT = 0.7, 0.01
"""Prior of the logistic regression's slope, its mean and weight: a few hundred pictures leave the slope vague."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Stills of one rung.

    Attributes:
        server: (B, C) the server's logits on each picture's still.
        device: (B, C) the device's.
        sizes: (B,) bytes of each frame, header included.
    """

    server: NDArray
    device: NDArray
    sizes: NDArray

    def part(self, chosen: NDArray) -> "Seen":
        """Some of the pictures."""
        return Seen(self.server[chosen], self.device[chosen], self.sizes[chosen])


@dataclass(frozen=True, eq=False)
class Table:
    """What a device's and a server's model make of labelled pictures.

    Attributes:
        labels: (B,) classes.
        device: (B, C) the device's logits.
        clean: (B, C) the server's on the undamaged pictures.
        looks: stills by (longer side, bytes of a frame at most).
        objects: (B,) numbers of the objects; pictures of the same are views that vote together.
        mirrored: (B, C) the device's logits on the mirrored pictures; None: it never looks at those.
    """

    labels: NDArray
    device: NDArray
    clean: NDArray
    looks: dict[tuple[int, int], Seen]
    objects: NDArray
    mirrored: NDArray | None = None

    def part(self, chosen: NDArray) -> "Table":
        """Some of the pictures."""
        looks = {rung: seen.part(chosen) for rung, seen in self.looks.items()}
        labels, device, clean, objects = (
            each[chosen] for each in (self.labels, self.device, self.clean, self.objects)
        )
        mirrored = None if self.mirrored is None else self.mirrored[chosen]
        return Table(labels, device, clean, looks, objects, mirrored)

    def device_looks(self, calibration: Calibration) -> list[list[NDArray]]:
        """Logits of each picture, and of the mirrored one where a device looks at that, too."""
        if self.mirrored is None:
            return [[once] for once in self.device]
        return [
            [once, mirrored] if calibration.wants_mirror(once) else [once]
            for once, mirrored in zip(self.device, self.mirrored, strict=True)
        ]

    def views(self) -> list[NDArray[np.intp]]:
        """Indices of the pictures of each object."""
        return [np.flatnonzero(self.objects == each) for each in np.unique(self.objects)]


@dataclass(frozen=True)
class Decided:
    """What came of one object."""

    label: int
    """That won the vote."""
    bits: float
    """Of all frames, a view."""


Policy = Callable[["Replay", NDArray[np.intp], float], Decided]
"""Of the views of an object, at a price."""


class Replay:
    """Pictures of a table, answered as a device and a server of a calibration would."""

    def __init__(self, table: Table, calibration: Calibration) -> None:
        """Nothing is asked yet; what is asked twice is computed once."""
        self.table = table
        self.calibration = calibration
        classes = table.device.shape[1]
        self.opinions = [
            opinion_frame(calibration.opinion(*looks)).belief(classes) for looks in table.device_looks(calibration)
        ]
        self._looked: dict[tuple[int, Rung], Belief] = {}

    def seen(self, rung: Rung) -> Seen:
        """Stills of a rung."""
        return self.table.looks[rung.side, rung.budget_bytes]

    def looked(self, view: int, rung: Rung) -> Belief:
        """The server's belief once it has looked at a view's still."""
        if (view, rung) not in self._looked:
            self._looked[view, rung] = fuse(self.opinions[view], self.seen(rung).server[view], rung)
        return self._looked[view, rung]

    def label_seen(self, view: int, rung: Rung) -> int:
        """What the device makes of a view's still."""
        return int(self.seen(rung).device[view].argmax())


def ask(replay: Replay, views: NDArray[np.intp], price: float) -> Decided:
    """By the dialogue: opinions of all views, then pictures that the server asks for."""
    calibration = replay.calibration
    states = [ViewState(replay.opinions[view], 0, True) for view in views]
    bits = OPINION_BITS * len(views)
    while asks := decide(states, calibration, price):
        for wanted in asks:
            rung, view = calibration.rung_of(wanted.side, wanted.most_bytes), int(views[wanted.view])
            states[wanted.view] = ViewState(replay.looked(view, rung), 1, True)
            bits += 8 * int(replay.seen(rung).sizes[view])
    return _decided([state.belief for state in states], bits)


def send_alone(replay: Replay, views: NDArray[np.intp], price: float) -> Decided:
    """On one-way links: each device for itself."""
    beliefs, bits = [], 0
    for view in map(int, views):
        opinion = replay.opinions[view]
        rung = rung_to_send(opinion, replay.calibration, price, partial(replay.label_seen, view))
        beliefs.append(opinion if rung is None else replay.looked(view, rung))
        bits += OPINION_BITS + (0 if rung is None else 8 * int(replay.seen(rung).sizes[view]))
    return _decided(beliefs, bits)


POLICIES: dict[str, Policy] = {"ask": ask, "alone": send_alone}
STEPS = FOLDS * len(POLICIES) * len(PRICES)
"""Of a fit."""


def measure(
    images: ImageSet, device: Model, server: Model, cache: Path, processes: int, progress: Progress
) -> Table:
    """The table of some images, views of one group as one object.

    Args:
        images: labelled; of classes that the models know.
        device: the device's model.
        server: the server's.
        cache: folder that keeps what is measured.
        processes: how many work at once.
        progress: gets three tasks.

    Raises:
        ImageSetError: the model has other classes.
        ImageError: a file is no picture.
        WeightsError: no usable weights.
    """
    classes = read_weights(find_weights(device.name, device.weights).path).classes
    examples = (images if classes is None else images.labelled_as(classes)).examples
    pixels = [model_pixels(open_image(each.path)) for each in progress.track(examples, description="images")]
    looks, mirrored = Looks(pixels, cache), Looks([np.ascontiguousarray(each[:, ::-1]) for each in pixels], cache)
    looks.measure((None, *LADDER), [device, server], processes, progress)
    mirrored.measure((None,), [device], processes, progress)
    names = [f"{each.sample} {index if each.group is None else each.group}" for index, each in enumerate(examples)]
    return Table(
        np.array([each.label for each in examples]),
        looks.logits(device),
        looks.logits(server),
        {
            (still.side, still.budget_bytes): Seen(
                looks.logits(server, still),
                looks.logits(device, still),
                np.array([len(frame) for frame in looks.frames(still)]),
            )
            for still in LADDER
        },
        np.unique(names, return_inverse=True)[1],
        mirrored.logits(device),
    )


def fit(
    table: Table, device: str, server: str, progressed: Callable[[], None] = lambda: None, seed: int = 0
) -> Calibration:
    """The calibration of a table.

    Args:
        table: of pictures that nothing else is to be measured on; some hundreds.
        device: name of the device's model.
        server: of the server's.
        progressed: called `STEPS` times.
        seed: of the folds.
    """
    views = table.views()
    order = np.random.default_rng(seed).permutation(len(views))
    right, bits = (np.zeros((len(POLICIES), len(PRICES))) for _ in range(2))
    for fold in range(FOLDS):
        unseen = np.sort(np.concatenate([views[each] for each in order[fold::FOLDS]]))
        rest = np.setdiff1d(np.arange(table.labels.size), unseen)
        part = table.part(unseen)
        replay = Replay(part, fit_rungs(table.part(rest), device, server))
        for row, policy in enumerate(POLICIES.values()):
            for column, price in enumerate(PRICES):
                for those in part.views():
                    decided = policy(replay, those, price)
                    right[row, column] += decided.label == part.labels[those[0]]
                    bits[row, column] += decided.bits
                progressed()
    clean = sum(
        _decided([Belief.of(softmax(table.clean[view])) for view in those], 0).label == table.labels[those[0]]
        for those in views
    )
    curves = [_curve(100 * (clean - right[row]) / len(views), bits[row] / len(views)) for row in range(2)]
    return replace(fit_rungs(table, device, server), ask=curves[0], alone=curves[1])


def fit_rungs(table: Table, device: str, server: str) -> Calibration:
    """Temperature and rungs alone; the curves are empty."""
    rows = np.arange(table.labels.size)

    mirror_below = 0.0 if table.mirrored is None else MIRROR_BELOW
    untempered = Calibration(device, server, 1.0, mirror_below, (), Curve(()), Curve(()))
    seen = [logsumexp(log_softmax(looks, axis=1), axis=0) for looks in table.device_looks(untempered)]

    def surprise(logarithm: float) -> float:
        return float(-log_softmax(seen / np.exp(logarithm), axis=1)[rows, table.labels].mean())

    bound = np.log(MOST_TEMPERATURE)
    temperature = float(np.exp(minimize_scalar(surprise, bounds=(-bound, bound), method="bounded").x))
    calibration = replace(untempered, opinion_temperature=temperature)
    opinions = Replay(table, calibration).opinions
    rungs = [_rung(table, opinions, *rung) for rung in table.looks]
    return replace(calibration, rungs=tuple(sorted(rungs, key=lambda rung: (rung.budget_bytes, rung.side))))


def _rung(table: Table, opinions: list[Belief], side: int, budget_bytes: int) -> Rung:
    seen = table.looks[side, budget_bytes]
    said, looks = np.array([each.log_probabilities() for each in opinions]), log_softmax(seen.server, axis=1)
    opinion_weight, look_weight = _weights(said, looks, table.labels)
    fused = (opinion_weight * said + look_weight * looks).argmax(axis=1)
    confidences = np.array([each.confidence for each in opinions])
    return Rung(
        side,
        budget_bytes,
        float(seen.sizes.mean()),
        opinion_weight,
        look_weight,
        _after(confidences, fused == table.labels),
    )


def _weights(said: NDArray, looks: NDArray, labels: NDArray) -> tuple[float, float]:
    """Powers of two (B, C) logarithms of probabilities whose product makes the labels likeliest."""
    rows, both = np.arange(labels.size), (said, looks)

    def surprise(weights: NDArray) -> tuple[float, NDArray]:
        fused = log_softmax(weights[0] * said + weights[1] * looks, axis=1)
        likely = np.exp(fused)
        slopes = [((likely * each).sum(axis=1) - each[rows, labels]).mean() for each in both]
        return float(-fused[rows, labels].mean()), np.array(slopes)

    found = minimize(surprise, (0.5, 0.5), jac=True, bounds=2 * [(0, MAX_WEIGHT)], method="L-BFGS-B")
    return float(found.x[0]), float(found.x[1])


def _after(confidences: NDArray, right: NDArray) -> tuple[float, float]:
    """Coefficients of the logistic regression of being right on the logit of a confidence."""
    before = logit(np.clip(confidences, LEAST_DOUBT, 1 - LEAST_DOUBT))

    def surprise(coefficients: NDArray) -> float:
        offset, slope = coefficients
        likely = expit(np.where(right, 1, -1) * (offset + slope * before))
        return float(-np.log(likely).mean() + SLOPE_WEIGHT * (slope - SLOPE) ** 2)

    offset, slope = minimize(surprise, (0.0, SLOPE)).x
    return float(offset), float(slope)


def _curve(losses: NDArray, bits: NDArray) -> Curve:
    """Operating points by price; a dearer bit never seems to gain accuracy, nor to take more bits."""
    losses, bits = np.maximum.accumulate(losses), np.minimum.accumulate(bits)
    return Curve(tuple(OperatingPoint(*map(float, point)) for point in zip(PRICES, losses, bits, strict=True)))


def _decided(beliefs: Sequence[Belief], bits: float) -> Decided:
    vote = majority_vote([belief.label for belief in beliefs], [belief.confidence for belief in beliefs])
    return Decided(vote, bits / len(beliefs))
