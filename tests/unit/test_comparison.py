"""One photo in every way at equal bits: `semlink compare`, and what it is made of."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.comparison import show
from cli.main import app
from experiments.comparison import WORDS, draw, psnr, send_every_way, spending
from experiments.evaluation.coders import CODECS, PROTECTED
from semlink.channel.awgn import Awgn
from semlink.channel.base import Channel, channel_type
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.burst import GilbertElliott
from semlink.channel.none import NoImpairment
from semlink.source.iaq.allocation.methods import allocate, allocation_methods
from semlink.source.iaq.coder import HEADER_BITS
from semlink.vision.images import model_pixels, open_image
from semlink.vision.photos import find_photos

BUDGET = HEADER_BITS + 224 * 224 * 3


@pytest.fixture(scope="module")
def photo():
    return model_pixels(open_image(find_photos(["chelsea"])[0]))


def sent(photo, channel: Channel, methods=None, seed: int = 0):
    attention = np.random.default_rng(1).dirichlet(np.full(196, 0.5))
    ways = send_every_way(
        photo, attention, channel, rho=0.125, gamma=1.0, design_ber=0.0, seed=seed, methods=methods
    )
    return {each.method: each for each in ways}


@pytest.mark.parametrize("method", ["attention-threshold", "attention-sum-threshold"])
@pytest.mark.parametrize("steps", [0, 7, 8, 30, 196, 800, 1568])
def test_a_threshold_spends_what_it_can_of_the_budget_and_no_more(method, steps):
    scores = np.random.default_rng(3).dirichlet(np.full(196, 0.5))
    spent = allocate(method, scores, 0, threshold=spending(method, scores, steps)).sum()
    whole_patches = steps // 8 * 8
    # The sum is never below any threshold without a patch, so that it has one at least.
    assert spent == (max(whole_patches, 8) if method == "attention-sum-threshold" else whole_patches)


def test_psnr():
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr(black, black) == np.inf
    assert psnr(black, np.full_like(black, 255)) == pytest.approx(0)
    assert psnr(black, np.full_like(black, 16)) == pytest.approx(20 * np.log10(255 / 16))


@pytest.fixture(scope="module")
def ways(photo):
    return sent(photo, BinarySymmetricChannel(ber=0.05))


class TestEveryWay:
    def test_is_there_and_has_no_more_than_the_budget(self, ways):
        assert set(ways) == {*allocation_methods(), *CODECS, *PROTECTED}
        assert [*ways][:3] == ["incremental", "water-filling", "fixed"]
        for way in ways.values():
            assert 0.9 * BUDGET < way.received.bits <= BUDGET
            assert abs(way.received.more["bit_errors"] - 0.05) < 0.005

    def test_a_code_saves_the_files_that_are_lost_without(self, ways, photo):
        for protected, codec in PROTECTED.items():
            assert not ways[protected].received.lost
            assert psnr(photo, ways[protected].pixels) > 30
            assert ways[codec].received.lost or psnr(photo, ways[codec].pixels) < 20
            assert ways[protected].code.bits == ways[protected].received.bits

    def test_without_errors_there_is_nothing_to_protect_from(self, photo):
        ways = sent(photo, NoImpairment())
        assert set(ways) == {*allocation_methods(), *CODECS}
        assert all(psnr(photo, ways[codec].pixels) > 30 for codec in CODECS)

    def test_over_qam_the_rate_is_that_of_the_hard_decisions(self, photo):
        way = sent(photo, Awgn(snr_db=12.0, order=16), ["jpeg-ldpc"])["jpeg-ldpc"]
        assert not way.received.lost
        assert psnr(photo, way.pixels) > 30
        assert 0.02 < way.received.more["bit_errors"] < 0.035

    def test_over_errors_that_are_not_independent_no_code_is_chosen(self, photo):
        way = sent(photo, channel_type("burst")(ber=0.01), ["jpeg-ldpc"])["jpeg-ldpc"]
        assert way.received is None
        assert way.problem == "no code rate is tabulated for burst"


def test_the_same_seed_gives_the_same_pictures(photo):
    first, again, other = (
        sent(photo, BinarySymmetricChannel(ber=0.002), ("incremental", "jpeg"), seed) for seed in (0, 0, 1)
    )
    for name in ("incremental", "jpeg"):
        np.testing.assert_array_equal(first[name].pixels, again[name].pixels)
    assert (first["incremental"].pixels != other["incremental"].pixels).any()


def test_the_sheet_has_a_panel_for_each_in_either_format(tmp_path, photo):
    panels = [(photo, ("one", "a cat")), *[(None, ("lost", ""))] * 6]
    for name in ("sheet.png", "sheet.webp"):
        draw(panels, tmp_path / "new" / name)
        with Image.open(tmp_path / "new" / name) as sheet:
            assert sheet.size == (5 * 230 + 6, 2 * 266 + 6)
            first = np.asarray(sheet.convert("RGB"))[42 : 42 + 224, 6 : 6 + 224].astype(float)
            assert np.abs(first - photo).mean() < (0.01 if name.endswith("png") else 10)


def run(*arguments):
    return CliRunner().invoke(app, ["compare", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def chelsea(tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "compare.png"
    result = run("chelsea", "--ber", 0.05, "--rho", 0.125, "--seed", 3, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1]), out  # before it are logs, which only `main` sends elsewhere


def test_the_document_says_what_was_done_and_what_came_of_it(chelsea):
    document, out = chelsea
    assert document["channel"] == {"type": "bsc", "ber": 0.05, "access": "none"}
    assert (document["rho"], document["seed"], document["budget_bits"]) == (0.125, 3, BUDGET)
    assert document["undamaged"]["name"] in ("tabby", "tiger cat", "Egyptian cat", "lynx")
    assert {"command", "versions", "machine"} <= document.keys()
    rows = {row["method"]: row for row in document["rows"]}
    assert {row["kind"] for row in rows.values()} == {"frame", "file", "coded file"}
    for row in rows.values():
        assert row["bits"] <= BUDGET
        assert row["agrees"] == (row["answer"]["label"] == document["undamaged"]["label"])
        assert row["flips_percent"] == pytest.approx(5, abs=0.5)
    assert rows["avif-ldpc"]["agrees"]
    assert rows["avif-ldpc"]["psnr_db"] > 30 > rows["incremental"]["psnr_db"] > 10
    assert rows["avif-ldpc"]["code"]["rate"] == pytest.approx(0.64, abs=0.01)
    with Image.open(out) as sheet:
        assert sheet.format == "PNG"
        assert sheet.size == (5 * 230 + 6, 3 * 266 + 6)


def test_the_table_has_every_way_and_names_the_channel(chelsea, capsys):
    from rich.console import Console

    document, _ = chelsea
    show(document, Console(width=120))
    text = capsys.readouterr().out
    assert "chelsea over bsc, ber 0.05, access none, seed 3: 151,432 bits at ρ = 0.125" in text
    assert all(name in text for name in WORDS.values())
    assert "AVIF + LDPC, rate 0.64" in text
    assert document["undamaged"]["name"] in text


def test_what_cannot_be_sent_is_named_with_the_reason_and_the_rest_is_shown(photo, chelsea, capsys):
    from rich.console import Console

    from cli.comparison import row_of

    ways = sent(photo, GilbertElliott(ber=0.05), ["fixed", "jpeg", *PROTECTED])
    assert [name for name in ways if ways[name].received is None] == [*PROTECTED]
    document = chelsea[0] | {"rows": [row_of(ways["jpeg-ldpc"], photo, None, chelsea[0]["undamaged"])]}
    show(document, Console(width=120))
    assert "Not sent: no code rate is tabulated for burst" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--channel", "mimo-ofdm"], 2, "channels without plans"),
        (["--snr", 3], 2, "--snr is for --channel"),
        (["--channel", "awgn", "--ber", 0.1], 2, "--ber is for --channel"),
        (["--out", "picture.jpg"], 2, "--out must end in .png or .webp, not .jpg"),
        (["--rho", 0], 2, "--rho must be above 0"),
        (["--rho", 2], 2, "--rho"),
    ],
)
def test_refuses(arguments, status, says):
    result = run("chelsea", *arguments)
    assert result.exit_code == status
    assert says in result.stderr
    assert result.stdout == ""


def test_refuses_what_is_no_photo(tmp_path):
    result = run("nosuch", "--out", tmp_path / "x.png")
    assert result.exit_code == 1
    assert "nosuch" in result.stderr
    assert not (tmp_path / "x.png").exists()
