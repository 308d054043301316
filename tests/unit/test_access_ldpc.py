"""LDPC codes of 5G NR: base graphs, codewords and decoding against sionna's, and against peeling of erasures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from importlib_resources import files
from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder, codes

from semlink.access.belief_propagation import decode
from semlink.access.ldpc import BASE_GRAPHS, Ldpc, cut_into_blocks

pytestmark = pytest.mark.numeric

# Both base graphs, with and without fillers, with few and with all parity bits sent.
CODES = [(20, 100), (100, 150), (500, 2500), (1000, 2000), (1320, 4000), (3000, 3300), (3900, 5400)]


def bits(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, shape, np.uint8)


@pytest.mark.parametrize("graph", [1, 2])
def test_every_entry_of_the_base_graphs_is_sionnas(graph):
    theirs = np.genfromtxt(files(codes).joinpath(f"5G_bg{graph}.csv"), delimiter=";", skip_header=2)
    row = np.nan
    for line in theirs:  # the row is named at its first entry alone
        line[0] = row = row if np.isnan(line[0]) else line[0]
    table = np.loadtxt(BASE_GRAPHS, delimiter=",", skiprows=1)
    np.testing.assert_array_equal(table[table[:, 0] == graph, 1:], theirs[:, :10])


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_codewords_are_sionnas(data):
    k = data.draw(st.integers(12, 8448))
    rate = data.draw(st.floats(0.2 if k <= 3824 else 1 / 3, 0.92))
    n = int(k / rate)
    sent = bits(2, k, seed=n)
    theirs = LDPC5GEncoder(k, n)(torch.from_numpy(sent).float())
    np.testing.assert_array_equal(Ldpc(k, n).encode(sent), theirs.numpy().astype(np.uint8))


@pytest.mark.parametrize(("k", "n"), CODES)
def test_without_errors_what_is_sent_arrives(k, n):
    code, sent = Ldpc(k, n), bits(3, k)
    decoded = decode(code, 4 * (1 - 2.0 * code.encode(sent)))
    np.testing.assert_array_equal(decoded.information, sent)
    assert decoded.holds.all()


@pytest.mark.parametrize(("k", "n"), CODES)
def test_decodes_what_sionna_decodes(k, n):
    """Sum-product with another schedule: more of it, as it goes further in as many iterations, and no less."""
    code, sent = Ldpc(k, n), bits(20, k)
    # BPSK over white noise of a power at which the capacity is a little above the rate: some short blocks fail.
    noise = 1 / (2 ** (2 * 1.35 * k / n) - 1)
    noisy = 1 - 2.0 * code.encode(sent) + np.sqrt(noise) * np.random.default_rng(1).standard_normal((20, n))
    ratios = (2 / noise * noisy).astype(np.float32)
    ours = (decode(code, ratios).information == sent).all(axis=1)
    decoder = LDPC5GDecoder(LDPC5GEncoder(k, n), num_iter=30)
    theirs = (decoder(-torch.from_numpy(ratios)).numpy() == sent).all(axis=1)
    assert theirs.sum() >= 5
    assert ours.sum() >= theirs.sum() - 1


@pytest.mark.parametrize(("k", "n", "share"), [(100, 200, 0.4), (300, 900, 0.6), (60, 75, 0.1)])
def test_of_erasures_it_finds_what_peeling_finds(k, n, share):
    """Over erasures belief propagation is peeling: a check with one unknown bit says it (Richardson, Urbanke)."""
    code, sent = Ldpc(k, n), bits(20, k)
    erased = np.random.default_rng(2).random((20, n)) < share
    decoded = decode(code, np.where(erased, 0, 30 * (1 - 2.0 * code.encode(sent))))
    checks = LDPC5GEncoder(k, n).pcm.toarray().astype(bool)
    filled = code.fillers.stop
    peeled = []
    for mask in erased:
        unknown = np.ones(checks.shape[1], bool)
        unknown[code.sent] = mask
        unknown[k:filled] = False
        while (alone := (checks & unknown).sum(axis=1) == 1).any():
            unknown[(checks[alone] & unknown).any(axis=0)] = False
        peeled.append(not unknown[:k].any())
    assert 0 < sum(peeled) < 20
    np.testing.assert_array_equal((decoded.information == sent).all(axis=1), peeled)
    # Who holds all checks has found everything; nothing is claimed of the others.
    assert (np.array(peeled) | ~decoded.holds).all()


def test_a_block_of_noise_does_not_hold():
    code = Ldpc(500, 1000)
    decoded = decode(code, np.random.default_rng(0).standard_normal((10, 1000)))
    assert not decoded.holds.any()


def test_blocks_are_decoded_on_their_own():
    code, sent = Ldpc(120, 240), bits(12, 120)
    noisy = 1 - 2.0 * code.encode(sent) + 0.95 * np.random.default_rng(0).standard_normal((12, 240))
    together = decode(code, 3 * noisy)
    assert 0 < together.holds.sum() < 12
    for number in np.flatnonzero(together.holds):
        alone = decode(code, 3 * noisy[number : number + 1])
        np.testing.assert_array_equal(alone.information[0], together.information[number])
    assert decode(code, noisy[:0]).information.shape == (0, 120)


@pytest.mark.parametrize(
    ("k", "n", "says"),
    [
        (11, 30, "k must be within"),
        (8449, 20_000, "k must be within"),
        (100, 501, "no code of 100 bits"),
        (5000, 15_001, "no code of 5000 bits"),
        (5000, 21_000, "no code of 5000 bits"),
        (100, 104, "k/n must be at most"),
    ],
)
def test_codes_that_5g_does_not_have_are_refused(k, n, says):
    with pytest.raises(ValueError, match=says):
        Ldpc(k, n)


def test_what_is_no_block_is_refused():
    code = Ldpc(100, 200)
    for wrong in (np.zeros((1, 99), np.uint8), np.zeros(100, np.uint8), np.full((1, 100), 2, np.uint8)):
        with pytest.raises(ValueError, match="information must be"):
            code.encode(wrong)
    with pytest.raises(ValueError, match="received must be"):
        decode(code, np.zeros((1, 199)))


@given(st.integers(1, 200_000), st.floats(0.2, 0.95))
def test_blocks_have_room_and_are_codes(count, rate):
    blocks, k, n = cut_into_blocks(count, rate)
    code = Ldpc(k, n)
    assert blocks * k >= count
    assert count > (blocks - 1) * k or k == 12
    assert rate - 1 / n <= code.rate <= rate + 1e-9
