"""Camera processes as the studio hears them: what they cannot mean ends them alone, and silence is told."""

import asyncio
import contextlib
import json
from types import SimpleNamespace

import pytest

from cli.processes import Processes
from studio import processes
from studio.pictures import MOST_HELD
from studio.processes import CameraProcess, Watched


class Forks:
    """Forks that say what a test has them say."""

    def __init__(self, logs, *lines: bytes, limit: int = 1 << 16) -> None:
        self.processes, self.told, self.killed = Processes(logs), [], 0
        self._lines, self._limit = lines, limit

    async def start(self, name, module, device_id):
        ended = asyncio.Event()
        stdout = asyncio.StreamReader(self._limit)
        stdout.feed_data(b'{"event": "ready"}\n' + b"".join(self._lines))
        fork = SimpleNamespace(
            pid=1, stdout=stdout, returncode=None, wait=ended.wait, stdin=SimpleNamespace(write=self.told.append)
        )

        def kill():
            self.killed += 1
            ended.set()

        fork.kill, fork.ended = kill, ended
        self.processes.started[name] = fork
        return fork


@contextlib.asynccontextmanager
async def camera(forks):
    standings, heard = [], []

    def told(watched):
        if not standings or standings[-1] != watched.standing:
            standings.append(watched.standing)

    made = CameraProcess(Watched("camera-1", told), lambda name, line: heard.append(line))
    running = asyncio.create_task(made.run(forks))
    try:
        async with asyncio.timeout(60):
            yield made, standings, heard
        assert not running.done()
    finally:
        running.cancel()


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "line", [b"\n", b"warning: x\n", b"[]\n", b"7\n", b"{}\n", b'"event"\n', b"\xff\n", b"9" * 70_000 + b"\n"]
)
async def test_a_camera_that_says_what_it_cannot_mean_is_started_again(tmp_path, monkeypatch, line):
    monkeypatch.setattr(processes, "FIRST_PAUSE_SECONDS", 0.001)
    forks = Forks(tmp_path, b'{"event": "view"}\n', line)
    async with camera(forks) as (made, standings, heard):
        await until(lambda: made.watched.starts > 2)
        assert standings[:4] == ["starting", "ready", "ended", "starting"]
        assert made.watched.why.startswith("again, after it said what it cannot mean") or forks.killed > 2
        assert heard[0] == {"event": "view"}


async def test_a_camera_that_is_killed_in_mid_line_has_said_nothing_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "FIRST_PAUSE_SECONDS", 60)
    forks = Forks(tmp_path, b'{"event": "vi')
    async with camera(forks) as (made, standings, _):
        await until(lambda: "ready" in standings)
        fork = forks.processes.started["camera-1"]
        fork.stdout.feed_eof()
        fork.returncode = -9
        fork.ended.set()
        await until(lambda: standings[-1] == "ended")
        assert made.watched.why == "exit status -9"


async def test_a_silent_camera_is_asked_once_and_ready_when_it_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "PROBE_EVERY", 0.001)
    monkeypatch.setattr(processes, "PROBE_SECONDS", 0.01)
    forks = Forks(tmp_path)
    async with camera(forks) as (_, standings, _):
        await until(lambda: "silent" in standings)
        assert forks.told == [b'{"op": "ping"}\n']  # nothing piles up before a process that is stopped
        forks.processes.started["camera-1"].stdout.feed_data(b'{"event": "pong"}\n')
        await until(lambda: standings[-1] == "ready" or standings.count("silent") > 1)
        assert standings[:4] == ["starting", "ready", "silent", "ready"]


async def test_a_camera_that_loads_a_model_may_take_longer_to_answer(tmp_path, monkeypatch):
    for name, seconds in (("PROBE_EVERY", 0.001), ("PROBE_SECONDS", 0.01), ("LOAD_SECONDS", 0.2)):
        monkeypatch.setattr(processes, name, seconds)
    forks, clock = Forks(tmp_path, b'{"event": "loads"}\n{"event": "pong"}\n'), asyncio.get_running_loop().time
    began = clock()
    async with camera(forks) as (_, standings, heard):
        await until(lambda: "silent" in standings)
        assert clock() - began >= 0.2
        assert not heard


async def test_a_camera_that_has_loaded_a_model_may_not(tmp_path, monkeypatch):
    for name, seconds in (("PROBE_EVERY", 0.001), ("PROBE_SECONDS", 0.01), ("LOAD_SECONDS", 600)):
        monkeypatch.setattr(processes, name, seconds)
    forks = Forks(tmp_path, b'{"event": "loads"}\n{"event": "view"}\n')
    async with camera(forks) as (_, standings, _):
        await until(lambda: "silent" in standings)


async def test_a_camera_is_given_again_what_it_has_forgotten(tmp_path):
    forks = Forks(tmp_path)
    async with camera(forks) as (made, standings, _):
        await until(lambda: "ready" in standings)

        def told(number) -> bool:
            count = len(forks.told)
            made.see({"picture": str(number), "view": None})
            return len(forks.told) > count

        assert [told(number) for number in (0, 1, 0)] == [True, True, False]
        assert all(told(number) for number in range(2, MOST_HELD))
        assert not told(0)
        assert told(MOST_HELD)  # in the place of 0
        assert [told(number) for number in (0, 2, 1)] == [True, False, True]
        assert json.loads(forks.told[-1])["picture"] == "1"


async def test_a_camera_that_is_taken_away_the_moment_it_ends_is_not_started_again(tmp_path):
    forks, made = Forks(tmp_path), CameraProcess(Watched("camera-1", lambda watched: None), lambda *_: None)
    running = asyncio.create_task(made.run(forks))
    async with asyncio.timeout(60):
        await until(lambda: made.watched.standing == "ready")
        (probing,) = [task for task in asyncio.all_tasks() if task.get_coro().__name__ == "_probe"]
        fork = forks.processes.started["camera-1"]
        fork.stdout.feed_eof()
        fork.ended.set()
        while not probing.cancelling():
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
    assert running.cancelled()
