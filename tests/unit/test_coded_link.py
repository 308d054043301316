"""Coded modulation of short pictures: soft bits, draws of the channel, capacity, blocks, the committed table."""

import math

import numpy as np
import pytest
from scipy.integrate import quad

from experiments import coded_modulation
from experiments.evaluation import coded_link
from experiments.evaluation.coded_link import (
    BEST_CODES,
    CHANNEL_USES,
    KINDS,
    SNRS_DB,
    CodedModulationError,
    air,
    arrives,
    best_code,
    capacity_bits,
)
from semlink.access.ldpc import Ldpc
from semlink.channel.qam import ORDERS, bits_per_symbol

pytestmark = pytest.mark.numeric


class TestAir:
    @pytest.mark.parametrize("kind", KINDS)
    def test_has_its_powers(self, kind):
        met = air(kind, 10, 200, 500, 0)
        count = met.noise.size
        # |CN(0, v)|² is exponential: its mean has a standard error of v/sqrt(count).
        assert abs(np.mean(np.abs(met.noise) ** 2) - 0.1) < 6 * 0.1 / math.sqrt(count)
        power = np.abs(met.gain) ** 2
        assert (power == 1).all() if kind == "awgn" else abs(power.mean() - 1) < 6 / math.sqrt(count)

    @pytest.mark.parametrize("kind", KINDS)
    def test_of_the_first_pictures_is_the_same_for_more(self, kind):
        few, many = air(kind, 5, 2, 128, 3), air(kind, 5, 7, 128, 3)
        np.testing.assert_array_equal(few.noise, many.noise[:2])
        np.testing.assert_array_equal(few.gain, many.gain[:2])
        np.testing.assert_array_equal(many.of(np.array([1, 0])).noise, few.noise[::-1])
        assert (air(kind, 5, 2, 128, 4).noise != few.noise).all()

    def test_is_undone_but_for_the_noise(self):
        met = air("rayleigh", 300, 2, 128, 0)
        symbols = np.exp(1j * np.arange(256)).reshape(2, 128)
        np.testing.assert_allclose(met.equalised(symbols), symbols, rtol=1e-6)  # noise of 1e-15, over a deep fade


class TestCapacity:
    def test_of_awgn_in_a_closed_form(self):
        assert capacity_bits("awgn", 10 * math.log10(3), 100) in (199, 200)  # log2(1 + 3) = 2, rounded down

    @pytest.mark.parametrize("snr_db", [0, 10, 20])
    def test_of_fading_is_the_mean_over_its_power(self, snr_db):
        snr = 10 ** (snr_db / 10)
        mean, _ = quad(lambda power: math.exp(-power) * math.log2(1 + snr * power), 0, 60)
        assert abs(capacity_bits("rayleigh", snr_db, 1000) - 1000 * mean) <= 1

    @pytest.mark.parametrize("kind", KINDS)
    def test_is_above_what_the_table_carries(self, kind):
        for snr_db in SNRS_DB:
            for cbr, uses in CHANNEL_USES.items():
                code, _ = best_code(kind, snr_db, cbr)
                assert code.k < capacity_bits(kind, snr_db, uses)


class TestBlocks:
    @pytest.mark.parametrize("order", ORDERS)
    @pytest.mark.parametrize("kind", KINDS)
    def test_arrive_where_there_is_next_to_no_noise(self, order, kind):
        code = Ldpc(64 * bits_per_symbol(order) // 2, 128 * bits_per_symbol(order))
        sent = np.random.default_rng(0).integers(0, 2, (3, code.k), np.uint8)
        assert arrives(sent, code, order, air(kind, 60, 3, 128, 0)).all()

    def test_do_not_arrive_above_capacity(self):
        code = Ldpc(440, 512)  # 128 uses of 16-QAM at 5 dB carry at most 263 bits
        sent = np.random.default_rng(0).integers(0, 2, (5, code.k), np.uint8)
        assert not arrives(sent, code, 16, air("awgn", 5, 5, 128, 0)).any()

    def test_of_another_length_than_the_symbols_are_refused(self):
        with pytest.raises(ValueError, match="512 bits are not 100 symbols"):
            arrives(np.zeros((1, 256), np.uint8), Ldpc(256, 512), 16, air("awgn", 10, 1, 100, 0))


class TestTable:
    def test_has_every_point_of_the_figures_within_its_channel_uses(self):
        for kind in KINDS:
            for snr_db in SNRS_DB:
                for cbr, uses in CHANNEL_USES.items():
                    code, order = best_code(kind, snr_db, cbr)
                    assert code.n == uses * bits_per_symbol(order)

    def test_entries_met_the_target(self):
        entries = coded_link._table()
        assert len(entries) == len(KINDS) * len(SNRS_DB) * len(CHANNEL_USES)
        for entry in entries:
            assert entry["lost"] <= coded_modulation.MOST_LOST
            assert entry["trials"] >= coded_modulation.TRIALS
            assert {"seed", "command", "versions", "machine", "seconds", "block_error_rate_below"} <= set(entry)

    def test_more_noise_or_fewer_uses_never_carry_more(self):
        for kind in KINDS:
            carried = [[best_code(kind, snr_db, cbr)[0].k for snr_db in SNRS_DB] for cbr in CHANNEL_USES]
            assert (np.diff(carried, axis=1) > 0).all()
            assert (np.diff(carried, axis=0) > 0).all()

    def test_a_point_that_is_not_there_says_what_to_do(self):
        with pytest.raises(CodedModulationError, match=r"python -m experiments\.coded_modulation"):
            best_code("awgn", 1.0, "1/4")

    def test_its_program_goes_on_where_it_was(self, tmp_path, monkeypatch):
        monkeypatch.setattr(coded_modulation, "KINDS", ("awgn",))
        monkeypatch.setattr(coded_modulation, "SNRS_DB", (10.0,))
        monkeypatch.setattr(coded_modulation, "CHANNEL_USES", {"1/24": 128})
        monkeypatch.setattr(coded_modulation, "TRIALS", 50)
        out = tmp_path / "table.json"
        coded_modulation.main(out=out, seed=0)
        written = out.read_bytes()
        monkeypatch.setattr(coded_modulation, "find_code", None)
        coded_modulation.main(out=out, seed=0)
        assert out.read_bytes() == written
        assert out != BEST_CODES
