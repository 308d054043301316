"""Subcarrier mapping: who gets which subchannels, and blocks of equal size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semlink.access.mapping import SubcarrierMapping, map_subcarriers
from semlink.channel.blocks import check_even, gains_of_blocks

pytestmark = pytest.mark.numeric

problems = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def drawn(rng):
    segments, width = rng.integers(1, 12), rng.integers(1, 6)
    streams = int(rng.choice([s for s in (1, 2, 3, 4) if segments * width % s == 0]))
    # Few different values, so that ties come up.
    return rng.integers(0, 6, segments) / 7, rng.integers(1, 9, (segments * width // streams, streams)) / 3


@given(problems)
def test_importance_gives_no_segment_a_worse_subchannel_than_a_less_important_one(rng):
    scores, gains = drawn(rng)
    blocks = map_subcarriers(scores, gains)
    for i in range(scores.size):
        for j in range(scores.size):
            if scores[i] < scores[j]:
                assert gains[blocks == i].max() <= gains[blocks == j].min()


@given(problems)
def test_inverse_gives_no_segment_a_better_one(rng):
    scores, gains = drawn(rng)
    blocks = map_subcarriers(scores, gains, "inverse")
    for i in range(scores.size):
        for j in range(scores.size):
            if scores[i] < scores[j]:
                assert gains[blocks == i].min() >= gains[blocks == j].max()


@given(problems, st.sampled_from(SubcarrierMapping))
def test_every_block_has_its_share(rng, mapping):
    scores, gains = drawn(rng)
    blocks = map_subcarriers(scores, gains, mapping, generator=rng)
    assert blocks.shape == gains.shape
    assert (np.bincount(blocks.ravel(), minlength=scores.size) == gains.size // scores.size).all()
    rows = gains_of_blocks(gains, blocks, scores.size)
    for block, row in enumerate(rows):
        np.testing.assert_array_equal(np.sort(row), np.sort(gains[blocks == block]))


def test_inverse_by_hand():
    gains = [[0.5, 3.0], [1.0, 0.1], [2.0, 0.7]]
    np.testing.assert_array_equal(map_subcarriers([0.9, 0.1, 0.2], gains, "inverse"), [[0, 1], [2, 0], [1, 2]])


def test_random_is_independent_of_the_gains():
    """Of 400 draws the mean gain of each block is near that of all: within 5 deviations of a mean."""
    rng = np.random.default_rng(1)
    gains = rng.rayleigh(size=(40, 2))
    scores = np.arange(8.0)
    means = [
        gains_of_blocks(gains, map_subcarriers(scores, gains, "random", generator=rng), 8).mean(axis=1)
        for _ in range(400)
    ]
    assert (np.abs(np.mean(means, axis=0) - gains.mean()) < 5 * np.std(means, axis=0) / 20).all()
    assert len({tuple(row) for row in np.round(means, 12)}) > 390


def test_the_same_seed_deals_the_same():
    gains = np.arange(1.0, 13.0).reshape(6, 2)
    first, second = (
        map_subcarriers([1, 2, 3], gains, "random", generator=np.random.default_rng(7)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_refuses_what_does_not_fit():
    gains = np.ones((3, 2))
    with pytest.raises(ValueError, match=r"^mapping must be one of importance, random, inverse"):
        map_subcarriers([1, 2], gains, "best")
    with pytest.raises(ValueError, match=r"^generator must"):
        map_subcarriers([1, 2], gains, "random")
    with pytest.raises(ValueError, match=r"^gains must have shape \(F, N_s\) with at least 7"):
        map_subcarriers(range(7), gains)
    with pytest.raises(ValueError, match=r"^importance must be finite"):
        map_subcarriers([1, np.nan], gains)
    with pytest.raises(ValueError, match=r"^block_of_subchannel must have the shape"):
        gains_of_blocks(gains, np.zeros((2, 3), int), 1)


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        ([[0, 0], [0, 1]], "block 1 has 1, block 0 has 3"),
        ([[0, 0], [1, 2]], r"within \[0, 1\]"),
        ([[0, 0], [1, -1]], r"within \[0, 1\]"),
        ([[0.0, 0.0], [1.0, 1.0]], "integers"),
    ],
)
def test_blocks_must_share_evenly(blocks, reason):
    with pytest.raises(ValueError, match=rf"^block_of_subchannel must .*{reason}"):
        check_even(np.array(blocks), 2)
