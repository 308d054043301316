"""Decoder processes read what Pillow reads here; killed, stopped and too slow ones are replaced."""

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scripted_link import until

import server.pictures
from semlink.vision import picture_worker
from semlink.vision.images import ImageError, model_pixels, open_image
from semlink.vision.photos import find_photos
from server.metrics import Metrics
from server.pictures import DECODERS, PictureDecoders
from server.refusals import DecoderLost, PictureTooSlow

CAT = find_photos(["chelsea"])[0].read_bytes()


def large(kind: str, side: int, **options: object) -> bytes:
    """A picture of few bytes and many pixels."""
    file = io.BytesIO()
    Image.new("L", (side, side)).save(file, kind, **options)
    return file.getvalue()


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[PictureDecoders]:
    decoders = PictureDecoders(Metrics())
    await decoders.start()
    try:
        yield decoders
    finally:
        await decoders.close()


def ids(decoders: PictureDecoders) -> set[int]:
    return {process._process.pid for process in decoders._all}


def replaced(decoders: PictureDecoders) -> float:
    return decoders._metrics.registry.get_sample_value("semlink_server_decoders_replaced_total")


async def test_pixels_and_refusals_are_those_of_this_process(monkeypatch):
    monkeypatch.setattr(server.pictures, "SLOW_SECONDS", 60.0)
    async with running() as decoders:
        before = ids(decoders)
        assert len(before) == DECODERS
        for _ in range(3):
            decoded = await decoders.decode(CAT)
            np.testing.assert_array_equal(decoded.item, model_pixels(open_image(CAT)))
            assert decoded.began < decoded.ended
            with pytest.raises(ImageError, match="none of these") as caught:
                await decoders.decode(b"no picture")
            assert caught.value.reason == "picture_malformed"
        with pytest.raises(ImageError, match="segments") as caught:
            await decoders.decode(b"\xff\xd8" + 1_000_000 * b"\xff\xe1\0\x12Exif\0\0          ")
        assert caught.value.reason == "picture_segments"
        assert ids(decoders) == before
        assert decoders.problem() == ""


async def test_a_process_knows_no_secrets(monkeypatch):
    monkeypatch.setenv("SEMLINK_API_KEYS", "camera 0123456789abcdef")
    async with running() as decoders:
        for process in ids(decoders):
            environment = Path(f"/proc/{process}/environ")
            if not environment.exists():
                pytest.skip("environments are read from /proc")
            assert b"SEMLINK" not in environment.read_bytes()


async def test_stopped_processes_are_replaced_and_their_pictures_decoded_by_others(monkeypatch):
    monkeypatch.setattr(server.pictures, "BEGIN_SECONDS", 1.0)
    async with running() as decoders:
        before = ids(decoders)
        for process in before:
            os.kill(process, signal.SIGSTOP)
        pictures = [asyncio.create_task(decoders.decode(CAT)) for _ in range(4)]
        for picture in pictures:
            assert (await picture).item.shape == (224, 224, 3)
        assert not ids(decoders) & before


async def test_readiness_tells_of_stopped_processes(monkeypatch):
    monkeypatch.setattr(server.pictures, "STUCK_SECONDS", 0.0)
    async with running() as decoders:
        for process in ids(decoders):
            os.kill(process, signal.SIGSTOP)
        picture = asyncio.create_task(decoders.decode(CAT))
        await until(decoders.problem)
        assert decoders.problem().startswith("pictures: none was decoded for ")
        for process in ids(decoders):
            os.kill(process, signal.SIGCONT)
        await picture
        assert decoders.problem() == ""


async def test_a_picture_that_takes_too_long_is_refused_and_its_process_replaced(monkeypatch):
    picture = large("JPEG", 3000, progressive=True)
    monkeypatch.setattr(server.pictures, "SLOW_SECONDS", 60.0)
    async with running() as decoders:
        before = ids(decoders)
        with monkeypatch.context() as hasty:
            hasty.setattr(server.pictures, "MAX_SECONDS", 0.02)
            with pytest.raises(PictureTooSlow):
                await decoders.decode(picture)
        await decoders.decode(CAT)
        await until(lambda: len(ids(decoders)) == DECODERS)
        assert len(ids(decoders) & before) == DECODERS - 1
        assert replaced(decoders) == 1


