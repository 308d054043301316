"""Figures of the learned interface: rows, pictures and table from small random networks on a few pictures."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from processors import needs_openvino
from scipy.stats import norm
from skimage.metrics import peak_signal_noise_ratio

from experiments import learned_interface, learned_interface_figures, learned_interface_table
from experiments.data.image_sets import load_image_set
from experiments.evaluation.coded_link import CHANNEL_USES, SNRS_DB, air
from experiments.evaluation.learned_link import LearnedLink, find_links
from experiments.evaluation.picture_outcomes import LEAST_ERROR, Outcomes, kept, mean_interval
from experiments.evaluation.small_pictures import squared_error
from experiments.learned_interface import ABLATED_CBR, CODED, Measurement, Point
from experiments.training.learned_source import LearnedSource, LearnedSourceOptions, save_source
from semlink.access.learned.bandwidth import CBRS
from semlink.access.learned.export import export_access
from semlink.access.learned.mapper import ChannelDemapper, ChannelMapper, Link
from semlink.vision.weights import WeightsError

pytestmark = pytest.mark.numeric

IMAGES = 6
TRAINED = [("full", "awgn"), ("split", "awgn"), ("full", "rayleigh"), ("no-ian", "rayleigh")]


def access_card(variant: str, channel: str, interface: str) -> dict:
    """What the figures read of a card."""
    return {
        "variant": variant,
        "channel": channel,
        "interface": interface,
        "cbr": list(CBRS),
        "size": "small",
        "trained_on": 0,
        "passes": 0,
        "at": variant,
        "options": {"seed": 0},
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Random networks: one source, and channel networks of some variants, all with the same weights."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    options = LearnedSourceOptions("source", "small", "learned", 1.0, 0.01, 0.1, 64, 64, 1e-3, 0)
    (folder / "source").mkdir()
    interface = save_source(LearnedSource(options), "small", folder / "source")
    link, epsilon = Link("small", "full"), torch.from_numpy(interface.epsilon)
    for number, (variant, channel) in enumerate(TRAINED):
        out = folder / f"{channel}-{variant}"
        out.mkdir()
        check = export_access(ChannelMapper(link, epsilon), ChannelDemapper(link, epsilon), out)
        card = access_card(variant, channel, interface.id.hex()) | {"check": check, "at": str(number)}
        (out / "access.json").write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    lines = ["path,class,label,split"]
    for number in range(IMAGES + 2):
        small = Image.fromarray(generator.integers(0, 256, (4, 4, 3), np.uint8))
        small.resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[number % 2]},{number % 2},{'test' if number < IMAGES else 'train'}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def measurement(models, data, tmp_path_factory):
    test, _ = load_image_set(data).where("split=test")
    return Measurement(test, find_links(models), 0, tmp_path_factory.mktemp("cache"))


class TestPoints:
    def test_are_those_whose_networks_are_there(self, measurement):
        points = [point for cbr in CHANNEL_USES for point in measurement.points(cbr)]
        learned = {(point.method, point.channel) for point in points if point.method not in CODED}
        assert learned == set(TRAINED)
        whole = len(CHANNEL_USES) * len(SNRS_DB)
        assert len(points) == (3 + 2 * len(CODED)) * whole + len(SNRS_DB)
        assert {point.cbr for point in points if point.method == "no-ian"} == {ABLATED_CBR}


class TestLearnedLink:
    @needs_openvino
    def test_shows_what_its_parts_give_one_after_the_other(self, measurement):
        link = measurement.links["full", "rayleigh"]
        met = air("rayleigh", 10, IMAGES, 192, 0)
        bits = link.source.bits(measurement.pixels)
        shown = link.received(bits, "1/16", met)
        assert shown.shape == measurement.pixels.shape
        assert shown.dtype == np.uint8
        np.testing.assert_array_equal(shown, link.received(bits, "1/16", met))
        other = link.received(bits, "1/16", air("rayleigh", 10, IMAGES, 192, 1))
        assert (shown != other).any()

    def test_of_two_folders_with_the_same_variant_is_refused(self, models, tmp_path):
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            card = json.loads((models / "awgn-full" / "access.json").read_text())
            (tmp_path / name / "access.json").write_text(json.dumps(card))
        (tmp_path / "source").symlink_to(models / "source")
        (tmp_path / "interface.npy").write_bytes((models / "source" / "interface.npy").read_bytes())
        (tmp_path / "source.safetensors").write_bytes((models / "source" / "source.safetensors").read_bytes())
        with pytest.raises(WeightsError, match="both full for awgn"):
            find_links(tmp_path)

    def test_without_its_source_is_refused(self, tmp_path):
        (tmp_path / "access.json").write_text(json.dumps(access_card("full", "awgn", "00000000")))
        with pytest.raises(WeightsError, match="source of interface 00000000"):
            find_links(tmp_path)


class TestOutcomes:
    def test_psnr_is_that_of_another_library(self):
        generator = np.random.default_rng(0)
        sent, shown = generator.integers(0, 256, (2, 3, 32, 32, 3), np.uint8)
        found = Outcomes(squared_error(sent, shown), np.zeros(3, np.int64)).psnr
        expected = [peak_signal_noise_ratio(*pair, data_range=255) for pair in zip(sent, shown, strict=True)]
        np.testing.assert_allclose(found, expected, atol=1e-4)  # the last digit that rows keep

    def test_psnr_of_no_error_is_finite(self):
        found = Outcomes(np.zeros(1), np.zeros(1, np.int64)).psnr
        assert found[0] == 10 * np.log10(255**2 / LEAST_ERROR)

    def test_the_interval_is_the_normal_one(self):
        values = np.random.default_rng(1).normal(20, 3, 400)
        low, high = norm.interval(0.95, values.mean(), values.std(ddof=1) / 20)
        found = mean_interval(values)
        assert [found[name] for name in ("mean", "low", "high")] == pytest.approx(
            [values.mean(), low, high], abs=1e-4
        )

    def test_are_measured_once(self, tmp_path):
        calls = []

        def measure():
            calls.append(1)
            return Outcomes(np.arange(3.0), np.arange(3), {"k": 5})

        for _ in range(2):
            found = kept(tmp_path / "folder" / "outcomes.npz", measure)
            np.testing.assert_array_equal(found.errors, np.arange(3.0))
            np.testing.assert_array_equal(found.labels, np.arange(3))
            assert found.facts == {"k": 5}
        assert len(calls) == 1


class TestCoded:
    def test_messages_fit_into_their_blocks(self, measurement):
        for method in CODED:
            point = Point(method, "awgn", "1/8", 5.0)
            chosen, bits = measurement.chosen(point)
            table = measurement.tables[CODED[method][0]]
            sent = chosen < table.bits.shape[1]
            assert (table.bits[np.flatnonzero(sent), chosen[sent]] <= bits).all()

    def test_an_ideal_code_shows_no_less(self, measurement):
        for channel in ("awgn", "rayleigh"):
            ideal, real = (
                measurement.outcomes(Point(f"avif-{carrier}", channel, "1/16", 8.0))
                for carrier in ("capacity", "ldpc")
            )
            assert (ideal.errors <= real.errors).all()


@needs_openvino
@pytest.mark.slow
def test_the_program_writes_rows_pictures_and_a_page(models, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module in (learned_interface, learned_interface_figures, learned_interface_table):
        monkeypatch.setattr(module, "SNRS_DB", (5.0, 20.0))
    monkeypatch.setattr(learned_interface, "CACHE", tmp_path / "cache")
    out = tmp_path / "out"
    out.mkdir()
    learned_interface.main(data, models, out, None, 0)
    name = f"learned-interface-{data.name}"
    rows = [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]
    for row in rows:
        assert {"method", "channel", "cbr", "snr_db", "images", "seed", "psnr", "command", "versions"} <= set(row)
        assert row["psnr"]["low"] <= row["psnr"]["mean"] <= row["psnr"]["high"]
        assert row["images"] == IMAGES
        if row["method"] in CODED:
            assert sum(row["sides"].values()) + row["one_colour"] + row["nothing"] == pytest.approx(1, abs=1e-3)
    written = {(row["method"], row["channel"], row["cbr"], row["snr_db"]): row for row in rows}
    ahead = written["split", "awgn", "1/24", 5.0]["ahead"]["psnr"]["mean"]
    ours, theirs = (written[method, "awgn", "1/24", 5.0]["psnr"]["mean"] for method in ("full", "split"))
    assert ahead == pytest.approx(ours - theirs, abs=2e-4)  # each is rounded to four digits
    page = (out / f"{name}.md").read_text()
    assert f"| 1/24 | Split DeepJSCC | {theirs:.2f} |" in page
    assert f"| AWGN | 1/24 | Split DeepJSCC | {ahead:+.2f} (" in page
    for figure in (5, 6, 7, 8):
        with Image.open(out / f"{name}-figure{figure}.png") as picture:
            assert min(picture.size) > 300
    split = Point("split", "awgn", "1/24", 5.0)
    (forgotten,) = (tmp_path / "cache").glob(f"*/{split.name}-*.npz")
    forgotten.unlink()
    monkeypatch.setattr(LearnedLink, "received", None)  # a second run measures nothing but the pictures of Fig. 8
    monkeypatch.setattr(learned_interface_figures, "draw_pictures", lambda *_: None)
    learned_interface.main(data, models, out, None, 0, only_kept=True)
    left = [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]
    assert len(left) == len(rows) - 1
