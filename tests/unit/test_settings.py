"""Settings as people give them: flags, environment, mistakes."""

import enum
import functools
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings, CliPositionalArg

from channel_emulator.settings import Settings as ChannelSettings
from device.settings import DeviceSettings
from semlink.parameters import Only, flag_of
from semlink.service.settings import read_settings
from server.settings import ServerSettings

ROOT = Path(__file__).parents[2]
PROCESSES = {
    "device": (DeviceSettings, ["--to", "host:1", "--images", "chelsea", "--object-id", "cup"]),
    "channel_emulator": (ChannelSettings, ["--upstream", "host:1"]),
    "server": (ServerSettings, []),
}
EVERY_SETTING = [(process, name) for process, (kind, _) in PROCESSES.items() for name in kind.model_fields]
DEVICE = PROCESSES["device"][1]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for _, name in EVERY_SETTING:
        monkeypatch.delenv(f"SEMLINK_{name.upper()}", raising=False)


def device(*arguments):
    return read_settings(DeviceSettings, "device", [*DEVICE, *arguments])


def mistake(capsys, process, arguments):
    kind, _ = PROCESSES[process]
    with pytest.raises(SystemExit) as exit_:
        read_settings(kind, process, arguments)
    assert exit_.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


def test_a_vote_is_due_before_its_object_is_forgotten(capsys):
    arguments = ["--vote-after-seconds", "50", "--wish-seconds", "10", "--object-ttl-seconds", "60"]
    assert "must be less than --object-ttl-seconds, 60" in mistake(capsys, "server", arguments)


def test_a_server_has_one_target(capsys):
    said = mistake(capsys, "server", ["--target-accuracy-loss", "1", "--budget-bits", "9000"])
    assert "--target-accuracy-loss and --budget-bits exclude each other" in " ".join(said.split())


def sample(kind, name):
    """Another value than the default, as text, and as the setting then reads."""
    field = kind.model_fields[name]
    inner = [each for each in typing.get_args(field.annotation) if each is not type(None)]
    if typing.get_origin(field.annotation) is typing.Literal:
        value = next((each for each in inner if each != field.default), field.default)
        return str(value), value
    if name in ("to", "upstream"):
        return "there:7", "there:7"
    if name == "otlp_endpoint":
        return "http://there:7", "http://there:7"
    if name == "images":
        return "coffee,rocket", ["coffee", "rocket"]
    if name == "cors_origins":
        return "http://a:3000,https://b", ["http://a:3000", "https://b"]
    if field.annotation == list[str]:
        return "one,two", ["one", "two"]
    wanted = inner[0] if inner else field.annotation
    if typing.get_origin(wanted) is typing.Literal:
        value = typing.get_args(wanted)[0]
        return value, value
    if issubclass(wanted, enum.Enum):
        value = next(each for each in wanted if each != field.default)
        return value.value, value
    samples = {
        int: ("3", 3),
        float: ("0.125", 0.125),
        bool: ("true", True),
        Path: ("a/b", Path("a/b")),
    }
    return samples.get(wanted, ("name", "name"))


