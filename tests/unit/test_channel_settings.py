"""What the channel emulator can be told, and how it explains what it can't."""

import numpy as np
import pytest

from channel_emulator.settings import Settings
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.none import NoImpairment
from semlink.channel.presets import PRESETS
from semlink.service.settings import read_settings


def read(*flags: str) -> Settings:
    return read_settings(Settings, "channel_emulator", flags)


def test_defaults():
    settings = read("--upstream", "server:50051")
    assert (settings.grpc_port, settings.http_port, settings.seed) == (50052, 8001, 0)
    assert settings.impairment() == BinarySymmetricChannel(ber=0.01)
    assert not settings.impair_header
    assert settings.upstream_timeout_seconds == 30


def test_flags_and_environment(monkeypatch):
    monkeypatch.setenv("SEMLINK_UPSTREAM", "[::1]:50051")
    monkeypatch.setenv("SEMLINK_BER", "0.2")
    settings = read("--ber", "0.05", "--impair-header")
    assert settings.upstream == "[::1]:50051"
    assert settings.impair_header
    assert settings.impairment() == BinarySymmetricChannel(ber=0.05)
    assert read("--channel", "none").impairment() == NoImpairment()


def test_presets():
    settings = read("--upstream", "server:50051", "--preset", "lossy")
    assert settings.impairment() == PRESETS["lossy"].channel
    assert read("--upstream", "server:50051", "--preset", "clear", "--seed", "3").impairment() == NoImpairment()


def test_every_setting_is_explained(capsys):
    with pytest.raises(SystemExit) as end:
        read("--help")
    assert end.value.code == 0
    assert "--upstream" in capsys.readouterr().out
    assert all(field.description for field in Settings.model_fields.values())


def test_a_channel_file_is_read_before_the_start(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("h.npy", np.ones((50, 2, 2), complex))
    (tmp_path / "trace.csv").write_text("frame,snr_db\n0,3\n")
    read("--upstream", "a:1", "--channel", "mimo-ofdm", "--channel-file", "h.npy")
    for flags, complaint in (
        (("--channel", "mimo-ofdm", "--channel-file", "h.mat"), "channel file h.mat: No such file"),
        (("--channel", "mimo-ofdm", "--channel-file", "h.npy", "--streams", "2"), "streams must be at most 1"),
        (("--channel", "awgn", "--channel-file", "h.npy"), "takes a CSV file with snr_db"),
        (
            ("--channel", "awgn", "--channel-file", "trace.csv", "--snr", "3"),
            "--snr has no effect beside a --channel",
        ),
        (("--channel", "bsc", "--channel-file", "trace.csv"), "--channel-file is for --channel awgn"),
    ):
        with pytest.raises(SystemExit) as end:
            read("--upstream", "a:1", *flags)
        assert end.value.code == 2
        assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ([], "--upstream (or SEMLINK_UPSTREAM) is required"),
        (["--upstream", "somewhere"], "must be HOST:PORT"),
        (["--upstream", ":50051"], "must be HOST:PORT"),
        (["--upstream", "server:0"], "must be HOST:PORT"),
        (["--upstream", "server:65536"], "must be HOST:PORT"),
        (["--upstream", "a:1", "--ber", "1.01"], "--ber (or SEMLINK_BER)"),
        (["--upstream", "a:1", "--ber", "nan"], "--ber (or SEMLINK_BER)"),
        (["--upstream", "a:1", "--seed", "-1"], "--seed"),
        (["--upstream", "a:1", "--channel", "fog"], "--channel"),
        (["--upstream", "a:1", "--preset", "fog"], "--preset"),
        (["--upstream", "a:1", "--preset", "lossy", "--ber", "0.1"], "--ber has no effect beside --preset"),
        (
            ["--upstream", "a:1", "--preset", "lossy", "--channel", "bsc"],
            "--channel has no effect beside --preset",
        ),
        (["--upstream", "a:1", "--preset", "lossy", "--channel-file", "x"], "--channel-file has no effect beside"),
        (["--upstream", "a:1", "--channel", "burst", "--ber", "0.6"], "ber must be within gap_ber and burst_ber"),
        (["--upstream", "a:1", "--grpc-port", "65536"], "--grpc-port"),
        (["--upstream", "a:1", "--upstream-timeout-seconds", "0"], "--upstream-timeout-seconds"),
    ],
)
def test_wrong_settings_are_explained(capsys, flags, complaint):
    with pytest.raises(SystemExit) as end:
        read(*flags)
    assert end.value.code == 2
    assert complaint in capsys.readouterr().err
