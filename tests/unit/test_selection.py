import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semlink.source.iaq.allocation import attention_sum_threshold, attention_threshold, fixed, top_k

# Few distinct values, so that ties are common; sums of eighths are exact.
scores_with_ties = st.lists(st.integers(0, 8).map(lambda eighths: eighths / 8), min_size=1, max_size=30)


@given(count=st.integers(1, 300), share=st.floats(0, 1), max_bits=st.integers(1, 8))
def test_fixed_is_equal_but_for_a_remainder_in_front(count, share, max_bits):
    steps = int(share * count * max_bits)
    bits = fixed(count, steps, max_bits=max_bits)
    assert bits.dtype == np.int64
    assert bits.sum() == steps
    assert np.ptp(bits) <= 1
    assert (np.diff(bits) <= 0).all()


@settings(deadline=None)
@given(scores=scores_with_ties, share=st.floats(0, 1), max_bits=st.integers(1, 8))
def test_top_k_takes_the_best_and_of_equals_the_first(scores, share, max_bits):
    steps = int(share * len(scores) * max_bits)
    bits = top_k(scores, steps, max_bits=max_bits)
    ranked = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    assert set(np.flatnonzero(bits)) == set(ranked[: steps // max_bits])
    assert set(bits) <= {0, max_bits}
    assert bits.sum() <= steps < bits.sum() + max_bits


@settings(deadline=None)
@given(scores=scores_with_ties, threshold=st.integers(-1, 9).map(lambda eighths: eighths / 8))
def test_attention_threshold_takes_what_exceeds_it(scores, threshold):
    assert attention_threshold(scores, threshold).tolist() == [8 * (score > threshold) for score in scores]


@settings(deadline=None)
@given(scores=scores_with_ties, threshold=st.integers(-1, 40).map(lambda eighths: eighths / 8))
def test_attention_sum_threshold_stops_once_the_sum_exceeds_it(scores, threshold):
    expected, total = [0] * len(scores), 0.0
    for index in sorted(range(len(scores)), key=lambda index: (-scores[index], index)):
        if total > threshold:
            break
        expected[index] = 8
        total += scores[index]
    assert attention_sum_threshold(scores, threshold).tolist() == expected


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("count", lambda: fixed(0, 0)),
        ("steps", lambda: fixed(2, 17)),
        ("steps", lambda: fixed(2, 1.5)),
        ("scores", lambda: top_k([], 0)),
        ("steps", lambda: top_k([1.0], 9)),
        ("max_bits", lambda: top_k([1.0], 0, max_bits=0)),
        ("threshold", lambda: attention_threshold([1.0], np.nan)),
        ("scores", lambda: attention_sum_threshold([-1.0], 0.5)),
    ],
)
def test_errors_name_the_argument(argument, call):
    with pytest.raises(ValueError, match=argument):
        call()
