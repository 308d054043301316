import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from experiments.data.prepared import Prepared
from experiments.evaluation.frame_cells import FrameCell
from experiments.evaluation.grid import cell_of
from experiments.evaluation.measurement import measure_cells, measure_plans, measured
from experiments.evaluation.planned_cells import PlannedCell, spread, state_of
from experiments.evaluation.rows import append_row
from experiments.evaluation.run import Run
from semlink.access.mapping import SubcarrierMapping
from semlink.access.planner import PlanMethod
from semlink.channel.awgn import Awgn
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.finite_blocklength import FiniteBlocklength
from semlink.channel.mimo_ofdm import MimoOfdm
from semlink.channel.ofdm import Numerology
from semlink.channel.qam import awgn_bit_error_rate
from semlink.vision.images import model_pixels, open_image
from semlink.vision.photos import find_photos
from semlink.vision.weights import DEVICE_MODEL, PRETRAINED, find_weights

pytestmark = pytest.mark.numeric

CAT = model_pixels(open_image(find_photos(["chelsea"])[0]))
SCORES = np.random.default_rng(0).dirichlet([0.5] * 196).astype(np.float32)
PREPARED = Prepared(np.stack([CAT] * 3), np.stack([SCORES] * 3), np.full((3, 196), np.nan, np.float32))
LINK_TRAINED = PRETRAINED / "link-trained"
LOW, HIGH = int(CAT.min()), int(CAT.max())
UNCODED = PlannedCell(MimoOfdm(snr_db=20.0, coding="uncoded"), PlanMethod.FIXED, 0.5)


def ideal(method: PlanMethod, snr_db: float, rho: float = 0.25) -> PlannedCell:
    return PlannedCell(MimoOfdm(snr_db=snr_db), method, rho)


def over(cell: PlannedCell, **changed) -> PlannedCell:
    """The cell over a channel that is changed."""
    return replace(cell, channel=replace(cell.channel, **changed))


def finite(errors: str, target_bler: float, snr_db: float = 20.0) -> PlannedCell:
    channel = FiniteBlocklength(snr_db=snr_db, target_bler=target_bler, errors=errors)
    return PlannedCell(channel, PlanMethod.IA_QSMPA)


def sent(cell: PlannedCell, image: int = 0, seed: int = 0):
    return cell.send(None, PREPARED, image, seed)


def per_patch(pixels: np.ndarray) -> np.ndarray:
    """(196, 768) pixels of each patch, in raster order."""
    return pixels.reshape(14, 16, 14, 16, 3).swapaxes(1, 2).reshape(196, 768)


