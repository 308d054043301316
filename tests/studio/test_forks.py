"""Server, emulator and cameras as forks: each ends and starts alone, and none is left, whoever dies first."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from browser import client_of, descendants, running_studio
from closed_site import addresses
from processes import START_SECONDS, has_ended, running, wait_until

from cli.processes import ProcessError, Processes
from studio.fork_server import Forks
from studio.forks import NAME, ForkServer
from studio.processes import CAMERA

EMULATOR = ("channel_emulator.__main__", "--upstream", "127.0.0.1:9", "--grpc-port", "0", "--http-port", "0")


def camera(forks, name):
    """A coroutine that starts one."""
    return forks.start(name, CAMERA, name)


MET_AT_ONCE = """
import os, signal
from studio.fork_server import Forks

def fork(fork=os.fork):
    pid = fork()
    if not pid:
        os.kill(os.getpid(), signal.SIGTERM)
    return pid

os.fork, forks = fork, Forks()
signal.signal(signal.SIGTERM, lambda *_: None)
if not forks._fork([]):
    _, status = os.waitpid(forks.pids.pop(), 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM, status
"""
"""Has a fork meet SIGTERM as the first thing."""


async def is_there(processes, name):
    """Whether a camera answers."""
    processes.started[name].stdin.write(b'{"op": "ping"}\n')
    return await processes.line(name, START_SECONDS) == {"event": "pong"}


async def test_whoever_dies_the_others_go_on(tmp_path):
    async with Processes(tmp_path) as processes, ForkServer(processes, START_SECONDS, [CAMERA]) as forks:
        given_up = asyncio.create_task(camera(forks, "camera-1"))
        while NAME not in processes.started:
            await asyncio.sleep(0.01)
        given_up.cancel()
        first, second = await asyncio.gather(camera(forks, "camera-1"), camera(forks, "camera-2"))
        for name in ("camera-1", "camera-2"):
            assert await processes.line(name, START_SECONDS) == {"event": "ready"}
        assert len({first.pid, second.pid, os.getpid()}) == 3
        assert processes.started[NAME].returncode is None, "who gives up ends what was meant for him alone"

        first.kill()
        assert await first.wait() == -signal.SIGKILL
        assert await is_there(processes, "camera-2")

        server = processes.started[NAME]
        server.kill()
        await server.wait()
        assert await is_there(processes, "camera-2")
        assert second.returncode is None

        third = await camera(forks, "camera-1")
        assert await processes.line("camera-1", START_SECONDS) == {"event": "ready"}
        assert await is_there(processes, "camera-1")
    for left in (second, third):
        assert await left.stdout.read() == b"", "its output ends when it does"


async def test_where_the_fork_server_has_died_a_fork_s_end_is_seen_all_the_same(tmp_path):
    async with Processes(tmp_path) as processes, ForkServer(processes, START_SECONDS, [CAMERA]) as forks:
        fork = await camera(forks, "camera-1")
        assert await processes.line("camera-1", START_SECONDS) == {"event": "ready"}
        processes.started[NAME].kill()
        await processes.started[NAME].wait()
        await asyncio.wait([forks._told])
        fork.terminate()
        await fork.wait()
        assert fork.stdout.at_eof()


async def test_a_fork_server_that_is_stopped_ends_with_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr("cli.processes.STOP_SECONDS", 0.5)
    async with (
        asyncio.timeout(START_SECONDS),
        Processes(tmp_path) as processes,
        ForkServer(processes, START_SECONDS, [CAMERA]) as forks,
    ):
        fork = await camera(forks, "camera-1")
        server = processes.started[NAME]
        server.send_signal(signal.SIGSTOP)
    assert server.returncode == -signal.SIGKILL
    assert await fork.stdout.read() == b""


async def test_what_modules_print_is_no_matter_to_the_fork_server(tmp_path, monkeypatch):
    (tmp_path / "stub_prints.py").write_text('print(\'{"port": 7}\\n{"event": "ended"}\', flush=True)')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    async with (
        asyncio.timeout(START_SECONDS),
        Processes(tmp_path) as processes,
        ForkServer(processes, 2 * START_SECONDS, ["stub_prints", CAMERA]) as forks,
    ):
        await camera(forks, "camera-1")


async def test_a_fork_server_that_ends_early_is_told_of_also_where_its_log_is_gone(tmp_path, monkeypatch):
    (tmp_path / "stub_sleeps.py").write_text("import time\ntime.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    async with (
        asyncio.timeout(START_SECONDS),
        Processes(tmp_path / "logs") as processes,
        ForkServer(processes, 2 * START_SECONDS, ["stub_sleeps"]) as forks,
    ):
        starting = asyncio.create_task(camera(forks, "camera-1"))
        while forks._next is None:
            await asyncio.sleep(0.01)
        shutil.rmtree(processes.logs)
        processes.started[NAME].kill()
        with pytest.raises(ProcessError, match=r"forks ended early; its log .* is gone"):
            await starting


async def test_the_end_gives_up_what_is_being_forked(tmp_path):
    async with Processes(tmp_path) as processes:
        async with ForkServer(processes, START_SECONDS, [CAMERA]) as forks:
            starting = [asyncio.create_task(camera(forks, name)) for name in ("camera-1", "camera-2")]
            while NAME not in processes.started:
                await asyncio.sleep(0.01)
            server = processes.started[NAME]
        ends = await asyncio.gather(*starting, return_exceptions=True)
        assert [type(each) for each in ends] == 2 * [asyncio.CancelledError]
    assert server.returncode is not None
    assert list(processes.started.values()) == [server], "no other one was started for the second"


def test_a_fork_that_is_told_to_end_at_once_ends():
    subprocess.run([sys.executable, "-c", MET_AT_ONCE], check=True, stdout=subprocess.DEVNULL)


def test_a_studio_that_is_stopped_while_it_starts_ends(tmp_path):
    with running("-m", "channel_emulator", "--upstream", "127.0.0.1:9") as emulator:
        for flags in ((), ("--channel", addresses(emulator))):
            with running_studio(tmp_path, *flags) as (_, process):
                wait_until(lambda process=process: descendants(process.pid))


@pytest.mark.parametrize(
    ("command", "first"), [((CAMERA, "camera-1"), "ready"), (EMULATOR, "listening")], ids=["camera", "emulator"]
)
def test_forks_end_with_who_asked_for_them(command, first):
    module, *arguments = command
    ours, theirs = socket.socketpair()
    fork_server = [sys.executable, "-P", "-m", "studio.fork_server"]
    with ours, subprocess.Popen(fork_server, stdin=theirs, stdout=subprocess.PIPE) as server:
        theirs.close()
        (their_input, stays_open), (output, their_output) = os.pipe(), os.pipe()
        message = json.dumps({"name": "it", "module": module, "arguments": arguments})
        socket.send_fds(ours, [message.encode()], [their_input, their_output, sys.__stderr__.fileno()])
        os.close(their_input)
        os.close(their_output)
        assert json.loads(server.stdout.readline())["event"] == "began"
        with open(output, "rb") as said:
            assert json.loads(said.readline())["event"] == first
            ours.close()
            assert said.read() == b""
        os.close(stays_open)
        assert server.wait(START_SECONDS) == 0


def test_a_fork_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr("studio.fork_server.END_SECONDS", 0.1)
    with subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo; while :; do read _; done"], stdout=subprocess.PIPE
    ) as it:
        it.stdout.readline()
        Forks({it.pid}).end()
        it.returncode = -signal.SIGKILL  # as it was waited for already
    assert has_ended(it.pid)


def test_a_studio_that_is_killed_leaves_nothing(tmp_path):
    command = [sys.executable, "-m", "studio", "--http-port", "0", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as studio:
        try:
            address = json.loads(studio.stdout.readline())["http"]
            with client_of(f"http://{address}") as client:
                wait_until(lambda: all(each["pid"] for each in client.get("/v1/state").json()["processes"]))
            left = descendants(studio.pid)
            assert len(left) >= 1 + 2 + 4
        finally:
            studio.kill()
    wait_until(lambda: all(map(has_ended, left)))
