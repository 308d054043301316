import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

import experiments
from experiments import code_rates
from experiments.evaluation.ldpc import (
    RATES,
    TABLE,
    Code,
    CodeRateError,
    best_code,
    error_rate,
    segment,
    transmit,
)  # fmt: skip
from semlink.access.hard_decisions import capacity
from semlink.access.ldpc import Ldpc
from semlink.channel.awgn import Awgn
from semlink.channel.base import RawBits, channel_type
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.rayleigh import Rayleigh
from semlink.source.iaq.coder import HEADER_BITS

pytestmark = pytest.mark.numeric


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def bits(*shape: int) -> np.ndarray:
    return rng().integers(0, 2, shape, np.uint8)


def over_bsc(sent: np.ndarray, code: Code, ber: float, generator: np.random.Generator) -> np.ndarray:
    return transmit(sent, code, BinarySymmetricChannel(ber=ber), ber, generator)


class TestSegments:
    @given(st.integers(1_000, 2_000_000), st.sampled_from(RATES))
    def test_are_within_the_budget_and_what_5g_allows(self, budget, rate):
        code = segment(budget, rate)
        assert budget - code.blocks < code.bits <= budget
        assert rate <= Fraction(code.k, code.n) < rate + Fraction(1, code.n)
        # TS 38.212: base graph 1 reaches 8448 bits and down to rate 1/3, base graph 2 3840 bits and 1/5.
        assert (code.k <= 8448 and 3 * code.k >= code.n) or (code.k <= 3840 and 5 * code.k >= code.n)
        assert code.k / code.n <= 948 / 1024
        assert 8 * code.file_bytes <= code.blocks * code.k < 8 * (code.file_bytes + 1)

    @pytest.mark.parametrize("rate", [RATES[0], Fraction(1, 4), Fraction(33, 100), Fraction(34, 100), RATES[-1]])
    @pytest.mark.parametrize("budget", [5_000, 76_192, 700_000])
    def test_are_codes_of_5g(self, budget, rate):
        code = segment(budget, rate)
        assert Ldpc(code.k, code.n).sent.size == code.n

    def test_refuse_a_budget_below_one_block(self):
        with pytest.raises(ValueError, match=r"^budget"):
            segment(20, RATES[0])


def test_corrects_errors_below_capacity_and_gives_up_above():
    ber = 0.05
    below, above = segment(40_000, Fraction(60, 100)), segment(40_000, Fraction(75, 100))
    for code, correct in ((below, True), (above, False)):
        sent = bits(code.blocks, code.k)
        assert (over_bsc(sent, code, ber, rng()) == sent).all() == correct


