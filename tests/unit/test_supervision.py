"""Supervised processes: small ones, each of which ends or says nothing in its own way."""

import asyncio
import os
import shutil

import pytest

from cli.processes import ProcessError, Processes
from studio.processes import Watched, keep

MODULES = {
    "speaks": "print('{\"port\": 7}', flush=True)\nimport time\ntime.sleep(600)",
    "chats": "print('loading', 7, flush=True)\nprint(7)\nprint('{\"port\": 8}', flush=True)",
    "fails": "import sys\nsys.exit('no such picture')",
    "hangs": "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('{}', flush=True)\n"
    "time.sleep(600)",
}


@pytest.fixture
def processes(tmp_path, monkeypatch):
    for name, code in MODULES.items():
        (tmp_path / f"stub_{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return Processes(tmp_path / "logs")


def is_gone(process):
    return process.returncode is not None


async def test_a_line_and_the_end(processes):
    async with processes:
        started = await processes.start("a", "stub_speaks")
        assert await processes.line("a", 60) == {"port": 7}
        with pytest.raises(ProcessError, match="a said nothing for 0 s"):
            await processes.line("a", 0.01)
    assert is_gone(started)


async def test_what_is_no_json_object_is_skipped_and_a_log_s_folder_that_is_gone_is_made_anew(processes):
    async with processes:
        await processes.start("a", "stub_speaks")
        shutil.rmtree(processes.logs)
        await processes.start("b", "stub_chats")
        assert await processes.line("b", 60) == {"port": 8}
        assert [each.name for each in processes.logs.iterdir()] == ["b.log"]


async def test_a_start_that_fails_is_tried_again(processes, monkeypatch):
    monkeypatch.setattr("studio.processes.FIRST_PAUSE_SECONDS", 0.001)
    watched, again = Watched("a", lambda watched: None), asyncio.Event()

    async def start():
        if watched.starts > 1:
            again.set()
        raise OSError("too many open files")

    keeping = asyncio.create_task(keep(processes, watched, start))
    async with asyncio.timeout(60):
        await again.wait()
    assert watched.why.endswith("too many open files")
    keeping.cancel()


async def test_one_that_ends_early_is_named_with_the_end_of_its_log(processes):
    async with processes:
        await processes.start("b", "stub_fails")
        with pytest.raises(
            ProcessError, match=r"(?s)b ended early; its log \(.*b.log\) ends with:\n  no such picture"
        ):
            await processes.line("b", 60)


async def test_one_whose_log_is_gone_is_named_all_the_same(processes):
    async with processes:
        await processes.start("b", "stub_fails")
        shutil.rmtree(processes.logs)
        with pytest.raises(ProcessError, match=r"b ended early; its log \(.*b.log\) is gone"):
            await processes.line("b", 60)


async def test_one_that_says_nothing_has_ended_before_it_is_started_again(processes):
    begun = []

    async def start():
        begun.append(await processes.start("a", "stub_speaks"))
        await processes.line("a", 60)
        await processes.line("a", 0.01)

    async with processes:
        keeping = asyncio.create_task(keep(processes, Watched("a", lambda watched: None), start))
        while len(begun) < 2:
            await asyncio.sleep(0.01)
        assert is_gone(begun[0])
        keeping.cancel()


async def test_work_ends_when_a_process_that_it_needs_does(processes):
    async with processes:
        await processes.start("a", "stub_speaks")
        assert await processes.through(("a",), asyncio.sleep(0, "done")) == "done"
        await processes.start("b", "stub_fails")
        with pytest.raises(ProcessError, match="b ended early"):
            await processes.through(("a", "b"), asyncio.sleep(600))


async def test_what_does_not_stop_is_killed(processes, monkeypatch):
    monkeypatch.setattr("cli.processes.STOP_SECONDS", 0.1)
    async with processes:
        hanging = await processes.start("c", "stub_hangs")
        assert await processes.line("c", 60) == {}
    assert hanging.returncode == -9