class TestSend:
    @pytest.mark.parametrize("method", PlanMethod)
    def test_ideal_transmission_leaves_the_errors_of_the_quantizer_alone(self, method):
        cell = ideal(method, 45.0)
        received = sent(cell)
        made = cell.plan(SCORES, 0, 0)
        cell_width = (HIGH - LOW) / 2.0**made.bits
        errors = np.abs(per_patch(received.pixels) - per_patch(CAT)).max(axis=1)
        assert (errors <= cell_width / 2 + 1e-9).all()
        assert received.more["t_d"] == received.more["air"] == made.latencies.max() < np.inf
        assert received.more["bit_errors"] == received.more["lost_blocks"] == 0
        np.testing.assert_array_equal(received.bits_per_patch, 768 * made.bits)
        assert received.bits_per_patch.sum() <= 0.25 * 8 * CAT.size

    def test_uncoded_bits_arrive_where_the_snr_is_high(self):
        received = sent(over(UNCODED, snr_db=90.0))
        assert received.more["bit_errors"] == 0
        np.testing.assert_array_equal(received.pixels, sent(ideal(PlanMethod.FIXED, 90.0, 0.5)).pixels)
        # 4 bits of 768 values are 512 symbols of 6 bits, over 16 subchannels: 32 OFDM symbols of 1/15 kHz.
        assert received.more["air"] == pytest.approx(32 / 15e3)

    def test_uncoded_errors_are_those_of_the_closed_form(self):
        received = [sent(over(UNCODED, snr_db=10.0), image) for image in range(3)]
        generator = np.random.default_rng(5)
        shape = 20_000, 4, 4
        channel = (generator.standard_normal(shape) + 1j * generator.standard_normal(shape)) / np.sqrt(2)
        expected = awgn_bit_error_rate(64, np.linalg.svd(channel, compute_uv=False) ** 2 * 10).mean()
        # Which is for bits that are as often 0 as 1; those of a picture are not.
        assert np.mean([each.more["bit_errors"] for each in received]) == pytest.approx(expected, rel=0.1)
        assert all(each.more["lost_blocks"] == 0 for each in received)

    def test_the_mapping_chooses_which_patches_suffer(self):
        first, last = np.argsort(SCORES)[-49:], np.argsort(SCORES)[:49]
        clean = per_patch(sent(over(UNCODED, snr_db=90.0)).pixels)
        for mapping, sheltered, exposed in (("importance", first, last), ("inverse", last, first)):
            noisy = replace(over(UNCODED, snr_db=10.0), mapping=SubcarrierMapping(mapping))
            damage = np.abs(per_patch(sent(noisy).pixels) - clean)
            assert damage[exposed].mean() > 10 * damage[sheltered].mean()

    @pytest.mark.parametrize(
        "channel",
        [
            MimoOfdm(coding="uncoded"),
            MimoOfdm(coding="uncoded", csi_error=0.01),
            FiniteBlocklength(target_bler=0.1, errors="ber-rule"),
            FiniteBlocklength(target_bler=0.1, errors="block-loss"),
        ],
        ids=str,
    )
    def test_the_same_seed_the_same_result(self, channel):
        cell = PlannedCell(channel, PlanMethod.IA_QSMPA, mapping=SubcarrierMapping.RANDOM)
        first, again, other = sent(cell), sent(cell), sent(cell, seed=1)
        np.testing.assert_array_equal(first.pixels, again.pixels)
        assert first.more == again.more
        assert (first.pixels != other.pixels).any()
        assert first.more["t_d"] != other.more["t_d"]

    def test_lost_blocks_are_grey_and_as_many_as_the_target_says(self):
        cell = finite("block-loss", 0.3)
        received = [sent(cell, image) for image in range(3)]
        assert np.mean([each.more["lost_blocks"] for each in received]) == pytest.approx(0.3, abs=0.08)
        whole = per_patch(sent(ideal(PlanMethod.IA_QSMPA, 20.0)).pixels)
        patches = per_patch(received[0].pixels)
        grey = (patches == (LOW + HIGH) / 2).all(axis=1)
        assert grey.mean() == received[0].more["lost_blocks"]
        np.testing.assert_array_equal(patches[~grey], whole[~grey])

    def test_errors_by_rule_are_as_many_as_the_rule_says(self):
        cell = finite("ber-rule", 0.1)
        rate = np.mean([sent(cell, image).more["bit_errors"] for image in range(3)])
        # L_c = 16 subchannels × 50 OFDM symbols.
        assert rate == pytest.approx(10 * (1 - 0.9 ** (1 / 800)), rel=0.1)

    def test_a_method_that_gets_nothing_through_loses_the_image(self):
        """No power meets the linearised constraint of Theorem 2 at so low an SNR."""
        cell = finite("ber-rule", 1e-3, -20.0)
        received = sent(cell)
        assert received.lost
        assert np.isinf(received.more["t_d"])
        assert (received.pixels == (LOW + HIGH) / 2).all()

    def test_errors_in_the_estimate_are_independent_of_the_channel(self):
        """Estimates were once drawn from the channel's own numbers, and erred along with it."""
        known, mistaken = (state_of(over(UNCODED, csi_error=error).channel, 0, 0) for error in (0.0, 1.0))
        error = mistaken.estimate - known.at(0)
        correlation = np.vdot(error, known.at(0)) / error.size
        assert abs(correlation) < 6 / np.sqrt(error.size)
        assert np.mean(np.abs(error) ** 2) == pytest.approx(1, rel=0.1)

    @pytest.mark.parametrize(
        ("wrong", "word"),
        [({"rho": 0.1}, "rho"), ({"method": "best"}, "best"), ({"channel": BinarySymmetricChannel(ber=0)}, "bsc")],
    )
    def test_a_cell_that_cannot_be_planned_is_refused(self, wrong, word):
        with pytest.raises(ValueError, match=word):
            replace(UNCODED, **wrong)


