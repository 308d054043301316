"""Host and Origin: what is a name of the process, and which pages may call it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from channel_emulator.settings import Settings
from semlink.service.admission import Admission, ForeignHost, ForeignOrigin, refusal_counter
from semlink.service.origin import Sites, checked_origin
from semlink.service.settings import read_settings

SITES = Sites.of("0.0.0.0", ["Server", "vision.example."], ["https://app.example"])


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1:8000", "192.168.1.7", "[::1]:8000", "[fe80::1]"),
        *("server", "SERVER:8000", "vision.example", "vision.example.:443", None),
    ],
)
def test_own_names(host):
    assert SITES.answers_to(host)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "attacker.example",
            "attacker.example:8000",
            "server.attacker.example",
            "notlocalhost",
            "localhost.evil",
        ),
        *("127.0.0.1.nip.example", "127.1", "0x7f000001", "2130706433", "localhost@attacker.example", "::1", ""),
        *(
            "[",
            "[::1",
            "[localhost]",
            "localhost:80:80",
            "localhost:x",
            "localhost,evil",
            " localhost",
        ),
    ],
)
def test_foreign_names(host):
    assert not SITES.answers_to(host)


def test_the_machines_own_name_and_that_it_listens_on(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Edge-7")
    assert Sites.of("emulator.lan").answers_to("edge-7:8001")
    assert Sites.of("emulator.lan").answers_to("emulator.lan:8001")
    assert not Sites.of("127.0.0.1").answers_to("emulator.lan:8001")


def test_every_name():
    assert Sites.of("127.0.0.1", ["*"]).answers_to("anything.example")


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "localhost:8001"),
        ("http://localhost:8001", "localhost:8001"),
        ("http://LOCALHOST:8001", "localhost:8001"),
        ("http://[::1]:8001", "[::1]:8001"),
        ("https://vision.example", "vision.example"),
        ("https://vision.example", "vision.example:443"),
        ("http://vision.example:80", "vision.example"),
        ("https://app.example", "localhost:8001"),
    ],
)
def test_own_pages_and_allowed_ones(origin, host):
    assert SITES.trusts(origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://attacker.example", "localhost:8001"),
        ("http://localhost:3000", "localhost:8001"),
        ("http://localhost", "localhost:8001"),
        ("https://app.example:444", "localhost:8001"),
        ("https://app.example.attacker.example", "localhost:8001"),
        ("null", "localhost:8001"),
        ("", "localhost:8001"),
        ("file://", "localhost:8001"),
        ("http://", "localhost:8001"),
        ("chrome-extension://localhost:8001", "localhost:8001"),
        ("http://localhost:8001", None),
        ("http://localhost:8001/", "localhost:8001"),
    ],
)
def test_foreign_pages(origin, host):
    assert not SITES.trusts(origin, host)


@given(st.text(max_size=40), st.text(max_size=40))
def test_whatever_is_sent_is_no_error(host, origin):
    assert isinstance(Sites().answers_to(host), bool)
    assert isinstance(Sites().trusts(origin, host), bool)


@pytest.mark.parametrize("origin", ["https://app.example", "http://localhost:3000", "http://[::1]:3000"])
def test_an_origin_as_browsers_send_it(origin):
    assert checked_origin(origin) == origin


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "app.example", "https://app.example/", "https://App.example", "ftp://app.example", "null"),
        *("https://app.example:443", "http://app.example:80", "https://a@app.example", "https://"),
    ],
)
def test_what_is_no_origin_is_refused(origin):
    with pytest.raises(ValueError, match=r"origin|browsers"):
        checked_origin(origin)


def test_hosts_are_a_setting(monkeypatch):
    given = ["--upstream", "there:1", "--allowed-hosts"]
    assert read_settings(Settings, "x", [*given, "a", "b"]).allowed_hosts == ["a", "b"]
    assert read_settings(Settings, "x", [*given, "a,b"]).allowed_hosts == ["a", "b"]
    monkeypatch.setenv("SEMLINK_ALLOWED_HOSTS", "channel, emulator.example")
    settings = read_settings(Settings, "x", given[:2])
    assert settings.allowed_hosts == ["channel", "emulator.example"]
    admission = Admission.of(settings, refusal_counter("test", CollectorRegistry()))
    admission.check_site("channel:8001", None)
    with pytest.raises(ForeignHost, match="--allowed-hosts"):
        admission.check_site("other:8001", None)
    with pytest.raises(ForeignOrigin, match="origin"):
        admission.check_site("channel:8001", "http://other:8001")
