import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semlink.decision.alone import rung_to_send
from semlink.decision.asking import Ask, ViewState, decide
from semlink.decision.belief import Belief
from semlink.decision.calibration import Calibration, Curve, Rung
from semlink.decision.voting import majority_vote

CLASSES = 7
OTHER = CLASSES
"""Stands for all classes that nobody names."""
RUNGS = (
    Rung(112, 400, 390.0, 0.9, 0.3, (0.1, 0.95)),
    Rung(160, 1500, 1450.0, 0.6, 0.6, (0.5, 0.85)),
    Rung(224, 6000, 5800.0, 0.3, 0.9, (1.2, 0.7)),
)
CALIBRATION = Calibration("device", "server", 1.0, 0.5, RUNGS, Curve(()), Curve(()))
PRICES = st.sampled_from([0.0, 1e-7, 1e-6, 3e-6, 1e-5, 1e-4])


def belief(label: int, confidence: float, classes: int = CLASSES) -> Belief:
    rest = np.full(classes, (1 - confidence) / (classes - 1))
    rest[label] = confidence
    return Belief.of(rest, named=3)


def state(label: int, confidence: float, looks: int = 0, may_be_asked: bool = True) -> ViewState:
    return ViewState(belief(label, confidence), looks, may_be_asked)


def after(rung: Rung, confidence: float) -> float:
    offset, slope = rung.after
    return 1 / (1 + math.exp(-offset - slope * math.log(confidence / (1 - confidence))))


def likely(views: list[ViewState]) -> dict[int, float]:
    """Of every class that somebody names: the views' product, to the power of their number to -1/2."""
    product = np.prod([np.exp(view.belief.log_probabilities()) for view in views], axis=0) ** (len(views) ** -0.5)
    of_all = product / product.sum()
    named = {view.belief.label for view in views} | set(np.argsort(-of_all, kind="stable")[:8].tolist())
    found = {label: float(of_all[label]) for label in named}
    return found | {OTHER: 1 - sum(found.values())}


def gain_by_hand(views: list[ViewState], asked: list[int], rung: Rung) -> float:
    """Expected gain of the vote's accuracy, by voting anew for every class that may be the right one."""
    labels = [view.belief.label for view in views]
    confidences = [view.belief.confidence for view in views]
    better = np.mean([after(rung, confidences[view]) - confidences[view] for view in asked])
    right = without = 0.0
    others = [view for view in range(len(views)) if view not in asked]
    chances = likely(views)
    for label, chance in chances.items():
        told = [label if view in asked else labels[view] for view in range(len(views))]
        sure = [
            after(rung, confidences[view]) if view in asked else confidences[view] for view in range(len(views))
        ]
        right += chance * (majority_vote(told, sure) == label)
        if others:
            vote = majority_vote([labels[view] for view in others], [confidences[view] for view in others])
            without += chance * (vote == label)
    return min(better * (right - without), 1 - chances[majority_vote(labels, confidences)])


ballots = st.lists(
    # No two confidences are alike, so that no tie hangs on a rounding.
    st.tuples(st.integers(0, 2), st.floats(0.2, 0.98), st.booleans(), st.booleans()),
    min_size=1,
    max_size=5,
    unique_by=lambda view: round(view[1], 3),
)


@given(ballots, PRICES)
def test_asks_what_is_best_by_hand(ballot, price):
    views = [state(label, sure, int(looked), may) for label, sure, looked, may in ballot]
    best: tuple[float, tuple[Ask, ...]] = (0.0, ())
    nets = []
    for rung in RUNGS:
        open_views = [view for view in range(len(views)) if views[view].may_be_asked and not views[view].looks]
        gains = {view: after(rung, ballot[view][1]) - ballot[view][1] for view in open_views}
        order = sorted((view for view in open_views if gains[view] > 0), key=lambda view: -gains[view])
        for number in range(1, len(order) + 1):
            asked = sorted(order[:number])
            net = gain_by_hand(views, asked, rung) - price * number * rung.bits
            nets.append(net)
            if net > best[0]:
                best = net, tuple(Ask(view, rung.side, rung.budget_bytes) for view in asked)
    asks = decide(views, CALIBRATION, price)
    if asks != best[1]:  # two of them may be equally good but for rounding
        assert sum(abs(net - best[0]) < 1e-9 for net in [0.0, *nets]) > 1


@pytest.mark.parametrize(
    ("views", "asked"),
    [
        ([state(1, 0.99)], 0),  # sure
        ([state(1, 0.5)], 1),
        ([state(1, 0.5, looks=1)], 0),  # seen already
        ([state(1, 0.5, may_be_asked=False)], 0),
        ([state(1, 0.9)] * 3 + [state(2, 0.4)], 0),  # the one can't turn the vote of the three
        ([state(1, 0.35)] * 4, 4),  # one can't turn the vote of four, but all together can
    ],
)
def test_asks_where_the_vote_hinges(views, asked):
    assert len(decide(views, CALIBRATION, 1e-6)) == asked


@given(ballots)
def test_a_dearer_bit_is_asked_for_less(ballot):
    views = [state(label, sure) for label, sure, _, _ in ballot]
    bytes_asked = [
        sum(ask.most_bytes for ask in decide(views, CALIBRATION, price)) for price in (0.0, 1e-6, 1e-5, 1e-4, 1e-2)
    ]
    assert bytes_asked == sorted(bytes_asked, reverse=True)
    assert bytes_asked[-1] == 0


def test_64_views_of_1000_classes_are_decided():
    generator = np.random.default_rng(0)
    views = [ViewState(Belief.of(generator.dirichlet(np.full(1000, 0.002)) + 1e-12), 0, True) for _ in range(64)]
    assert len({ask.view for ask in decide(views, CALIBRATION, 0.0)}) == len(decide(views, CALIBRATION, 0.0))


@pytest.mark.parametrize(("views", "price"), [([], 1e-6), ([state(1, 0.5)], -1e-6), ([state(1, 0.5)], math.nan)])
def test_refuses_no_views_and_negative_prices(views, price):
    with pytest.raises(ValueError, match=r"must be"):
        decide(views, CALIBRATION, price)


class TestAlone:
    def test_a_sure_device_looks_at_nothing_and_sends_nothing(self):
        assert rung_to_send(belief(1, 0.99), CALIBRATION, 3e-6, lambda rung: pytest.fail("looked")) is None

    @pytest.mark.parametrize(("kept_from", "sent"), [(400, 400), (1500, 1500), (6000, 6000), (7000, 6000)])
    def test_sends_the_first_rung_that_keeps_the_answer_and_looks_at_none_beyond(self, kept_from, sent):
        looked = []

        def label_seen(rung):
            looked.append(rung.budget_bytes)
            return 1 if rung.budget_bytes >= kept_from else 2

        rung = rung_to_send(belief(1, 0.4), CALIBRATION, 0.0, label_seen)
        assert rung.budget_bytes == sent
        # The last rung is sent whatever it shows.
        assert looked == [rung.budget_bytes for rung in RUNGS[:-1] if rung.budget_bytes <= sent]

    def test_rungs_that_do_not_pay_are_not_looked_at(self):
        looked = []
        price = 8e-6
        worth = [rung for rung in RUNGS if after(rung, 0.4) - 0.4 > price * rung.bits]
        assert 0 < len(worth) < len(RUNGS)
        sent = rung_to_send(belief(1, 0.4), CALIBRATION, price, lambda rung: looked.append(rung) or 2)
        assert sent == worth[-1]
        assert looked == worth[:-1]
