"""Policies measured: bits and answers of dialogues and one-way links, against counting and fusing by hand."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from scipy.special import softmax

from experiments.data.image_sets import Example
from experiments.evaluation import policies
from experiments.evaluation.grid import cell_of, grid
from experiments.evaluation.looks import Model, Still
from experiments.evaluation.policies import evaluate_policies
from experiments.evaluation.policy_cells import PolicyCell, aimed, digest_of
from experiments.evaluation.rows import from_hex
from experiments.evaluation.run import Run
from semlink.channel.base import Channel
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.none import NoImpairment
from semlink.channel.packet_loss import PacketLoss
from semlink.decision.calibration import Calibration, Curve, OperatingPoint, Rung
from semlink.source.codec.frame import CodecFrame
from semlink.source.opinion import opinion_frame
from semlink.v1.link_pb2 import Wish
from semlink.vision.weights import DEVICE_MODEL

IMAGES, CLASSES = 8, 4
RUNG = Rung(side=112, budget_bytes=376, mean_bytes=370.0, opinion_weight=0.7, look_weight=0.6, after=(2.0, 1.0))
SURE, CURIOUS = 1.0, 0.0
"""Prices at which no picture is worth its bits, and at which every one is that can help."""


def curve(price: float) -> Curve:
    return Curve((OperatingPoint(price, 0.0, 1000.0),))


def calibration(price: float) -> Calibration:
    return Calibration("device", "server", 1.5, 0.0, (RUNG,), curve(price), curve(price))


class Table:
    """Looks that are made up: JPEG stills, and logits drawn at random."""

    generator = np.random.default_rng(0)
    device = generator.normal(0, 2, (IMAGES, CLASSES)).astype(np.float32)
    server = generator.normal(0, 2, (IMAGES, CLASSES)).astype(np.float32)
    stills: list[bytes]

    def __init__(self, pixels: list[NDArray[np.uint8]], cache: Path) -> None:
        still = Still(RUNG.side, RUNG.budget_bytes, "jpeg")
        self.stills = [still.frame(picture) for picture in pixels]

    def measure(self, *args: object) -> None: ...

    def frames(self, still: Still) -> list[bytes]:
        return self.stills

    def logits(self, model: Model, still: Still | None = None) -> NDArray[np.float32]:
        return self.device if model.name == DEVICE_MODEL else self.server


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    coarse = np.random.default_rng(1).integers(0, 256, (IMAGES, 8, 8, 3), np.uint8)
    return coarse.repeat(28, axis=1).repeat(28, axis=2)


def measured(
    monkeypatch: pytest.MonkeyPatch,
    pixels: NDArray[np.uint8],
    method: str,
    price: float,
    channel: Channel,
    *,
    grouped: bool = False,
) -> dict:
    monkeypatch.setattr(policies, "Looks", Table)
    examples = [
        Example(
            Path(f"{image}.png"), image % CLASSES, {"object": f"{image // 4}", "group": "0"} if grouped else {}
        )
        for image in range(IMAGES)
    ]
    if grouped:
        examples = [Example(each.path, image // 4, each.columns) for image, each in enumerate(examples)]
    run = Run(data=Path("set"), only="label=odd", out=Path("rows"), cache=Path("cache"), server_model="server")
    chosen = calibration(price)
    cell = PolicyCell(channel, method, digest_of(chosen), target_accuracy_loss=1.0)  # type: ignore[arg-type]
    progress = Progress(console=Console(file=io.StringIO()))
    ((_, fields),) = evaluate_policies(run, chosen, examples, pixels, [cell], progress)
    return fields


def said() -> list[NDArray[np.float64]]:
    """(C,) probabilities that each opinion says, quantized, what is left spread evenly over the others."""
    found = []
    for logits in Table.device:
        belief = opinion_frame(calibration(0).opinion(logits)).belief(CLASSES)
        found.append(np.exp(belief.log_probabilities()))
    return found


def with_looks() -> list[NDArray[np.float64]]:
    """(C,) products of powers of both, normalised."""
    products = [
        opinion**RUNG.opinion_weight * softmax(look) ** RUNG.look_weight
        for opinion, look in zip(said(), Table.server.astype(float), strict=True)
    ]
    return [product / product.sum() for product in products]


def right(beliefs: list[NDArray[np.float64]]) -> list[bool]:
    return [int(belief.argmax()) == image % CLASSES for image, belief in enumerate(beliefs)]


@pytest.mark.parametrize(("method", "down"), [("ask", 8), ("alone", 0)])
def test_who_is_sure_sends_sixteen_bytes(monkeypatch: pytest.MonkeyPatch, pixels, method: str, down: int) -> None:
    fields = measured(monkeypatch, pixels, method, SURE, NoImpairment())
    assert (fields["bits"], fields["downlink_bits"], fields["pictures"]) == (8 * 16, down, 0)
    assert fields["true_ratio"] == pytest.approx((8 * 16 + down) / (8 * 224 * 224 * 3))
    assert from_hex(fields["correct"], IMAGES) == right(said())


@pytest.mark.parametrize("method", ["ask", "alone"])
def test_a_picture_is_counted_and_fused_with_the_opinion(
    monkeypatch: pytest.MonkeyPatch, pixels, method: str
) -> None:
    fields = measured(monkeypatch, pixels, method, CURIOUS, NoImpairment())
    # A look makes every view surer by its calibration: all are asked.
    assert fields["pictures"] == 1
    stills = Table(list(pixels), Path()).stills
    assert fields["bits"] == 8 * 16 + 8 * sum(map(len, stills)) / IMAGES
    wish = 8 * Wish(layer=1, most_bytes=RUNG.budget_bytes, side=RUNG.side).ByteSize()
    assert fields["downlink_bits"] == (8 + wish + 8 if method == "ask" else 0)
    assert from_hex(fields["correct"], IMAGES) == right(with_looks())
    assert fields["decision_bits"] == fields["bits"] + fields["downlink_bits"]


def test_four_views_vote_and_are_fused(monkeypatch: pytest.MonkeyPatch, pixels) -> None:
    fields = measured(monkeypatch, pixels, "ask", SURE, NoImpairment(), grouped=True)
    groups = np.array(said()).reshape(2, 4, CLASSES)
    fused = [int(np.log(group).sum(axis=0).argmax()) == number for number, group in enumerate(groups)]
    assert from_hex(fields["correct_fused"], 2) == fused
    assert fields["decision_bits"] == 4 * (8 * 16 + 8 + 8)  # each also waits for the vote
    labels = groups.argmax(axis=2)
    clear = [number for number, votes in enumerate(labels) if np.bincount(votes).max() > 2]
    right_votes = from_hex(fields["correct_votes"], 2)
    assert all(right_votes[number] == (np.bincount(labels[number]).argmax() == number) for number in clear)


def test_what_never_arrives_costs_its_bits_and_is_wrong(monkeypatch: pytest.MonkeyPatch, pixels) -> None:
    nothing_arrives = PacketLoss(loss=1.0, access="ldpc")
    asked = measured(monkeypatch, pixels, "ask", CURIOUS, nothing_arrives)
    assert asked["lost"] == 1
    assert not any(from_hex(asked["correct"], IMAGES))
    assert asked["frames"] == policies.MOST_ATTEMPTS
    once = measured(monkeypatch, pixels, "alone", SURE, nothing_arrives)
    assert once["frames"] == 1, "nobody tells that nothing arrived"
    assert asked["bits"] >= policies.MOST_ATTEMPTS * once["bits"] > 8 * 16


def test_a_code_costs_parity_and_saves_the_answers(monkeypatch: pytest.MonkeyPatch, pixels) -> None:
    clean = measured(monkeypatch, pixels, "ask", CURIOUS, NoImpairment())
    coded = measured(monkeypatch, pixels, "ask", CURIOUS, BinarySymmetricChannel(ber=0.02, access="ldpc"))
    assert coded["correct"] == clean["correct"]
    assert clean["bits"] < coded["bits"] < 8 * clean["bits"]


def test_a_dialogue_learns_from_the_opinion_that_the_air_is_worse(monkeypatch: pytest.MonkeyPatch, pixels) -> None:
    told_half = BinarySymmetricChannel(ber=0.1, access="ldpc", design_ber=0.05)
    clean = measured(monkeypatch, pixels, "ask", CURIOUS, NoImpairment())
    assert measured(monkeypatch, pixels, "ask", CURIOUS, told_half)["correct"] == clean["correct"]
    # On a one-way link nobody tells: opinions arrive, pictures don't.
    alone = measured(monkeypatch, pixels, "alone", CURIOUS, told_half)
    assert alone["lost"] == 0
    assert from_hex(alone["correct"], IMAGES) == right(said())


def test_a_picture_without_its_end_is_looked_at_anew(monkeypatch: pytest.MonkeyPatch, pixels) -> None:
    table = Table(list(pixels), Path())
    link = policies.Link(NoImpairment(), table, Model("server"), calibration(CURIOUS), seed=0)  # type: ignore[arg-type]
    shown = []

    class Seeing:
        def logits(self, pictures: NDArray) -> NDArray[np.float32]:
            shown.append(pictures)
            return Table.server[:1]

    link.__dict__["_classifier"] = Seeing()
    monkeypatch.setattr(link, "send", lambda frame, *args, **kwargs: frame.without([1]))
    view = policies.View(0)
    link.show(view, Still(RUNG.side, RUNG.budget_bytes), retries=True)
    assert len(shown) == 1
    cut = CodecFrame.from_bytes(table.stills[0]).without([1])
    assert view.belief is not None
    assert view.belief.label == Table.server[0].argmax()
    assert np.array_equal(shown[0][0], policies.coder.decode(cut))


def test_a_cell_is_found_again_by_its_row() -> None:
    (told,) = aimed(["ask"], None, [], [])
    cells = grid([NoImpairment(), BinarySymmetricChannel(ber=0.1)], rhos=[0.25], policies=[told])
    assert len(cells) == 3
    assert all(cell_of({"cell": cell.settings}) == cell for cell in cells)


@pytest.mark.parametrize("targets", [{}, {"target_accuracy_loss": 1.0, "budget_bits": 1000.0}])
def test_one_target_is_wanted(targets: dict) -> None:
    with pytest.raises(ValueError, match="one of them"):
        PolicyCell(NoImpairment(), "ask", "digest", **targets)
