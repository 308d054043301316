import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rich.progress import Progress
from tolerances import IMPORTANCE
from typer.testing import CliRunner

from cli.main import app
from experiments.data import ImageSetError
from experiments.data.image_sets import Example, load_image_set, view_groups
from experiments.data.prepared import open_prepared, prepare
from experiments.evaluation.coders import CODECS, _best_file, _file, send_frame, send_picture
from experiments.evaluation.evaluation import _votes
from experiments.evaluation.frame_cells import CLEAN, FrameCell, tune_threshold
from experiments.evaluation.grid import MOST_CELLS, grid
from experiments.evaluation.ldpc import Code
from experiments.evaluation.run import Run
from experiments.provenance import provenance
from semlink.access.hard_decisions import capacity
from semlink.channel.awgn import Awgn
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.burst import GilbertElliott
from semlink.channel.mimo_ofdm import MimoOfdm
from semlink.source.iaq import coder as iaq
from semlink.source.iaq.allocation.methods import allocate
from semlink.vision.images import model_pixels, open_image
from semlink.vision.photos import find_photos
from semlink.vision.vit import class_attention, load_vit, normalise
from semlink.vision.weights import DEVICE_MODEL

GENERATOR = np.random.default_rng(0)
SCORES = GENERATOR.dirichlet([0.5] * 196)
CAT = model_pixels(open_image(find_photos(["chelsea"])[0]))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def bsc(ber: float) -> BinarySymmetricChannel:
    return BinarySymmetricChannel(ber=ber)


class TestFrames:
    def test_without_errors_it_is_what_the_server_decodes(self):
        received = send_frame(CAT, SCORES, bsc(0.0), rng(), rho=0.25)
        frame = iaq.encode(CAT, SCORES, rho=0.25).frame
        np.testing.assert_array_equal(received.pixels, iaq.decode(frame))
        assert received.bits == 8 * len(frame.to_bytes())
        assert received.bits_per_patch is not None
        assert received.bits_per_patch.sum() == frame.payload_bits

    def test_errors_only_hit_patches_with_bits_and_repeat_with_the_seed(self):
        clean = send_frame(CAT, SCORES, bsc(0.0), rng(), rho=0.125)
        first, again, other = (send_frame(CAT, SCORES, bsc(0.05), rng(seed), rho=0.125) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first.pixels, again.pixels)
        assert (first.pixels != other.pixels).any()
        assert clean.bits_per_patch is not None
        empty = np.kron((clean.bits_per_patch == 0).reshape(14, 14), np.ones((16, 16), bool))
        assert empty.any()
        assert (first.pixels[empty] == clean.pixels[empty]).all()
        assert (first.pixels[~empty] != clean.pixels[~empty]).any()