@pytest.fixture(scope="module")
def help_of():
    started = {
        name: subprocess.Popen([sys.executable, "-m", name, "--help"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for name in PROCESSES
    }
    return {name: (process.communicate(timeout=120)[0], process.wait()) for name, process in started.items()}


@pytest.mark.parametrize("process", PROCESSES)
def test_help_names_each_setting_and_says_what_it_does(process, help_of):
    text, status = help_of[process]
    assert status == 0
    words = " ".join(text.split())
    for name, field in PROCESSES[process][0].model_fields.items():
        assert re.search(rf"--{name.replace('_', '-')}\b", text), name
        assert field.description, name
        assert " ".join(field.description.split())[:40] in words.replace("%%", "%"), name
    assert "SEMLINK_" in text


@pytest.mark.parametrize(("process", "name"), EVERY_SETTING)
def test_each_setting_is_read_from_the_environment_and_its_flag_goes_first(process, name, monkeypatch, tmp_path):
    kind, required = PROCESSES[process]
    flag, variable = f"--{name.replace('_', '-')}", f"SEMLINK_{name.upper()}"
    text, value = sample(kind, name)
    if name in ("object_ttl_seconds", "total_bits", "max_held_bytes"):  # these have a lower end
        text, value = "2000000", 2_000_000
    if name == "spool_bytes":
        text, value = "16777216", 1 << 24
    if name == "burst_length":
        text, value = "3", 3
    if name == "budget_bytes":
        text, value = "300", 300
    if name == "access":  # that of the channel where none is named
        text = value = "ldpc"
    if name == "channel_file":  # is read at once
        text = value = str(tmp_path / "snr.csv")
        Path(text).write_text("frame,snr_db\n0,20\n")
    monkeypatch.setenv(variable, text)
    others = list(required)
    if flag in others:
        start = others.index(flag)
        del others[start : start + 2]
    if name == "threshold":
        others += ["--method", "attention-threshold"]
    if name == "clock_rounds":
        others += ["--every", "2"]
    if name == "show_spool":
        others += ["--spool", "a/b"]
    for each in kind.model_fields[name].metadata:
        if isinstance(each, Only) and each.contradiction(read_settings(kind, process, others)):
            others += [flag_of(each.other), str(each.values[0]) if each.values else sample(kind, each.other)[0]]
    if name == "cbr":
        others += ["--access", "ldpc-qam"]
    if name == "code_ber":
        others += ["--access", "ldpc"]
    if name == "gap_ber":
        others += ["--ber", "0.2"]
    assert getattr(read_settings(kind, process, others), name) == value
    monkeypatch.setenv(variable, "99999999999")
    arguments = [*others, flag] if value is True else [*others, flag, text]
    if not isinstance(value, bool):
        assert getattr(read_settings(kind, process, arguments), name) == value


@pytest.mark.parametrize(("process", "name"), EVERY_SETTING)
def test_an_empty_variable_counts_as_none(process, name, monkeypatch):
    kind, required = PROCESSES[process]
    without = read_settings(kind, process, required)
    monkeypatch.setenv(f"SEMLINK_{name.upper()}", "")
    assert read_settings(kind, process, required) == without


@pytest.mark.parametrize(
    ("process", "arguments", "flag", "says"),
    [
        ("device", ["--rho", "1.5"], "--rho", "must be at most 1"),
        ("device", ["--plan", "best"], "--plan", "'ia-qsmpa'"),
        ("device", ["--rho", "nan"], "--rho", "finite"),
        ("device", ["--rho", "much"], "--rho", "number"),
        ("device", ["--every", "inf"], "--every", "finite"),
        ("device", ["--every", "-1"], "--every", "must be at least 0"),
        ("device", ["--count", "-1"], "--count", "must be at least 0"),
        ("device", ["--gamma", "0"], "--gamma", "greater than 0"),
        ("device", ["--design-ber", "0.5"], "--design-ber", "must be at most 0."),
        ("device", ["--run", "a/b"], "--run", "must match"),
        ("device", ["--run", "x" * 25], "--run", "must match"),
        ("device", ["--object-id", "x" * 126, "--run", "of"], "--object-id", "at most 128 characters"),
        ("device", ["--view", "5"], "--view", "must be at most 4"),
        ("device", ["--expected-views", "0"], "--expected-views", "must be at least 1"),
        ("device", ["--vote-seconds", "61"], "--vote-seconds", "must be at most 60"),
        ("device", ["--call-seconds", "0"], "--call-seconds", "greater than 0"),
        ("device", ["--to", "localhost"], "--to", "HOST:PORT"),
        ("device", ["--to", "localhost:0"], "--to", "HOST:PORT"),
        ("device", ["--to", ":50051"], "--to", "HOST:PORT"),
        ("device", ["--log-level", "loud"], "--log-level", "'debug', 'info', 'warning' or 'error'"),
        ("channel_emulator", ["--upstream", "nowhere"], "--upstream", "HOST:PORT"),
        ("channel_emulator", ["--ber", "nan"], "--ber", "finite"),
        ("channel_emulator", ["--grpc-port", "70000"], "--grpc-port", "must be at most 65535"),
        ("server", ["--http-port", "-1"], "--http-port", "must be at least 0"),
        ("server", ["--threads", "x"], "--threads", "must be a whole number"),
    ],
)
def test_a_mistake_exits_with_2_and_names_flag_and_variable(capsys, process, arguments, flag, says):
    message = mistake(capsys, process, [*PROCESSES[process][1], *arguments])
    assert flag in message
    assert says in message
    assert f"SEMLINK_{flag[2:].replace('-', '_').upper()}" in message
    assert f"python -m {process} --help" in message


def test_a_mistake_in_the_environment_is_explained_likewise(capsys, monkeypatch):
    monkeypatch.setenv("SEMLINK_RHO", "lots")
    assert "--rho (or SEMLINK_RHO)" in mistake(capsys, "device", DEVICE)


@pytest.mark.parametrize("missing", ["--to", "--images", "--object-id"])
def test_what_is_required_is_asked_for(capsys, missing):
    start = DEVICE.index(missing)
    message = mistake(capsys, "device", DEVICE[:start] + DEVICE[start + 2 :])
    assert f"{missing} (or SEMLINK_{missing[2:].replace('-', '_').upper()}) is required: " in message


@pytest.mark.parametrize(("flag", "value"), [("--images", ","), ("--object-id", "")])
def test_what_is_required_must_not_be_empty(capsys, flag, value):
    others = [*DEVICE]
    start = others.index(flag)
    others[start : start + 2] = [f"{flag}={value}"]
    message = mistake(capsys, "device", others)
    assert f"{flag} (or SEMLINK_" in message


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--images", "-", "a.jpg"], "- goes with no other pictures"),
        (["--images", "a.jpg", "film.mp4"], "film.mp4 goes with no other pictures"),
        (["--images", "rtsp://camera", "--watch"], "--watch (or SEMLINK_WATCH) is for one folder"),
        (["--images", "a", "b", "--watch"], "--watch (or SEMLINK_WATCH) is for one folder"),
        (["--images", "a", "--clock-rounds"], "needs --every of 0.1 seconds or more"),
        (["--images", "a", "--clock-rounds", "--every", "0"], "needs --every of 0.1 seconds or more"),
    ],
)
def test_options_of_a_source_that_do_not_apply_are_refused(capsys, arguments, says):
    assert says in mistake(capsys, "device", ["--to", "host:1", "--object-id", "cup", *arguments])