def test_the_same_seed_gives_the_same_bits():
    sent, code = bits(4, 1000), Code(4, 1000, 1200)
    first, again, other = (over_bsc(sent, code, 0.1, rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("ber", [1e-6, 0.01, 0.2, 0.5, 0.9])
def test_capacity_is_one_less_the_entropy_of_an_error(ber):
    assert capacity(ber) == pytest.approx(1 - entropy([ber, 1 - ber], base=2), abs=1e-9)


@pytest.mark.parametrize("ber", [0, 1, -0.1, np.nan])
def test_capacity_of_no_channel(ber):
    with pytest.raises(ValueError, match=r"^ber must"):
        capacity(ber)


RESULTS = Path(experiments.__file__).parent / "results"


def committed_codes() -> list[tuple[int, float, Code]]:
    """Budget, bit error rate and code of every committed row of a protected picture."""
    rows = [json.loads(line) for file in sorted(RESULTS.glob("*.jsonl")) for line in file.read_text().splitlines()]
    return [
        (
            HEADER_BITS + int(8 * 224 * 224 * 3 * row["cell"]["rho"]),
            row["cell"].get("ber") or row["cell"]["channel"]["ber"],
            Code(*(row["code"][name] for name in ("blocks", "k", "n"))),
        )
        for row in rows
        if row.get("code")
    ]


class TestTable:
    def test_gives_the_codes_that_the_committed_rows_were_measured_with(self):
        codes = committed_codes()
        assert len({(budget, ber) for budget, ber, _ in codes}) >= 7
        for budget, ber, code in codes:
            assert best_code(budget, ber) == code

    @given(st.floats(1e-6, 0.14), st.integers(100_000, 1_300_000))
    def test_is_safe_between_its_entries(self, ber, budget):
        code = best_code(budget, ber)
        assert budget - code.blocks < code.bits <= budget
        rate = Fraction(code.k, code.n)
        assert rate < capacity(ber)
        entries = json.loads(TABLE.read_text())["rates"]
        safe = [entry for entry in entries if entry["ber"] >= ber and entry["k"] <= code.k]
        assert rate - Fraction(1, code.n) <= Fraction(max(entry["percent"] for entry in safe), 100)

    def test_says_where_it_ends_and_what_to_run(self):
        for budget, ber in ((151_432, 0.3), (2_000, 0.05)):
            with pytest.raises(CodeRateError, match=rf"code_rates --ber {ber} --budget {budget}"):
                best_code(budget, ber)
        with pytest.raises(ValueError, match="ber must be within"):
            best_code(151_432, 0)

    def test_entries_say_how_they_were_found_and_meet_the_criterion(self):
        table = json.loads(TABLE.read_text())
        for entry in table["rates"]:
            assert entry["block_error_rate_below"] < 3.3e-3
            assert entry["failures"] <= 2
            assert entry["next_rate"] is None or entry["next_rate"]["failures"] > entry["failures"]
            assert {"command", "seed", "versions", "machine"} <= entry.keys()
        assert {check["channel"] for check in table["checks"]} == {"awgn", "rayleigh"}
        assert all(check["failures"] <= 3 for check in table["checks"])


@pytest.mark.parametrize("channel", [Awgn(order=16, snr_db=12.0), Rayleigh(order=64, snr_db=20.0)], ids=str)
def test_error_rate_of_a_channel_is_what_it_does(channel):
    sent = RawBits(rng(2).bytes(50_000))
    flips = channel.transmit(sent, None, None, rng()).flips.size
    expected = error_rate(channel) * sent.payload_bits
    # Six standard errors, of symbols of which every bit may be wrong.
    assert abs(flips - expected) < 6 * np.sqrt(expected * np.log2(channel.order))
    assert error_rate(BinarySymmetricChannel(ber=0.125)) == 0.125
    assert error_rate(channel_type("none")()) == 0
    assert error_rate(channel_type("burst")(ber=0.01)) is None


class TestSearch:
    @pytest.fixture
    def short(self, monkeypatch):
        lengths = code_rates.Lengths("short", 60, 1, information=(1000, 800))
        monkeypatch.setattr(code_rates, "NEARLY_FULL", lengths)
        monkeypatch.setattr(code_rates, "HALF_FULL", code_rates.Lengths("shorter", 60, 1, information=(500, 400)))
        return lengths

    def test_finds_a_rate_that_is_decoded_where_the_next_is_not_and_goes_on_behind_it(self, short, tmp_path):
        out = tmp_path / "table.json"
        code_rates.main(out, ber=[0.05])
        entries = json.loads(out.read_text())["rates"]
        assert [(entry["k"], entry["ber"]) for entry in entries] == [(1000, 0.05), (500, 0.05)]
        for entry in entries:
            assert 0.35 < entry["k"] / entry["n"] < capacity(0.05)
            assert entry["failures"] <= 1 < entry["next_rate"]["failures"]
            assert entry["next_rate"]["percent"] == entry["percent"] + 1

        def lost(percent: int) -> float:
            code = short.code(Fraction(percent, 100))
            sent = bits(100, code.k)
            return (over_bsc(sent, code, 0.05, rng(5)) != sent).any(axis=1).mean()

        assert lost(entries[0]["percent"] - 3) < 0.05 < lost(entries[0]["percent"] + 6)
        before = out.read_bytes()
        code_rates.main(out, ber=[0.05])
        assert out.read_bytes() == before

    def test_of_a_hopeless_channel_finds_none(self, short, tmp_path, capsys):
        code_rates.main(tmp_path / "table.json", ber=[0.4])
        assert "no rate meets the criterion" in capsys.readouterr().err
        assert not (tmp_path / "table.json").exists()