def test_channels_are_independent_of_image_seed_and_cell():
    """A plan of the fixed method depends on the channel alone."""
    cell = ideal(PlanMethod.FIXED, 20.0)
    assert cell.plan(SCORES, 0, 0).t_d == over(cell, coding="uncoded").plan(SCORES, 0, 0).t_d
    latencies = {cell.plan(SCORES, seed, image).t_d for seed in range(2) for image in range(2)}
    assert len(latencies) == 4
    assert over(cell, streams=6).plan(SCORES, 0, 0).numerology == Numerology(streams=6)


def test_spread_tells_infinite_values_apart():
    assert spread(np.array([1.0, 2.0, 6.0])) == {
        "mean": 3.0, "deviation": pytest.approx(np.sqrt(14 / 3)), "median": 2.0, "infinite": 0.0,
    }  # fmt: skip
    assert spread(np.array([1.0, 2.0, 3.0, np.inf])) == {
        "mean": None, "deviation": None, "median": 2.5, "infinite": 0.25,
    }  # fmt: skip
    assert spread(np.array([1.0, np.inf, np.inf]))["median"] is None


class TestRows:
    @pytest.mark.parametrize(
        "cell",
        [UNCODED, finite("block-loss", 0.1), FrameCell(), FrameCell(Awgn(snr_db=3.0), "fixed", 0.25)],
        ids=str,
    )
    def test_a_row_is_about_the_cell_that_wrote_it(self, cell):
        row = json.loads(json.dumps({"cell": cell.settings}))
        assert cell_of(row) == cell
        assert cell_of(row) != replace(cell, rho=0.75)

    def test_what_an_older_row_does_not_say_was_at_its_default(self):
        row = json.loads(json.dumps({"cell": UNCODED.settings}))
        del row["cell"]["channel"]["csi_error"], row["cell"]["mapping"]
        assert cell_of(row) == UNCODED

    @pytest.mark.parametrize(
        "cell",
        [
            {"method": "fixed", "rho": 0.25, "receiver": "drop-empty", "channel": {"type": "none"}},
            {"method": "fixed", "rho": 0.25, "channel": {"type": "tin-can"}},
            {"method": "fixed", "rho": 0.25, "channel": {"type": "bsc", "ber": 2.0}},
            {"method": "fixed", "rho": 0.25},
        ],
    )
    def test_a_row_about_what_is_no_more_is_about_no_cell(self, cell):
        assert cell_of({"cell": cell}) is None

    def test_nothing_that_is_found_by_measuring_is_in_the_key(self):
        assert set(FrameCell().settings) == {"method", "rho", "gamma", "design_ber", "channel"}


def test_a_run_is_known_by_the_hash_of_its_weights_and_not_by_their_folder(tmp_path):
    weights = find_weights(DEVICE_MODEL).path
    shutil.copy(weights, tmp_path)
    run = Run(data=tmp_path, only="split=test", out=tmp_path / "rows.jsonl", cache=tmp_path)
    moved = replace(run, device_weights=tmp_path, server_weights=tmp_path)
    assert moved.key(2, served=True) == run.key(2, served=True)
    assert moved.models(served=True) == run.models(served=True)
    (tmp_path / weights.name).write_bytes((LINK_TRAINED / weights.name).read_bytes())
    key = moved.key(2, served=True)
    assert key["server"]["weights"] != run.key(2, served=True)["server"]["weights"]
    assert key["server"]["model"] == DEVICE_MODEL
    assert moved.models(served=True)["server"] == f"link-trained {DEVICE_MODEL}"
    assert replace(run, bfloat16=True).key(2, served=True) != run.key(2, served=True)


