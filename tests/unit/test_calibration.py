import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from semlink.decision.calibration import (
    MAX_FILE_BYTES,
    CalibrationError,
    Curve,
    OperatingPoint,
    Rung,
    as_json,
    read_calibration,
)

SHIPPED = as_json(read_calibration())


def test_the_shipped_one_ascends_and_has_both_policies():
    calibration = read_calibration()
    budgets = [rung.budget_bytes for rung in calibration.rungs]
    assert budgets == sorted(budgets)
    for curve in (calibration.ask, calibration.alone):
        # A dearer bit is sent less, at whatever it costs in accuracy.
        bits = [point.bits for point in curve.points]
        assert bits == sorted(bits, reverse=True)
        assert curve.price_for() == curve.price_for(target_accuracy_loss=1.0)


def test_a_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(SHIPPED))
    assert read_calibration(path) == read_calibration()


def paths(content, path=()):
    """Every place in a JSON document."""
    yield path
    items = (
        content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    )
    for key, value in items:
        yield from paths(value, (*path, key))


@given(
    st.sampled_from(list(paths(SHIPPED))),
    st.sampled_from([None, True, -1, 10**400, math.nan, math.inf, "", "x" * 300, [], {}, [[]], 0.5, [1, 2, 3]]),
)
def test_what_is_wrong_anywhere_is_refused_or_within_bounds(tmp_path_factory, where, value):
    content = copy.deepcopy(SHIPPED)
    place = content
    for key in where[:-1]:
        place = place[key]
    if where:
        place[where[-1]] = value
    else:
        content = value
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_text(json.dumps(content))
    try:
        calibration = read_calibration(path)
    except CalibrationError:
        return
    assert 0 < calibration.opinion_temperature < math.inf
    for rung in calibration.rungs:
        assert 0 <= rung.accuracy_after(0.5) <= 1
        assert rung.bits > 0
    assert all(0 <= point.price <= 1 for curve in (calibration.ask, calibration.alone) for point in curve.points)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "no calibration"),
        (b"[" * 100_000, "nested too deeply"),
        (b" " * (MAX_FILE_BYTES + 1), "more than"),
        (b"\xff", "no calibration"),
        (json.dumps({**SHIPPED, "format": 2}).encode(), "format 1 is wanted, not 2"),
        (
            json.dumps(
                {**SHIPPED, "rungs": [{**SHIPPED["rungs"][0], "budget_bytes": size} for size in (15053, 9000)]}
            ).encode(),
            "ascend in budget_bytes",
        ),
        (json.dumps({**SHIPPED, "ask": SHIPPED["ask"][::-1]}).encode(), "ask: prices must ascend"),
    ],
)
def test_refuses_a_file_and_says_why(tmp_path, content, reason):
    path = tmp_path / "calibration.json"
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match=reason):
        read_calibration(path)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(CalibrationError, match=r"nothing\.json: No such file"):
        read_calibration(tmp_path / "nothing.json")


CURVE = Curve(tuple(OperatingPoint(*point) for point in [(1e-6, -0.5, 9000), (2e-6, 0.8, 4000), (5e-6, 3.0, 128)]))


@pytest.mark.parametrize(
    ("loss", "bits", "price"),
    [
        (None, None, 2e-6),
        (1.0, None, 2e-6),
        (0, None, 1e-6),
        (3, None, 5e-6),
        (None, 5000, 2e-6),
        (None, 128, 5e-6),
    ],
)
def test_the_price_that_meets_a_target_best(loss, bits, price):
    assert CURVE.price_for(loss, bits) == price


def test_refuses_targets_that_nothing_meets_and_two_at_once():
    with pytest.raises(CalibrationError, match=r"no price leads to a loss of -2 points: the least is -0\.50"):
        CURVE.price_for(-2)
    with pytest.raises(CalibrationError, match=r"no price leads to 100 bits a view: the least is 128"):
        CURVE.price_for(budget_bits=100)
    with pytest.raises(ValueError, match=r"not both"):
        CURVE.price_for(1, 5000)


def test_the_rung_of_a_frame_is_the_nearest_by_logarithms_and_of_its_side_unless_little_is_left():
    small, large = (Rung(side, 9000, size, 0.5, 0.5, (0.0, 1.0)) for side, size in ((160, 1450.0), (224, 8000.0)))
    calibration = replace(read_calibration(), rungs=(small, large))
    assert calibration.rung_of(160, 1450) == calibration.rung_of(160, 400) == small
    assert calibration.rung_of(224, 8000) == calibration.rung_of(224, 14000) == large
    # A plain picture takes a quarter of the mean; of a damaged one next to nothing may be left.
    assert calibration.rung_of(224, 2000) == large
    assert calibration.rung_of(224, 0) == calibration.rung_of(224, 1000) == small


def test_an_opinion_is_the_mean_of_looks_at_the_temperature():
    calibration = replace(read_calibration(), opinion_temperature=0.8)
    logits, mirrored = np.random.default_rng(0).normal(0, 3, (2, 1000))
    once = calibration.opinion(logits)
    np.testing.assert_allclose(once.probabilities, softmax(logits / 0.8)[once.labels], rtol=1e-6)
    twice = calibration.opinion(logits, mirrored)
    mean = (softmax(logits) + softmax(mirrored)) / 2
    powers = mean ** (1 / 0.8)
    np.testing.assert_allclose(twice.probabilities, (powers / powers.sum())[twice.labels], rtol=1e-6)


def test_an_unsure_device_looks_at_the_mirrored_picture_too():
    calibration = replace(read_calibration(), mirror_below=0.5)
    assert not calibration.wants_mirror(np.log([0.51, 0.3, 0.19]))
    assert calibration.wants_mirror(np.log([0.49, 0.32, 0.19]))