async def test_a_slow_picture_goes_on_with_low_priority_and_its_process_is_replaced(monkeypatch):
    monkeypatch.setattr(server.pictures, "SLOW_SECONDS", 0.0)
    lowered = []
    monkeypatch.setattr(os, "setpriority", lambda *arguments: lowered.append(arguments))
    async with running() as decoders:
        before = ids(decoders)
        await decoders.decode(CAT)
        await until(lambda: len(ids(decoders)) == DECODERS)
        (process,) = before - ids(decoders)
        assert lowered == [(os.PRIO_PROCESS, process, server.pictures.LOW_PRIORITY)]


async def test_a_process_that_dies_amid_a_picture_is_replaced():
    picture = large("JPEG", 4000, progressive=True)
    async with running() as decoders:
        pictures = [asyncio.create_task(decoders.decode(picture)) for _ in range(DECODERS)]
        await until(lambda: not decoders._idle)
        for process in ids(decoders):
            os.kill(process, signal.SIGKILL)
        for lost in pictures:
            with contextlib.suppress(DecoderLost):  # or another had it, as its process had not begun
                await lost
        await decoders.decode(CAT)


async def test_a_process_that_says_what_none_does_is_replaced(monkeypatch):
    async with running() as decoders:
        before = ids(decoders)
        with monkeypatch.context() as patched:
            patched.setattr(picture_worker, "MAX_REFUSAL_BYTES", 0)
            with pytest.raises(DecoderLost):
                await decoders.decode(b"no picture")
        assert (await decoders.decode(CAT)).item.shape == (224, 224, 3)
        assert len(ids(decoders) & before) < len(before)


async def test_processes_that_died_idle_are_not_asked():
    async with running() as decoders:
        before = ids(decoders)
        for process in before:
            os.kill(process, signal.SIGKILL)
        for _ in range(3):
            await decoders.decode(CAT)
        assert not ids(decoders) & before


async def test_without_processes_pictures_are_refused_until_there_are_some(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        decoders = PictureDecoders(Metrics())
        await decoders.start()
        assert "can be started: " in decoders.problem()
        with pytest.raises(DecoderLost):
            await decoders.decode(CAT)
    try:
        await decoders.decode(CAT)
        assert decoders.problem() == ""
    finally:
        await decoders.close()


async def test_callers_that_leave_take_no_place():
    async with running() as decoders:
        for process in ids(decoders):
            os.kill(process, signal.SIGSTOP)
        left = [asyncio.create_task(decoders.decode(CAT)) for _ in range(10)]
        await until(lambda: decoders.waiting == 10)
        for each in left:
            each.cancel()
        await asyncio.wait(left)
        assert decoders.waiting == 0
        for process in ids(decoders):
            os.kill(process, signal.SIGCONT)
        await decoders.decode(CAT)


async def test_closing_ends_stopped_processes_too():
    async with running() as decoders:
        processes = ids(decoders)
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        asking = asyncio.create_task(decoders.decode(CAT))
        await until(lambda: len(decoders._idle) < DECODERS)
    assert (await asyncio.gather(asking, return_exceptions=True))[0] is not None
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def limited(limit: str, *pictures: bytes) -> tuple[bytes, int]:
    """What a process with another limit answers to pictures, and with which status it ends."""
    code = f"import semlink.vision.picture_worker as worker; worker.{limit}; worker.main(('JPEG', 'PNG'))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        input=b"".join(len(picture).to_bytes(picture_worker.LENGTH_BYTES) + picture for picture in pictures),
        stdout=subprocess.PIPE,
        timeout=120,
    )
    assert done.stdout.startswith(picture_worker.READY + picture_worker.BEGUN)
    return done.stdout[2:], done.returncode


def test_memory_is_limited():
    answer, status = limited("MAX_MEMORY_BYTES = 300 << 20", large("PNG", 7000, compress_level=1))
    assert answer.startswith(picture_worker.REFUSED)
    assert b'"reason": "picture_memory"' in answer
    assert status == 0


def test_computing_time_is_limited():
    answer, status = limited("MAX_CPU_SECONDS, worker.open_image = -1, lambda *_: any(iter(int, 1))", CAT)
    assert answer == b""
    assert status == -signal.SIGXCPU


def test_a_process_that_holds_much_ends_after_its_answer():
    """Its memory comes back; the second picture is for another process."""
    grows = "_answer = lambda *_: setattr(worker, 'MAX_HELD_BYTES', 0) or b'P'"
    answer, status = limited(grows, CAT, CAT)
    assert answer == picture_worker.PIXELS
    assert status == 0