def test_an_unknown_flag_is_a_mistake(capsys):
    assert "--colour" in mistake(capsys, "device", [*DEVICE, "--colour", "red"])


@pytest.mark.parametrize(
    ("arguments", "images"),
    [
        (["--images", "a", "b", "c"], ["a", "b", "c"]),
        (["--images", "a", "b", "--rho", "0.5"], ["a", "b"]),
        (["--images", "a", "--images", "b"], ["a", "b"]),
        (["--images", "a", "b", "--rho", "0.5", "--images=c"], ["a", "b", "c"]),
        (["--images", "a,b"], ["a", "b"]),
        (["--images", r"at sea\, 2024/me.jpg", "b"], ["at sea, 2024/me.jpg", "b"]),
        (["--images", "[1].png", '{"a"}', "x=y"], ["[1].png", '{"a"}', "x=y"]),
    ],
)
def test_images_are_given_in_a_row(arguments, images):
    settings = read_settings(DeviceSettings, "device", ["--to", "host:1", "--object-id", "cup", *arguments])
    assert settings.images == images


class Command(BaseSettings):
    """A command with a positional argument before its flags."""

    folder: CliPositionalArg[Path]
    ber: list[float] = [0.0]
    seed: int = 0


def test_lists_of_numbers_and_positional_arguments(capsys):
    read = functools.partial(read_settings, Command, "semlink", command="semlink command")
    settings = read(["here", "--ber", "0.1", "1e-3", "--seed", "-7"])
    assert (settings.folder, settings.ber, settings.seed) == (Path("here"), [0.1, 1e-3], -7)
    with pytest.raises(SystemExit):
        read(["here", "--ber", "0.1", "much"])
    message = capsys.readouterr().err
    assert "--ber" in message
    assert "not 'much'" in message
    assert "semlink command --help" in message


