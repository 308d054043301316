import json
import shlex

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

import cli.demo
from channel_emulator.settings import Settings as ChannelSettings
from cli.demo import CHANNEL, ENCODER, VIEWS
from cli.frames import ENCODER as ENCODING
from cli.main import app
from device.settings import DeviceSettings
from semlink.service.settings import read_settings
from semlink.source.iaq.frame import Geometry, IaqFrame
from semlink.vision.images import model_pixels, open_image
from semlink.vision.photos import find_photos


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_one_clear_line(result, *words):
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    assert line.startswith("semlink: ")
    assert all(word in line for word in words), line


@pytest.fixture(scope="module")
def cat_frame(tmp_path_factory):
    path = tmp_path_factory.mktemp("frames") / "cat.frame"
    result = run("encode", "chelsea", path)
    assert result.exit_code == 0, result.output
    assert f"{path}: 904 header bits, 301056 payload bits, ρ = 0.2500, true ratio 0.2508" in result.stdout
    return path


def test_encode_writes_a_frame(cat_frame):
    frame = IaqFrame.from_bytes(cat_frame.read_bytes())
    assert frame.geometry == Geometry(14, 14, 16, 3)
    assert frame.rho == 0.25
    assert len(np.unique(frame.bits)) > 2


def test_decode_gives_back_the_picture(cat_frame, tmp_path):
    path = tmp_path / "cat"
    result = run("decode", cat_frame, path)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{path}: 224 x 224 pixels\n"
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        received = np.asarray(picture).astype(float)
    sent = model_pixels(open_image(find_photos(["chelsea"])[0]))
    assert received.shape == sent.shape
    frame = IaqFrame.from_bytes(cat_frame.read_bytes())
    half_step = (frame.high - frame.low) / 2.0 ** (frame.bits + 1)
    bound = np.kron(half_step.reshape(14, 14), np.ones((16, 16)))[..., None]
    assert (np.abs(received - sent) <= bound + 1).all()


def test_encode_takes_its_options(tmp_path):
    path = tmp_path / "cat.frame"
    result = run("encode", "chelsea", path, "--rho", 0.5, "--gamma", 2, "--design-ber", 0.1)
    assert result.exit_code == 0, result.output
    assert IaqFrame.from_bytes(path.read_bytes()).rho == 0.5


@pytest.mark.parametrize(
    ("geometry", "shape"),
    [
        (Geometry(1, 5, 1, 1), (1, 5)),
        (Geometry(1, 1, 1, 1), (1, 1)),
        (Geometry(1, 4, 1, 3), (1, 4, 3)),
        (Geometry(3, 1, 1, 3), (3, 1, 3)),
        (Geometry(2, 3, 8, 1), (16, 24)),
    ],
)
def test_decode_takes_frames_of_any_shape(tmp_path, geometry, shape):
    bits = np.full(geometry.patches, 8)
    codes = np.full((geometry.patches, geometry.values_per_patch), 255)
    frame = IaqFrame.from_codes(codes, bits, geometry=geometry, low=0, high=200)
    (tmp_path / "frame").write_bytes(frame.to_bytes())
    result = run("decode", tmp_path / "frame", tmp_path / "picture.png")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "picture.png") as picture:
        assert np.asarray(picture).shape == shape
        assert (np.asarray(picture) == 200).all()


def test_encode_refuses_what_is_no_photo(tmp_path):
    out = tmp_path / "x.frame"
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    assert_one_clear_line(run("encode", "nosuch", out), "nosuch", "chelsea")
    assert_one_clear_line(run("encode", text, out), "text.jpg", "JPEG, PNG, WEBP")
    assert not out.exists()


def test_encode_refuses_settings_out_of_range(tmp_path):
    assert_one_clear_line(
        run("encode", "chelsea", tmp_path / "x", "--weights", tmp_path / "none"), "--weights", "must be a folder"
    )
    (tmp_path / "file").write_text("no folder")
    assert_one_clear_line(run("encode", "chelsea", tmp_path / "file" / "x"), str(tmp_path / "file"))
    for arguments in (["--method", "attention-threshold"], ["--threshold", 0.5]):
        result = run("encode", "chelsea", tmp_path / "x", *arguments)
        assert result.exit_code == 2
        assert "threshold: the method" in result.stderr
    for option, value in (("--rho", 1.5), ("--design-ber", 1.5), ("--gamma", 0), ("--threshold", "nan")):
        result = run("encode", "chelsea", tmp_path / "x", option, value)
        assert result.exit_code == 2
        assert option in result.stderr