class TestPictures:
    @pytest.mark.parametrize("codec", CODECS)
    def test_spends_its_budget_and_no_more(self, codec):
        sizes = [send_picture(CAT, codec, budget, bsc(0.0), rng()).bits for budget in (20_000, 40_000, 150_000)]
        assert sizes == sorted(sizes)
        for size, budget in zip(sizes, (20_000, 40_000, 150_000), strict=True):
            assert 0.5 * budget < size <= budget

    @pytest.mark.parametrize("codec", CODECS)
    def test_more_bits_are_closer_to_the_picture(self, codec):
        errors = [
            np.abs(send_picture(CAT, codec, budget, bsc(0.0), rng()).pixels.astype(int) - CAT).mean()
            for budget in (10_000, 40_000, 160_000)
        ]
        assert errors == sorted(errors, reverse=True)

    def test_too_small_a_budget_scales_the_picture_down_first(self):
        received = send_picture(CAT, "jpeg", 8_000, bsc(0.0), rng())
        assert received.pixels.shape == CAT.shape
        assert received.bits <= 8_000
        with pytest.raises(ValueError, match="budget"):
            send_picture(CAT, "jpeg", 800, bsc(0.0), rng())

    @pytest.mark.parametrize("codec", CODECS)
    def test_damage_is_survived_and_losses_are_told(self, codec):
        received = [send_picture(CAT, codec, 40_000, bsc(0.01), rng(seed)) for seed in range(20)]
        assert any(each.lost for each in received)
        for each in received:
            assert each.pixels.shape == CAT.shape
            assert not each.lost or (each.pixels == 128).all()

    @pytest.mark.parametrize("codec", CODECS)
    @pytest.mark.parametrize("budget", [1_000, 2_500])
    def test_no_quality_above_the_chosen_one_fits(self, codec, budget):
        part = CAT[64:160, 64:160]
        picture = Image.fromarray(part)
        files = [_file(picture, CODECS[codec], quality) for quality in range(1, 96)]
        # WebP's lengths do not quite rise: a few qualities further up there may be one that fits.
        longest = max((file for file in files if len(file) <= budget), key=len)
        assert 0.97 * len(longest) <= len(_best_file(part, CODECS[codec], budget)) <= budget

    @pytest.mark.parametrize("codec", CODECS)
    def test_a_code_corrects_what_spoils_the_plain_file(self, codec):
        code = Code(4, 5_000, 10_000)
        protected = send_picture(CAT, codec, 41_000, bsc(0.05), rng(), code)
        assert protected.bits == 40_000, "with padding and parity, whatever the file's length"
        clean = send_picture(CAT, codec, 8 * code.file_bytes, bsc(0.0), rng())
        np.testing.assert_array_equal(protected.pixels, clean.pixels)
        plain = send_picture(CAT, codec, 41_000, bsc(0.05), rng())
        assert plain.lost or (plain.pixels != clean.pixels).any()

    def test_a_hopeless_channel_loses_protected_pictures_without_a_fuss(self):
        received = send_picture(CAT, "jpeg", 40_000, bsc(0.4), rng(), Code(10, 800, 4_000))
        assert received.lost
        assert received.bits == 40_000

    def test_a_code_keeps_to_the_budget(self):
        with pytest.raises(ValueError, match="budget"):
            send_picture(CAT, "jpeg", 39_999, bsc(0.01), rng(), Code(4, 5_000, 10_000))

    def test_unknown_codec(self):
        with pytest.raises(ValueError, match="codec must be one of jpeg, webp, avif"):
            send_picture(CAT, "gif", 10_000, 0.0, rng())


class TestGrid:
    def test_has_every_combination_once_and_the_clean_cell(self):
        methods, rhos, channels = ["incremental", "fixed", "jpeg"], [0.125, 0.25], [bsc(0.0), bsc(0.05)]
        cells = grid(channels, methods=methods, gammas=[0.5, 1], told=True, rhos=rhos)
        assert len(cells) == len(set(cells))
        assert cells.count(FrameCell()) == 1
        incremental = [cell for cell in cells if cell.value("method") == "incremental"]
        assert len(incremental) == 2 * 2 * 3  # ρ, γ, and error-free, with errors, told of the errors
        assert len([cell for cell in cells if cell.value("method") == "fixed"]) == 2 * 2  # γ means nothing to it

    def test_the_clean_cell_may_be_all_there_is(self):
        assert grid([bsc(0.0)], methods=[CLEAN], rhos=[0.125, 0.25]) == [FrameCell()]

    def test_channels_have_methods_or_plans(self):
        channels = [Awgn(snr_db=0.0), Awgn(snr_db=10.0), MimoOfdm(streams=2), MimoOfdm()]
        clean, *cells = grid(channels, methods=["fixed"], plans=["exact", "fixed"], rhos=[0.25])
        assert clean == FrameCell()
        assert [cell.value("snr_db") for cell in cells[:2]] == [0.0, 10.0]
        assert [(cell.value("method"), cell.value("streams")) for cell in cells[2:]] == [
            ("exact", 2), ("exact", 4), ("fixed", 2), ("fixed", 4)
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("wrong", "word"),
        [
            ({"methods": ["best"]}, "best"),
            ({"rhos": [0.0]}, "rho"),
            ({"methods": ["jpeg-ldpc"], "channels": [GilbertElliott(ber=0.01)]}, "channels of independent errors"),
            ({"rhos": [0.5] * (MOST_CELLS + 1)}, "2,001 cells; at most 2,000"),
        ],
    )
    def test_what_cannot_be_measured_is_refused_before_anything_is(self, wrong, word):
        asked = {"channels": [bsc(0.0)], "methods": ["fixed"], "rhos": [0.5]} | wrong
        with pytest.raises(ValueError, match=word):
            grid(**asked)

    @pytest.mark.parametrize("method", ["attention-threshold", "attention-sum-threshold"])
    @pytest.mark.parametrize("rho", [0.1, 0.5])
    def test_thresholds_meet_the_mean_rate(self, method, rho):
        attention = rng().dirichlet([0.5] * 196, size=100)
        threshold = tune_threshold(method, attention, rho)
        spent = np.mean([allocate(method, scores, 0, threshold=threshold) for scores in attention]) / 8
        assert spent == pytest.approx(rho, abs=0.002)