@pytest.mark.parametrize(
    ("text", "images"), [("a", ["a"]), ("a,b", ["a", "b"]), (r"a\,b,c d", ["a,b", "c d"]), ("a,", ["a"])]
)
def test_images_are_separated_by_commas_in_the_environment(text, images, monkeypatch):
    monkeypatch.setenv("SEMLINK_IMAGES", text)
    settings = read_settings(DeviceSettings, "device", ["--to", "host:1", "--object-id", "cup"])
    assert settings.images == images


@pytest.mark.parametrize(
    ("arguments", "rounds", "objects"),
    [
        ([], 1, ["cup"]),
        (["--count", "1"], 1, ["cup"]),
        (["--count", "3"], 3, ["cup/0", "cup/1", "cup/2"]),
        (["--count", "0"], 0, ["cup/0", "cup/1"]),
        (["--every", "2"], 0, ["cup/0", "cup/1"]),
        (["--every", "0"], 0, ["cup/0", "cup/1"]),
        (["--every", "2", "--count", "1"], 1, ["cup/0"]),
        (["--every", "2", "--count", "4"], 4, ["cup/0", "cup/1"]),
        (["--every", "2", "--clock-rounds"], 0, ["cup/0", "cup/1"]),
        (["--images", "-"], 0, ["cup/0", "cup/1"]),
        (["--images", "film.MP4"], 0, ["cup/0", "cup/1"]),
        (["--images", "rtsp://camera/1", "--count", "2"], 2, ["cup/0", "cup/1"]),
        (["--images", "/dev/video0", "--count", "1"], 1, ["cup"]),
        (["--images", "folder", "--watch"], 0, ["cup/0", "cup/1"]),
        (["--run", "a1"], 1, ["cup@a1"]),
        (["--every", "2", "--run", "2026-01-31_08.15"], 0, ["cup/0@2026-01-31_08.15", "cup/1@2026-01-31_08.15"]),
    ],
)
def test_rounds_and_their_objects(arguments, rounds, objects):
    images = [] if "--images" in arguments else ["--images", "chelsea"]
    settings = read_settings(
        DeviceSettings, "device", ["--to", "host:1", "--object-id", "cup", *images, *arguments]
    )
    assert settings.rounds == rounds
    assert [settings.object_of(number) for number in range(len(objects))] == objects


@pytest.mark.parametrize(
    ("process", "arguments", "says"),
    [
        (
            "channel_emulator",
            ["--channel", "awgn", "--ber", "0.1"],
            "--ber is for --channel bsc or burst, not awgn",
        ),
        ("channel_emulator", ["--snr", "3"], "not bsc"),
        (
            "channel_emulator",
            ["--channel", "mimo-ofdm", "--order", "4"],
            "--order has no effect with --coding ideal",
        ),
        ("channel_emulator", ["--rate-burst", "5"], "--rate-burst has no effect without --rate-limit"),
        ("device", ["--rho", "0.5", "--total-bits", "90000"], "--rho has no effect beside --total-bits"),
        ("device", ["--method", "top-k", "--design-ber", "0.1"], "incremental or water-filling, not top-k"),
        ("device", ["--spool-bytes", "9000000"], "--spool-bytes has no effect without --spool"),
        ("server", ["--quorum", "3"], "--quorum has no effect without --vote-after-seconds"),
        ("server", ["--replicas", "1"], "--replicas is for --cluster ray, not none"),
    ],
)
def test_a_flag_without_effect_is_refused(capsys, process, arguments, says):
    assert says in mistake(capsys, process, [*PROCESSES[process][1], *arguments])


def test_an_environment_variable_without_effect_is_not(monkeypatch):
    """As docker-compose.yml sets them: SEMLINK_BER whatever SEMLINK_CHANNEL is."""
    for name, value in (("CHANNEL", "awgn"), ("BER", "0.1"), ("STREAMS", "2"), ("RATE_BURST", "5")):
        monkeypatch.setenv(f"SEMLINK_{name}", value)
    settings = read_settings(ChannelSettings, "channel_emulator", ["--upstream", "host:1"])
    assert settings.impairment().name == "awgn"
    assert "ber" not in settings.effective()
