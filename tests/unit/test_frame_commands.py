"""`semlink channel` and `semlink classify`: a frame file through a channel, and what frames and pictures show."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from channel_emulator.randomness import FrameRandomness
from channel_emulator.transmission import transmit
from cli.main import app
from semlink.access.load_planner import LOAD_METHODS
from semlink.channel.awgn import Awgn
from semlink.frame import MAX_FRAME_BYTES
from semlink.source.iaq import coder as iaq
from semlink.source.iaq.frame import IaqFrame
from semlink.vision.images import MAX_IMAGE_BYTES, model_pixels, open_image
from semlink.vision.photos import find_photos
from semlink.vision.weights import DEVICE_MODEL

CAT = model_pixels(open_image(find_photos(["chelsea"])[0]))
SCORES = np.random.default_rng(0).dirichlet([0.5] * 196)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def frame(tmp_path):
    """A file of equal bits, 2 a value."""
    path = tmp_path / "cat.slk"
    path.write_bytes(iaq.encode(CAT, SCORES, method="fixed", rho=0.25).frame.to_bytes())
    return path


class TestChannel:
    def test_arrives_as_over_the_emulator(self, frame, tmp_path):
        out = tmp_path / "new" / "out.slk"
        result = run(
            "channel", frame, out, "--channel", "awgn", "--snr", 12, "--order", 16, "--seed", 3, "--report"
        )
        assert result.exit_code == 0, result.output
        channel = Awgn(snr_db=12.0, order=16)
        expected, report = transmit(frame.read_bytes(), None, channel, FrameRandomness(3, "device-1", 0))
        assert out.read_bytes() == expected
        told = json.loads(result.stdout)
        assert told["impairment"] == "awgn"
        assert told["bits_flipped"] == report.bits_flipped > 0
        assert told["bits_exposed"] == 301_056

    def test_says_in_a_line_what_it_did(self, frame, tmp_path):
        result = run("channel", frame, tmp_path / "out.slk", "--ber", 0.01)
        assert result.stdout.startswith(f"{tmp_path / 'out.slk'}: bsc, ")
        assert "of 301,056 bits flipped (1" in result.stdout or "of 301,056 bits flipped (0.9" in result.stdout
        again = run("channel", frame, tmp_path / "again.slk", "--ber", 0.01)
        assert again.exit_code == 0
        assert (tmp_path / "out.slk").read_bytes() == (tmp_path / "again.slk").read_bytes()

    @pytest.mark.parametrize("method", [None, *LOAD_METHODS])
    def test_a_plan_is_made_for_the_frame_as_it_is(self, method, frame, tmp_path):
        out = tmp_path / "out.slk"
        chosen = [] if method is None else ["--plan", method]
        result = run("channel", frame, out, "--channel", "mimo-ofdm", "--snr", 40, *chosen, "--report")
        assert result.exit_code == 0, result.stderr
        assert out.read_bytes() == frame.read_bytes(), "ideal transmission"
        told = json.loads(result.stdout)
        assert 0 < told["t_d_ms"] == told["air_ms"]

    def test_lost_blocks_have_no_bits_in_what_arrives(self, frame, tmp_path):
        out = tmp_path / "out.slk"
        flags = ["--channel", "finite-blocklength", "--target-bler", 0.2, "--report"]
        told = json.loads(run("channel", frame, out, *flags).stdout)
        arrived = IaqFrame.from_bytes(out.read_bytes())
        assert 10 < len(told["lost_blocks"]) < 90
        np.testing.assert_array_equal(np.flatnonzero(arrived.bits == 0), told["lost_blocks"])
        assert told["bits_lost"] == len(told["lost_blocks"]) * 2 * 768

    @pytest.mark.parametrize(
        ("arguments", "status", "word"),
        [
            (["--plan", "fixed"], 2, "--plan is for --channel finite-blocklength and mimo-ofdm"),
            (["--channel", "awgn", "--ber", "0.1"], 2, "--ber is for --channel bsc"),
            (["--channel", "mimo-ofdm", "--order", "16"], 2, "--order has no effect"),
            (["--channel", "bsc", "--ber", "1.5"], 2, "--ber"),
            (["--channel", "mimo-ofdm", "--snr", "-50", "--plan", "fixed-b-wf"], 1, "get nothing through"),
            (["--channel", "mimo-ofdm", "--plan", "ia-qsmpa-lc"], 1, "for bits that are given"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, arguments, status, word, frame, tmp_path):
        result = run("channel", frame, tmp_path / "out.slk", *arguments)
        assert result.exit_code == status
        assert word in result.stderr
        assert not (tmp_path / "out.slk").exists()

    def test_patches_without_bits_need_no_block(self, tmp_path):
        sent = iaq.encode(CAT, SCORES, rho=0.125).frame
        assert (sent.bits == 0).any()
        (tmp_path / "cat.slk").write_bytes(sent.to_bytes())
        flags = ["--channel", "finite-blocklength", "--target-bler", 0.2, "--report"]
        told = json.loads(run("channel", tmp_path / "cat.slk", tmp_path / "out.slk", *flags).stdout)
        times = np.array(told["block_air_ms"])
        np.testing.assert_array_equal(times == 0, sent.bits == 0)
        assert told["lost_blocks"]
        assert sent.bits[told["lost_blocks"]].all()
        arrived = IaqFrame.from_bytes((tmp_path / "out.slk").read_bytes())
        assert arrived.to_bytes() == sent.without(told["lost_blocks"]).to_bytes()

    def test_a_file_without_end_is_not_read_to_it(self, tmp_path):
        result = run("channel", "/dev/zero", tmp_path / "out.slk")
        assert result.exit_code == 1
        assert f"at most {MAX_FRAME_BYTES}" in result.stderr


class TestClassify:
    def test_frames_and_pictures_and_photographs(self, frame, tmp_path):
        Image.fromarray(CAT).save(tmp_path / "cat.png")
        options = ["--model", DEVICE_MODEL, "--json"]
        result = run("classify", frame, tmp_path / "cat.png", "chelsea", *options)
        assert result.exit_code == 0, result.output
        answers = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
        assert [len(answer["predictions"]) for answer in answers] == [5, 5, 5]
        photograph = answers[2]["predictions"][0]
        assert (photograph["label"], photograph["name"]) == (285, "Egyptian cat")
        for answer in answers:
            confidences = [each["confidence"] for each in answer["predictions"]]
            assert confidences == sorted(confidences, reverse=True)
            assert 0 < sum(confidences) <= 1 + 1e-6
        table = run("classify", "chelsea", "--model", DEVICE_MODEL, "--top", 1)
        assert "Egyptian cat" in table.stdout

    @pytest.mark.parametrize(
        ("content", "word"),
        [(b"no picture", "none of these"), (b"SL", "too few"), (b"", "none of these")],
    )
    def test_what_is_neither_is_refused(self, content, word, tmp_path):
        (tmp_path / "x").write_bytes(content)
        result = run("classify", tmp_path / "x", "--model", DEVICE_MODEL)
        assert result.exit_code == 1
        assert word in result.stderr
        (line,) = result.stderr.splitlines()
        assert line.startswith("semlink: ")

    def test_a_frame_of_another_size_is_refused(self, tmp_path):
        small = iaq.encode(CAT[:16, :16], np.ones(1), rho=1.0).frame
        (tmp_path / "small.slk").write_bytes(small.to_bytes())
        result = run("classify", tmp_path / "small.slk", "--model", DEVICE_MODEL)
        assert result.exit_code == 1
        assert "(16, 16, 3)" in result.stderr

    def test_a_huge_file_is_not_read_whole(self, tmp_path):
        with (tmp_path / "huge").open("wb") as file:
            file.truncate(1 << 40)
        result = run("classify", tmp_path / "huge", "--model", DEVICE_MODEL)
        assert result.exit_code == 1
        assert f"at most {MAX_IMAGE_BYTES}" in result.stderr


class TestPictureFormats:
    @pytest.mark.parametrize(
        ("name", "kind"), [("a.png", "PNG"), ("a", "PNG"), ("a.WEBP", "WEBP"), ("a.tif", "TIFF"), ("a.bmp", "BMP")]
    )
    def test_the_suffix_decides_and_no_pixel_changes(self, name, kind, frame, tmp_path):
        assert run("decode", frame, tmp_path / name).exit_code == 0
        expected = np.rint(iaq.decode(IaqFrame.from_bytes(frame.read_bytes())))
        with Image.open(tmp_path / name) as picture:
            assert picture.format == kind
            np.testing.assert_array_equal(np.asarray(picture), expected)

    @pytest.mark.parametrize(
        ("name", "word"),
        [
            ("a.jpg", "JPEG would not keep the picture as it was received"),
            ("a.avif", "AVIF would not"),
            ("a.xyz", ".xyz is no picture format"),
            ("a.pdf", "PDF would not"),
        ],
    )
    def test_a_format_that_loses_something_is_refused(self, name, word, frame, tmp_path):
        """`decode` once wrote PNG bytes into a file named .jpg."""
        result = run("decode", frame, tmp_path / name)
        assert result.exit_code == 1
        assert word in result.stderr
        assert not (tmp_path / name).exists()

    def test_a_file_without_end_is_not_read_to_it(self, tmp_path):
        result = run("decode", "/dev/zero", tmp_path / "out.png")
        assert result.exit_code == 1
        assert f"at most {MAX_FRAME_BYTES}" in result.stderr