def test_four_views_vote_by_object_and_group(tmp_path):
    examples = [
        Example(tmp_path, label, {"object": "a", "group": str(group)})
        for label, group in [(0, 0)] * 4 + [(1, 0)] * 4 + [(1, 1)] * 4 + [(1, 2)] * 3 + [(1, -1)]
    ]
    labels = [0, 0, 0, 1, *[0, 0, 1, 1], *[0, 0, 0, 1], *[1, 1, 1], 1]
    # Object 0/a: three of four. 1/a: a tie, which confidence decides; lost three to one; a group of three is none.
    seen = {"label": np.array(labels), "confidence": np.array([0.5] * 4 + [0.5, 0.5, 0.9, 0.9] + [0.5] * 8)}
    groups = view_groups(examples)
    assert groups == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert _votes(seen, examples, groups) == [True, True, False]
    assert view_groups([Example(tmp_path, 0, {}) for _ in labels]) == []


@pytest.fixture(scope="module")
def cats(tmp_path_factory):
    """Eight crops of two photographs, with masks, in a folder with a manifest."""
    folder = tmp_path_factory.mktemp("cats")
    names = {"chelsea": "Egyptian cat", "coffee": "espresso"}
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "class", "label", "object", "group", "split", "mask"])
        for label, (name, class_name) in enumerate(names.items()):
            photo = open_image(find_photos([name])[0])
            mask = Image.new("L", photo.size)
            mask.paste(255, (0, 0, photo.width // 2, photo.height))
            mask.save(folder / f"{name}-mask.png")
            for number in range(6):
                path = f"{name}-{number}.png"
                photo.crop((number, number, photo.width - number, photo.height - number)).save(folder / path)
                split = "test" if number < 4 else "train"
                rows.writerow([path, class_name, label, name, 0, split, f"{name}-mask.png"])
    return folder


def test_prepared_arrays_are_those_of_the_device_and_computed_once(cats, tmp_path, monkeypatch):
    examples, _ = load_image_set(cats).where("split=test")
    with Progress(disable=True) as progress:
        folder = prepare(examples.examples, DEVICE_MODEL, None, tmp_path, progress)
        monkeypatch.setattr("experiments.data.prepared.load_vit", None)
        assert prepare(examples.examples, DEVICE_MODEL, None, tmp_path, progress) == folder
    prepared = open_prepared(folder)
    model = load_vit(DEVICE_MODEL)
    pixels = np.stack([model_pixels(open_image(example.path)) for example in examples.examples])
    np.testing.assert_array_equal(prepared.pixels, pixels)
    attention = class_attention(model, normalise(model, pixels)).numpy()
    np.testing.assert_allclose(prepared.attention, attention, rtol=IMPORTANCE)
    assert prepared.cover.mean() == pytest.approx(0.5, abs=0.01)


def test_images_of_classes_that_the_server_does_not_know_are_refused(cats, tmp_path):
    (tmp_path / "manifest.csv").write_text("path,class,split\nchelsea.jpg,Minka,test\ncoffee.jpg,cup,train\n")
    run = Run(data=tmp_path, only="split=test", out=tmp_path / "rows.jsonl", cache=tmp_path)
    with pytest.raises(ImageSetError, match="the model has other classes: of its 1000 none"):
        run.labelled(run.images())
    run = replace(run, data=cats)
    assert {example.label for example in run.labelled(run.images()).examples} == {285, 967}


@pytest.mark.slow
def test_a_run_writes_rows_and_goes_on_where_it_was(cats, tmp_path):
    out = tmp_path / "rows.jsonl"

    def run(*methods: str) -> None:
        grid = ["--only", "split=test", "--rho", "0.25", "--ber", "0.01", "--modified", "--processes", "2"]
        grid += ["--server-model", DEVICE_MODEL]  # at hand: nothing is asked of the hub
        chosen = [part for method in methods for part in ("--method", method)]
        arguments = ["evaluate", str(cats), str(out), *grid, *chosen, "--cache", str(tmp_path / "cache")]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output

    run(CLEAN, "incremental")
    first = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["cell"]["method"] for row in first] == [CLEAN, *["incremental"] * 2]
    assert [row["cell"]["design_ber"] for row in first] == [0, 0, 0.01]
    # The manifest's labels 0 and 1 are not the model's: they are found by the names of the classes.
    assert first[0]["single"]["accuracy"] == 1.0
    for row in first:
        assert row["single"]["images"] == 8
        assert row["four_view"]["images"] == 2
        correct = np.unpackbits(np.frombuffer(bytes.fromhex(row["correct"]), np.uint8), count=8)
        assert correct.mean() == row["single"]["accuracy"]
        assert 0 <= row["near_ties"]["0.001"] <= row["near_ties"]["0.01"] <= 8
        votes = np.unpackbits(np.frombuffer(bytes.fromhex(row["correct_votes"]), np.uint8), count=2)
        assert votes.mean() == row["four_view"]["accuracy"]
        assert {"command", "versions", "machine", "run", "models"} <= row.keys()
    assert first[1]["rho"] == 0.25
    assert first[1]["bits"] == iaq.HEADER_BITS + 0.25 * 8 * 150_528
    assert 0 < first[1]["object_share"] < 1

    out.write_bytes(out.read_bytes()[:-40])  # cut off within its last row
    run("incremental", "jpeg", "attention-threshold", "jpeg-ldpc")
    lines = out.read_text().splitlines()
    assert lines[:2] == [json.dumps(row) for row in first[:2]]
    again, jpeg, threshold, protected = map(json.loads, lines[3:])
    for name in ("cell", "single", "four_view", "correct_votes", "bits", "object_share"):
        assert again[name] == first[2][name], "the same seed, the same result"
    assert jpeg["cell"]["method"] == "jpeg"
    assert jpeg["bits"] <= first[1]["bits"]
    assert threshold["threshold"] > 0, "beside the cell, which is found again wherever it is tuned to"
    assert jpeg["code"] is None
    assert 0.9 * first[1]["bits"] < protected["bits"] <= first[1]["bits"]
    assert protected["bits"] == protected["code"]["blocks"] * protected["code"]["n"]
    assert 0.5 < protected["code"]["rate"] < capacity(0.01)
    assert protected["lost"] <= jpeg["lost"]
    assert 0.009 < protected["bit_errors"] < 0.011


def test_a_recorded_command_names_no_folder_of_one_machine(monkeypatch):
    monkeypatch.setattr("sys.argv", ["semlink", "--out", "/somewhere/rows.jsonl", "runs/here.jsonl", "0.05"])
    words = provenance()["command"].split()
    assert words[-4:] == ["--out", "rows.jsonl", "runs/here.jsonl", "0.05"]
