import numpy as np
import pytest

from semlink.source.iaq import coder as iaq
from semlink.source.iaq.allocation import (
    attention_sum_threshold,
    attention_threshold,
    fixed,
    incremental,
    top_k,
    water_filling,
)
from semlink.source.iaq.allocation.methods import AllocationMethod, allocate, allocation_methods, register
from semlink.source.iaq.importance import importance_weights

GENERATOR = np.random.default_rng(0)
SCORES = GENERATOR.dirichlet([0.5] * 196)
IMAGE = GENERATOR.integers(0, 256, (224, 224, 3), dtype=np.uint8)
WEIGHTS = importance_weights(SCORES, gamma=0.7)
STEPS = 392

EXPECTED = {
    "incremental": incremental(WEIGHTS, STEPS, bit_error_rate=0.05),
    "water-filling": water_filling(WEIGHTS, STEPS, bit_error_rate=0.05),
    "fixed": fixed(196, STEPS),
    "top-k": top_k(SCORES, STEPS),
    "attention-threshold": attention_threshold(SCORES, 0.01),
    "attention-sum-threshold": attention_sum_threshold(SCORES, 0.01),
}


def threshold_of(method: str) -> float | None:
    return 0.01 if allocation_methods()[method].has_threshold else None


@pytest.mark.parametrize("method", EXPECTED)
def test_every_name_leads_to_its_method(method):
    chosen = allocate(method, SCORES, STEPS, gamma=0.7, bit_error_rate=0.05, threshold=threshold_of(method))
    np.testing.assert_array_equal(chosen, EXPECTED[method])


def test_all_methods_are_expected_here():
    assert allocation_methods().keys() == EXPECTED.keys()


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="allocation method 'top-k' is registered already"):
        register(AllocationMethod("top-k", lambda problem: problem.scores.astype(np.int64)))


def test_the_methods_differ():
    assert len({bits.tobytes() for bits in EXPECTED.values()}) == len(EXPECTED)


def test_unknown_names_and_misplaced_thresholds_are_explained():
    with pytest.raises(
        ValueError, match="method must be one of attention-sum-threshold, attention-threshold, fixed"
    ):
        allocate("best", SCORES, STEPS)
    with pytest.raises(ValueError, match="attention-threshold needs a threshold"):
        allocate("attention-threshold", SCORES, STEPS)
    with pytest.raises(ValueError, match="top-k has no threshold"):
        allocate("top-k", SCORES, STEPS, threshold=0.5)


@pytest.mark.parametrize("method", EXPECTED)
def test_every_method_goes_through_the_frame(method):
    frame = iaq.encode(IMAGE, SCORES, method=method, rho=0.25, threshold=threshold_of(method)).frame
    assert frame.rho <= 0.25 or threshold_of(method)
    assert iaq.decode(iaq.IaqFrame.from_bytes(frame.to_bytes())).shape == IMAGE.shape


@pytest.mark.parametrize("total_bits", [904, 904 + 767, 904 + 768, 100_000, 904 + 8 * 150_528, 10**9])
def test_total_bits_pay_for_header_and_payload(total_bits):
    frame = iaq.encode(IMAGE, SCORES, total_bits=total_bits).frame
    spent = 8 * len(frame.to_bytes())
    assert spent <= total_bits
    # Equation (10) is tight to one step, or all values have all their bits.
    assert total_bits - spent < 768 or frame.rho == 1


def test_total_bits_below_the_header_are_refused():
    with pytest.raises(ValueError, match="at least 904"):
        iaq.encode(IMAGE, SCORES, total_bits=903)