def test_decode_refuses_what_is_no_frame(cat_frame, tmp_path):
    data = cat_frame.read_bytes()
    damaged = bytearray(data)
    damaged[20] ^= 1
    for name, content, reason in (
        ("empty", b"", "too few"),
        ("picture", b"\x89PNG" + bytes(200), "starts with"),
        ("cut", data[:-1], "payload has"),
        ("damaged", bytes(damaged), "CRC-32"),
    ):
        (tmp_path / name).write_bytes(content)
        assert_one_clear_line(run("decode", tmp_path / name, tmp_path / "out.png"), reason)
    assert not (tmp_path / "out.png").exists()
    assert_one_clear_line(run("decode", tmp_path / "missing", tmp_path / "out.png"), "No such file")
    assert_one_clear_line(run("decode", cat_frame, tmp_path / "empty" / "out.png"), str(tmp_path / "empty"))


def test_folders_of_results_are_made(cat_frame, tmp_path):
    path = tmp_path / "new" / "folder" / "cat.png"
    assert run("decode", cat_frame, path).exit_code == 0
    assert path.is_file()


@pytest.mark.parametrize("count", [2, VIEWS - 1])
@pytest.mark.parametrize("row", ["--images chelsea", "chelsea"], ids=["repeated", "in a row"])
def test_demo_wants_one_photo_or_four(tmp_path, count, row):
    images = shlex.split(f"--images chelsea {' '.join([row] * (count - 1))}")
    assert_one_clear_line(run("demo", *images, "--out", tmp_path / "out"), f"not {count}")
    assert not (tmp_path / "out").exists()


def test_demo_refuses_photos_that_are_not_there_before_it_starts_anything(tmp_path):
    assert_one_clear_line(run("demo", "--images", "nosuch", "--out", tmp_path / "out"), "nosuch")
    assert not (tmp_path / "out").exists()


