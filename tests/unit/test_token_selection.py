import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semlink.source.transformer_aided.selection import select

SHARES = st.floats(0, 1) | st.sampled_from([0.0, 0.25, 0.29, 0.5, 0.75, 0.85, 1.0])


@st.composite
def scores(draw) -> np.ndarray:
    """Attention of any number of patches, many of them equal or all different."""
    count = draw(st.integers(1, 60))
    levels = draw(st.sampled_from([2, 5, 10_000]))
    return np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, levels, count) / levels


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(scores(), SHARES, SHARES, st.integers(0, 2**32))
def test_as_many_as_the_rate_pays_for(attention, ratio, alpha, seed):
    sent = select(attention, ratio, alpha, generator(seed))
    assert sent.shape == attention.shape
    assert sent.dtype == bool
    assert np.count_nonzero(sent) == int(ratio * attention.size + 1e-6)


@given(scores(), SHARES, SHARES, st.integers(0, 2**32))
def test_the_share_by_attention_is_that_of_the_largest(attention, ratio, alpha, seed):
    """Sorted as Python does it: by falling attention, then by index."""
    sent = select(attention, ratio, alpha, generator(seed))
    by_attention = int(alpha * np.count_nonzero(sent) + 1e-6)
    largest = sorted(range(attention.size), key=lambda patch: (-attention[patch], patch))[:by_attention]
    assert sent[largest].all()


@given(st.integers(1, 40), SHARES, st.integers(0, 2**32))
def test_the_threshold_is_the_papers(count, ratio, seed):
    """At α = 1 and with scores that differ, those above the lowest λ that does not exceed the budget are sent."""
    attention = generator(seed).permutation(count) / count
    sent = select(attention, ratio, 1.0, generator(1))
    within_budget = [
        level for level in [-1.0, *attention] if np.count_nonzero(attention > level) <= int(ratio * count + 1e-6)
    ]
    np.testing.assert_array_equal(sent, attention > min(within_budget))


@given(scores(), SHARES, SHARES, SHARES, st.integers(0, 2**32))
def test_a_larger_rate_selects_what_a_smaller_one_does(attention, one, other, alpha, seed):
    less, more = (select(attention, ratio, alpha, generator(seed)) for ratio in sorted((one, other)))
    assert more[less].all()


def test_the_rest_is_drawn_evenly():
    """Of 16 patches 8 are sent, 4 of them by attention, so that each other is with probability 1/3."""
    attention, draws = np.arange(16) / 16, 3000
    generator_of_all = generator(5)
    share = np.mean([select(attention, 0.5, 0.5, generator_of_all) for _ in range(draws)], axis=0)
    np.testing.assert_array_equal(share[12:], 1)
    np.testing.assert_allclose(share[:12], 1 / 3, atol=6 * np.sqrt(1 / 3 * 2 / 3 / draws))


def test_products_of_whole_numbers_lose_nothing():
    assert 0.29 * 100 < 29
    assert np.count_nonzero(select(np.arange(100), 0.29, 1.0, generator())) == 29


@pytest.mark.parametrize(
    ("attention", "ratio", "alpha", "message"),
    [
        ([0.5], 1.1, 1.0, r"^ratio must be within \[0, 1\], not 1.1"),
        ([0.5], float("nan"), 1.0, r"^ratio must be"),
        ([0.5], 1.0, -0.1, r"^alpha must be within \[0, 1\], not -0.1"),
        ([], 1.0, 1.0, r"^attention must have shape"),
        ([[0.5]], 1.0, 1.0, r"^attention must have shape"),
        ([float("nan")], 1.0, 1.0, r"^attention must be finite"),
    ],
)
def test_refuses(attention, ratio, alpha, message):
    with pytest.raises(ValueError, match=message):
        select(attention, ratio, alpha, generator())