def test_cells_of_both_kinds_are_measured_but_for_those_that_are_there(tmp_path):
    for name in ("a", "b"):
        Image.fromarray(CAT).save(tmp_path / f"{name}.png")
    (tmp_path / "manifest.csv").write_text(
        "path,class,label,split\na.png,tabby,0,test\nb.png,tabby,0,test\nx.png,tabby,0,train\n"
    )
    run = Run(data=tmp_path, only="split=test", out=tmp_path / "rows.jsonl", cache=tmp_path)
    there = FrameCell(BinarySymmetricChannel(ber=0.0), "fixed", 0.5)
    cells = [FrameCell(), there, UNCODED, ideal(PlanMethod.FIXED_B_WF, -10.0)]
    append_row(run.out, {"cell": there.settings, "run": run.key(2, served=True)})
    append_row(run.out, {"cell": UNCODED.settings, "run": run.key(2, served=True) | {"seed": 1}})
    rows = measure_cells(run, cells)
    assert list(rows) == cells
    assert rows.pop(there) == {"cell": there.settings, "run": run.key(2, served=True)}
    _, uncoded, silent = rows.values()
    assert [row["cell"] for row in rows.values()] == [json.loads(json.dumps(cell.settings)) for cell in rows]
    assert [("code" in row, "t_d_ms" in row) for row in rows.values()] == [(True, False), *[(False, True)] * 2]
    prepared = Prepared(np.stack([CAT] * 2), PREPARED.attention, PREPARED.cover)
    # The device's attention, not the scores above, decides about nothing here: bits and powers are equal.
    expected = [UNCODED.send(None, prepared, image, 0).more for image in range(2)]
    assert uncoded["t_d_ms"]["mean"] == pytest.approx(np.mean([each["t_d"] for each in expected]) * 1e3)
    assert uncoded["rho"] == 0.5
    assert silent["t_d_ms"]["mean"] is None
    assert silent["t_d_ms"]["infinite"] == 1
    assert silent["lost_blocks"] > 0

    plain = over(UNCODED, coding="ideal")
    (planned,) = measure_plans(run, [plain]).values()
    assert planned["t_d_ms"] == uncoded["t_d_ms"], "the channels are the same"
    assert planned["run"] == {**uncoded["run"], "server": None}
    assert plain not in measured(run), "rows of plans are another run's"
    assert list(measured(run, served=False)) == [plain]
    elsewhere = replace(run, out=tmp_path / "new.jsonl", known=(run.out,))
    assert measure_cells(elsewhere, list(rows)) == rows
    assert not elsewhere.out.exists(), "rows that are known are not copied"


class TestMeasuredChannel:
    @pytest.fixture
    def cell(self, tmp_path):
        """Three frames of 52 subcarriers and 2 antennas: fewer subchannels than patches."""
        generator = np.random.default_rng(0)
        matrices = generator.standard_normal((3, 52, 2, 2)) + 1j * generator.standard_normal((3, 52, 2, 2))
        np.save(tmp_path / "h.npy", matrices)
        channel = MimoOfdm(channel_file=str(tmp_path / "h.npy"), coding="uncoded", order=4, snr_db=20.0)
        return PlannedCell(channel, PlanMethod.IA_QSMPA)

    def test_image_k_meets_the_matrices_of_frame_k(self, cell):
        gains = [np.sort(state_of(cell.channel, 0, image).gains, axis=None) for image in range(4)]
        np.testing.assert_array_equal(gains[0], gains[3])
        assert not np.array_equal(gains[0], gains[1])
        made = cell.plan(SCORES, 0, 0)
        assert (made.numerology.subcarriers, made.numerology.streams) == (2 * 52, 2)
        received = sent(cell)
        assert 0 < received.more["bit_errors"] < 0.1
        assert received.more["t_d"] == pytest.approx(made.t_d)

    def test_cells_of_another_snr_meet_the_same_matrices(self, cell):
        gains = [state_of(each.channel, 0, 1).gains for each in (over(cell, snr_db=5.0), cell)]
        np.testing.assert_array_equal(*gains)
        assert over(cell, snr_db=5.0).plan(SCORES, 0, 1).t_d > cell.plan(SCORES, 0, 1).t_d

    def test_a_row_is_found_again_while_the_file_is_the_same(self, cell, tmp_path):
        row = json.loads(json.dumps({"cell": cell.settings}))
        assert cell_of(row) == cell
        np.save(tmp_path / "h.npy", np.ones((2, 52, 2, 2), complex))
        assert cell_of(row) is None