def test_demo_says_where_it_could_not_write(tmp_path):
    (tmp_path / "out").write_text("a file")
    assert_one_clear_line(run("demo", "--out", tmp_path / "out"), "out", "File exists")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--plan", "fixed"], "--plan is for --channel finite-blocklength and mimo-ofdm"),
        (["--channel", "mimo-ofdm", "--rho", "0.1"], "needs --rho of 0.125 or more"),
        (["--channel", "mimo-ofdm", "--total-bits", "100000"], "leave --total-bits out"),
        (["--channel", "awgn", "--order", "32"], "--order: must be 4, 16, 64 or 256"),
        (
            ["--channel", "finite-blocklength", "--target-bler", "0"],
            "--target-bler: must be greater than 0",
        ),
        (["--channel", "awgn", "--ber", "0.1"], "--ber is for --channel bsc or burst, not awgn"),
        (["--ber", "0.1", "--snr", "3"], "--snr is for --channel awgn or finite-blocklength or mimo-ofdm"),
        (["--channel", "mimo-ofdm", "--target-bler", "0.1"], "--target-bler is for --channel finite-blocklength"),
        (["--channel", "mimo-ofdm", "--order", "16"], "--order has no effect with --coding ideal"),
        (
            ["--channel", "mimo-ofdm", "--plan", "exact", "--method", "top-k"],
            "--method has no effect beside --plan",
        ),
        (["--channel", "mimo-ofdm", "--gamma", "2"], "--gamma has no effect beside --plan"),
        (["--method", "top-k", "--gamma", "2"], "--gamma is for --method incremental or water-filling, not top-k"),
        (["--rho", "0.5", "--total-bits", "100000"], "--rho has no effect beside --total-bits"),
        (["--pace"], "--pace is for --channel finite-blocklength or mimo-ofdm, not bsc"),
        (["--channel", "mimo-ofdm", "--channel-file", "nowhere.npy"], "channel file nowhere.npy: No such file"),
    ],
)
def test_a_demo_that_contradicts_itself_is_refused_before_anything_starts(tmp_path, arguments, reason):
    result = run("demo", "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert not (tmp_path / "out").exists()


class RecordedProcesses:
    """Starts nothing; every process answers at once."""

    def __init__(self, logs):
        self.out, self.flags = logs.parent, {}
        RecordedProcesses.last = self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def start(self, name, module, *flags):
        self.flags[name] = (module, list(map(str, flags)))

    async def line(self, name, seconds):
        (self.out / f"{name}.png").touch()
        said = {"grpc": f"{name}:1", "http": f"{name}:2", "picture": self.out / f"{name}.png", "vote": "the same"}
        return said | {
            "bits_on_air": {"uplink": 1000, "downlink": 8},
            "layers": [{}, {}],
            "opinion": [{"confidence": 0.4}],
        }

    async def through(self, names, work):
        assert names == ("server", "channel")
        return await work


async def at_once(server):
    assert server == "server:2"


async def no_answers(server, photos, viewpoints):
    assert server == "server:2"
    return [None] * len(photos)


@pytest.mark.parametrize(
    ("given", "of_channel", "of_devices"),
    [
        (
            "--channel bsc --ber 0.05 --rho 0.125 --design-ber 0.05 --seed 7",
            {"channel": "bsc", "ber": 0.05, "seed": 7},
            {"rho": 0.125, "design_ber": 0.05, "plan": None},
        ),
        (
            "--channel finite-blocklength --target-bler 0.2 --errors ber-rule --csi-error 1",
            {"channel": "finite-blocklength", "target_bler": 0.2, "errors": "ber-rule", "csi_error": 1},
            {"rho": 0.25, "plan": "ia-qsmpa"},
        ),
        (
            "--channel rayleigh --snr 3 --order 16 --total-bits 90000 --gamma 2",
            {"channel": "rayleigh", "snr": 3, "order": 16, "redraw_every_coherence": False},
            {"total_bits": 90000, "gamma": 2},
        ),
        (
            "--channel mimo-ofdm --plan fixed --redraw-every-coherence --pace --streams 2",
            {"channel": "mimo-ofdm", "redraw_every_coherence": True, "pace": True, "streams": 2},
            {"plan": "fixed"},
        ),
        (
            "--policy alone --budget-bits 4000 --codec webp --protect-for 0.05 --channel burst --access none",
            {"channel": "burst", "access": "none"},
            {"policy": "alone", "budget_bits": 4000, "codec": "webp", "source": "codec", "protect_for": 0.05},
        ),
        (
            "--policy ask --target-accuracy-loss 2",
            {"channel": "bsc", "access": "ldpc"},
            {"policy": "ask", "target_accuracy_loss": None, "source": "codec"},
        ),
    ],
)
def test_options_of_the_demo_reach_its_processes(monkeypatch, tmp_path, given, of_channel, of_devices):
    monkeypatch.setattr(cli.demo, "Processes", RecordedProcesses)
    monkeypatch.setattr(cli.demo, "show", lambda *_: None)
    monkeypatch.setattr(cli.demo, "_undamaged", no_answers)
    monkeypatch.setattr(cli.demo, "_until_ready", at_once)
    result = run("demo", *given.split(), "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    started = RecordedProcesses.last.flags
    assert list(started) == ["server", "channel", "device-1", "device-2", "device-3", "device-4"]
    channel = read_settings(ChannelSettings, "channel_emulator", started["channel"][1])
    assert channel.upstream == "server:1"
    assert channel.model_dump(include=set(of_channel)) == of_channel
    for number in range(1, 5):
        device = read_settings(DeviceSettings, "device", started[f"device-{number}"][1])
        assert (device.to, device.device_id, device.view) == ("channel:1", f"device-{number}", number)
        assert device.model_dump(include=set(of_devices)) == of_devices
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["encoder"].items() <= (device.coding | {"source": device.source}).items()
    if device.source == "iaq":
        assert "rho" in summary["encoder"] or device.total_bits
        assert ("method" in summary["encoder"]) == (device.plan is None)
    assert summary["policy"]["policy"] == device.policy
    assert summary["bits_on_air"] == {"uplink": 4000, "downlink": 32}
    assert summary["plan"] == device.plan
    assert summary["channel"]["impairment"] == channel.channel


@pytest.mark.parametrize(
    ("name", "settings"), [("demo", ENCODER), ("demo", CHANNEL), ("encode", ENCODING)], ids=str
)
def test_options_are_the_settings_of_the_processes(name, settings):
    """With their defaults, in the order of the help, and every word of their descriptions."""
    command = get_command(app).commands[name]
    shared = [each for each in command.params if each.name in settings.names]
    assert tuple(each.name for each in shared) == settings.names
    for each in shared:
        declared = settings.model.model_fields[each.name]
        assert each.default == declared.default
        assert declared.description[1:] in each.help
