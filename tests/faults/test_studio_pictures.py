"""Pictures that strangers upload to the studio: decoded apart, within bounds, and refused for a reason."""

import asyncio
import io
import signal
import sys

import pytest
from PIL import Image

from device.camera import VIEWPOINTS, take_view
from semlink.vision.images import ImageError
from semlink.vision.photos import find_photos
from studio import uploads
from studio.uploads import Uploads

CAT = find_photos(["chelsea"])[0].read_bytes()
SEGMENTS = b"\xff\xd8" + 1_000_000 * b"\xff\xe1\x00\x12Exif\0\0          " + CAT[2:]


def plain(width: int, height: int, kind: str = "PNG") -> bytes:
    """Many pixels in few bytes."""
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, kind)
    return file.getvalue()


async def test_what_is_seen_is_what_cameras_would_see_of_the_file():
    expected = [take_view(CAT, viewpoint).tobytes() for viewpoint in (None, *VIEWPOINTS)]
    assert await Uploads().seen_of(CAT) == expected


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "picture_malformed"),
        (CAT[:1000], "picture_malformed"),
        (b"\0" * (5 << 20), "picture_malformed"),
        (SEGMENTS, "picture_segments"),
        (plain(10_000, 5001), "picture_pixels"),
    ],
    ids=["nothing", "cut", "zeros", "segments", "pixels"],
)
async def test_what_costs_too_much_is_refused_for_a_reason(data, reason):
    with pytest.raises(ImageError) as refusal:
        await Uploads().seen_of(data)
    assert refusal.value.reason == reason
    assert "/" not in str(refusal.value)  # no path, nor what else a traceback tells


@pytest.mark.parametrize("data", [plain(1, 1), plain(4000, 3000)], ids=["one pixel", "large"])
async def test_pictures_of_any_size_are_seen_five_ways(data):
    assert [len(each) for each in await Uploads().seen_of(data)] == [224 * 224 * 3] * (1 + len(VIEWPOINTS))


async def test_one_that_takes_too_long_is_given_up_and_its_process_killed(monkeypatch):
    processes = []
    start = asyncio.create_subprocess_exec

    async def noted(*command, **options):
        processes.append(await start(*command, **options))
        return processes[-1]

    monkeypatch.setattr(uploads.asyncio, "create_subprocess_exec", noted)
    monkeypatch.setattr(uploads, "MAX_SECONDS", 0.01)
    with pytest.raises(ImageError, match="too long"):
        await Uploads().seen_of(CAT)
    assert await processes[0].wait() == -signal.SIGKILL


async def test_a_process_that_dies_takes_nobody_along(monkeypatch):
    monkeypatch.setattr(uploads.view_worker, "__name__", "no_such_module")
    with pytest.raises(ImageError, match="ended the process"):
        await Uploads().seen_of(CAT)


async def test_one_that_computes_for_too_long_is_told_from_one_that_dies(monkeypatch):
    """Its output ends before it does: whoever kills it then never knows how it would have ended."""
    start, slow = asyncio.create_subprocess_exec, ("sh", "-c", "exec >&-; sleep 0.05; kill -XCPU $$")
    monkeypatch.setattr(uploads, "END_SECONDS", 60)
    monkeypatch.setattr(uploads.asyncio, "create_subprocess_exec", lambda *_, **options: start(*slow, **options))
    with pytest.raises(ImageError, match="too long") as refusal:
        await Uploads().seen_of(CAT)
    assert refusal.value.reason == "picture_slow"


async def test_a_process_that_says_more_than_is_read_gives_back_its_place(monkeypatch):
    start, answer = asyncio.create_subprocess_exec, uploads._answer
    zeros = (sys.executable, "-c", "import os\nwhile True: os.write(1, bytes(1 << 16))")

    async def answer_once_full(process, data):
        while not process.stdout._paused:
            await asyncio.sleep(0.01)
        return await answer(process, data)

    monkeypatch.setattr(uploads.asyncio, "create_subprocess_exec", lambda *_, **options: start(*zeros, **options))
    monkeypatch.setattr(uploads, "_answer", answer_once_full)
    decoding = Uploads()
    async with asyncio.timeout(60):
        for _ in range(uploads.MOST_AT_ONCE + 1):
            with pytest.raises(ImageError, match="ended the process"):
                await decoding.seen_of(CAT)


async def test_so_many_wait_at_most(monkeypatch):
    monkeypatch.setattr(uploads, "MOST_WAITING", 1)
    decoding = Uploads()
    tasks = [asyncio.create_task(decoding.seen_of(CAT)) for _ in range(uploads.MOST_AT_ONCE + 1)]
    await asyncio.sleep(0)
    with pytest.raises(uploads.TooManyPictures):
        await decoding.seen_of(CAT)
    assert all(len(seen) == 1 + len(VIEWPOINTS) for seen in await asyncio.gather(*tasks))
    assert await decoding.seen_of(CAT)
