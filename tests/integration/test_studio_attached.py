"""The studio attached to processes that run: over TLS, with keys, and while they fall silent and come back."""

import asyncio
import contextlib
import os
import signal

import pytest
from closed_site import KEY, OTHER, addresses, emulator, grey_server, listening, make_site
from processes import running
from stub_server import GREY

from studio.running_link import RunningLink
from studio.settings import StudioSettings

SECONDS = 120


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def server(pem):
    with grey_server(pem) as process:
        yield process


@pytest.fixture
def channel(pem, server):
    with emulator(pem, server.grpc_address, "--ber", "0.03") as process:
        yield process


def over_tls(pem, **told) -> dict[str, object]:
    files = {"tls_server_authority": "authority.pem", "tls_certificate": "studio.pem", "tls_key": "studio.key"}
    return {name: pem / file for name, file in files.items()} | {"api_key_file": pem / "key"} | told


@contextlib.asynccontextmanager
async def attached(tmp_path, **told):
    """A link of no cameras that is watched, with what it tells of its processes' standings."""
    told_of = []
    link = RunningLink(
        StudioSettings(out=tmp_path, **told),
        lambda watched: told_of.append((watched.name, watched.standing, watched.why)),
        lambda name, line: None,
        lambda: None,
        lambda: None,
    )

    async def nothing() -> None:
        await asyncio.Event().wait()

    running_link = asyncio.create_task(link.run([], nothing))
    try:
        yield link, told_of
    finally:
        running_link.cancel()
        await asyncio.gather(running_link, return_exceptions=True)


async def until(condition, seconds=SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_over_mutual_tls_with_a_key_all_is_watched_and_steered(tmp_path, pem, server, channel):
    told = over_tls(pem, server=addresses(server), channel=addresses(channel))
    async with attached(tmp_path, **told) as (link, _):
        await until(lambda: [each.standing for each in link.watched] == ["ready", "ready"])
        await until(lambda: link.control.impairments is not None)
        assert link.control.impairments["default"]["ber"] == 0.03
        other = link.control.impairments | {"default": link.control.impairments["default"] | {"ber": 0.25}}
        assert await link.control.put(other)
        assert (await link.control.call("GET", "impairments")).json()["default"]["ber"] == 0.25
        await until(lambda: [each.why for each in link.watched] == ["", ""])


async def test_without_its_name_the_server_behind_the_channel_is_not_watched(tmp_path, pem, channel):
    async with attached(tmp_path, **over_tls(pem, channel=addresses(channel))) as (link, _):
        await until(lambda: link.channel.watched.standing == "ready")
        first = link.watched[0].as_json()
        assert (first["name"], first["standing"]) == ("server", "unwatched")
        assert "--server" in first["why"]


@pytest.mark.parametrize(
    ("changed", "name", "why"),
    [
        ({"api_key_file": "other"}, "channel", "HTTP 401: the key is not one that is accepted here"),
        (
            {"tls_server_authority": "stranger.pem"},
            "server",
            "signed by none in the file of --tls-server-authority",
        ),
        (
            dict.fromkeys(("tls_server_authority", "tls_certificate", "tls_key")),
            "channel",
            "takes TLS only; name who signed its certificate with --tls-server-authority",
        ),
    ],
)
async def test_what_is_the_matter_is_said(tmp_path, pem, server, channel, changed, name, why):
    told = over_tls(pem, server=addresses(server), channel=addresses(channel))
    told |= {setting: pem / file if file else None for setting, file in changed.items()}
    async with attached(tmp_path, **told) as (link, _):
        watched = {each.name: each for each in link.watched}
        await until(lambda: why in watched[name].why)
        assert KEY not in watched[name].why
        assert not link.channel_is_set.is_set()


async def test_what_stops_is_silent_and_heals_when_it_goes_on(tmp_path, pem, server, channel):
    told = over_tls(pem, server=addresses(server), channel=addresses(channel))
    async with attached(tmp_path, **told) as (link, _):
        for listener, process in ((link.server, server), (link.channel, channel)):
            await until(lambda listener=listener: listener.watched.standing == "ready")
            os.kill(process.process.pid, signal.SIGSTOP)
            try:
                await until(lambda listener=listener: listener.watched.standing == "silent")
                assert listener.watched.why == "does not answer"
            finally:
                os.kill(process.process.pid, signal.SIGCONT)
            await until(lambda listener=listener: listener.watched.standing == "ready")


async def test_what_was_killed_and_started_anew_is_found_again_as_it_is_now(tmp_path, pem, server):
    with emulator(pem, server.grpc_address, "--ber", "0.03") as first:
        ports, told = first.ports, over_tls(pem, server=addresses(server), channel=addresses(first))
        async with attached(tmp_path, **told) as (link, _):
            await until(lambda: link.control.impairments is not None and link.channel.watched.standing == "ready")
            first.kill()
            await until(lambda: link.channel.watched.why == "cannot be reached")
            assert link.channel.watched.standing == "silent"
            await until(lambda: link.server.watched.standing == "ready")
            with emulator(pem, server.grpc_address, "--ber", "0.07", ports=ports):
                await until(lambda: link.channel.watched.standing == "ready")
                await until(lambda: link.control.impairments["default"]["ber"] == 0.07)
                assert link.channel.watched.starts == 0


@pytest.mark.parametrize("with_certificate", [True, False])
async def test_an_emulator_is_started_before_a_server_over_tls(tmp_path, pem, with_certificate, monkeypatch):
    """It listens with the certificate that it shows, where there is one, and not as the page is served."""
    flags = (
        listening(pem)
        if with_certificate
        else ["--tls-certificate", pem / "here.pem", "--tls-key", pem / "here.key"]
    )
    monkeypatch.setenv("SEMLINK_API_KEYS", f"reader {OTHER}")
    monkeypatch.setenv("SEMLINK_HTTP_PORT", "1")
    with running("-c", GREY, *flags, SEMLINK_API_KEYS="") as server:
        told = over_tls(pem, server=addresses(server))
        told |= {} if with_certificate else {"tls_certificate": None, "tls_key": None}
        async with attached(tmp_path, **told) as (link, _):
            await until(lambda: [each.standing for each in link.watched] == ["ready", "ready"])
            await until(lambda: link.control.impairments is not None)
            assert link.told.has_tls_channel == with_certificate
            camera = link.told.of_camera()
            assert camera.pop("api_key_file") == str(pem / "key")
            assert bool(camera) == with_certificate
