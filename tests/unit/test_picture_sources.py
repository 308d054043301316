"""Picture sources: what comes out of pipes, watched folders and films, and how it is handed on."""

import asyncio
import io
import itertools
import os
import socket
import threading

import numpy as np
import pytest
from PIL import Image
from processes import wait_until
from rtsp_camera import RtspCamera
from structlog.testing import capture_logs

from device.sources import boundaries, video, watched
from device.sources.boundaries import is_whole, split_pictures
from device.sources.feed import Feed
from device.sources.opening import open_source
from device.sources.pipe import Pipe
from device.sources.source import Picture, SourceError
from device.sources.watched import Watched
from semlink.vision.photos import PhotosError

RNG = np.random.default_rng(3)
FORMATS = ("JPEG", "PNG", "WEBP")


def picture(format_="JPEG", size=(40, 30), **options):
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(file, format_, **options)
    return file.getvalue()


def in_pieces(data, length):
    pieces = iter([data[start : start + length] for start in range(0, len(data), length)])
    return lambda: next(pieces, b"")


# Boundaries


@pytest.fixture(scope="module")
def all_kinds():
    exif = Image.Exif()
    exif[0x0131] = "with a thumbnail \xff\xd8\xff\xe0 \xff\xd9"
    thumbnail = b"Exif\0\0" + picture(size=(8, 8))
    return [
        picture(), picture("PNG"), picture(progressive=True), picture("WEBP"), picture(exif=exif),
        picture(exif=thumbnail), picture("WEBP", lossless=True), picture(quality=100, restart_marker_rows=1),
    ]  # fmt: skip


@pytest.mark.parametrize("length", [1, 7, 1000, 1 << 20])
def test_pictures_one_after_the_other_come_out_as_they_went_in(all_kinds, length):
    assert list(split_pictures(in_pieces(b"".join(all_kinds), length))) == all_kinds


@pytest.mark.parametrize("length", [3, 1 << 20])
def test_what_is_between_pictures_and_a_cut_off_end_are_pieces_of_their_own(length):
    first, second = picture(), picture("PNG")
    stream = b"noise" + first + b"--boundary\r\n" + second[:-30] + second + first[:-30] + first[:100]
    assert list(split_pictures(in_pieces(stream, length))) == [
        b"noise", first, b"--boundary\r\n" + second[:-30], second, first[:-30] + first[:100]
    ]  # fmt: skip
    assert list(split_pictures(in_pieces(b"", 1))) == []


def test_a_stream_in_which_no_picture_begins_ends_with_an_error(monkeypatch):
    monkeypatch.setattr(boundaries, "MAX_IMAGE_BYTES", 10_000)
    with pytest.raises(SourceError, match="no JPEG, PNG or WebP picture begins within 1"):
        list(split_pictures(lambda: b"y\n" * 500))


def test_a_picture_that_never_ends_is_given_up_at_the_bound_and_the_next_one_is_found(monkeypatch):
    monkeypatch.setattr(boundaries, "MAX_IMAGE_BYTES", 10_000)
    good = picture()
    endless = good[:-2] + b"\0" * 12_000
    pieces = list(split_pictures(in_pieces(endless + good, 500)))
    assert pieces[-1] == good
    assert all(len(piece) <= 11_000 for piece in pieces)


@pytest.mark.parametrize("filler", [b"\xff\xfe\0\2", b"\xff\xd8\xff", b"\xff"], ids=["comments", "starts", "fill"])
def test_bytes_without_number_cost_time_in_proportion(filler):
    # Of the shortest segments: a scan that began anew for each would not end.
    data = picture()[:2] + filler * 60_000
    assert b"".join(split_pictures(in_pieces(data, 1 << 16))) == data


@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_is_whole_with_its_last_byte_and_not_before(format_):
    data = picture(format_)
    assert is_whole(data)
    assert is_whole(data + b"more")
    assert not any(is_whole(data[:length]) for length in range(len(data)))
    assert not is_whole(b"text " * 100)


# Watched folders and files


@pytest.fixture
def watching():
    """Pictures of a watched folder or file, taken on by `next`."""
    stop = threading.Event()

    def watch(path):
        return Watched(path).pictures(stop)

    yield watch
    stop.set()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(watched, "POLL_SECONDS", 0.002)


def names(pictures, count):
    return [os.path.basename(each.name) for each in itertools.islice(pictures, count)]


def write(path, data, seconds):
    path.write_bytes(data)
    os.utime(path, (seconds, seconds))


def test_a_watched_folder_gives_what_is_there_oldest_first_and_then_what_is_new(tmp_path, watching):
    for name, seconds in (("c.jpg", 10), ("a.PNG", 30), ("b.webp", 20)):
        write(tmp_path / name, picture(), seconds)
    for name in (".hidden.jpg", "notes.txt", "upload.jpg.part"):
        write(tmp_path / name, picture(), 5)
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    pictures = watching(tmp_path)
    first = next(pictures)
    assert (first.taken_at, first.content) == (10, (tmp_path / "c.jpg").read_bytes())
    assert names(pictures, 2) == ["b.webp", "a.PNG"]
    (tmp_path / "a.PNG").unlink()
    write(tmp_path / "d.jpg", picture(), 1)
    assert names(pictures, 1) == ["d.jpg"]
    write(tmp_path / "a.PNG", picture("PNG"), 30)  # deleted, and written anew
    assert names(pictures, 1) == ["a.PNG"]


def test_a_half_written_file_is_taken_when_it_is_whole_and_holds_up_no_other(tmp_path, watching):
    whole, pictures = picture(), watching(tmp_path)
    slow = tmp_path / "slow.jpg"
    write(slow, whole[:-1], 10)
    write(tmp_path / "quick.jpg", whole, 20)
    assert names(pictures, 1) == ["quick.jpg"]
    write(tmp_path / "later.jpg", whole, 30)
    assert names(pictures, 1) == ["later.jpg"]
    with slow.open("ab") as file:
        file.write(whole[-1:])
    taken = next(pictures)
    assert (taken.name, taken.content) == (str(slow), whole)


def test_a_file_that_stays_half_written_is_handed_on_to_be_refused(tmp_path, watching, monkeypatch):
    monkeypatch.setattr(watched, "STALE_SECONDS", 0.01)
    write(tmp_path / "cut.jpg", picture()[:100], 10)
    write(tmp_path / "text.jpg", b"no picture", 20)
    pictures = watching(tmp_path)
    assert names(pictures, 2) == ["cut.jpg", "text.jpg"]
    write(tmp_path / "good.jpg", picture(), 30)
    assert names(pictures, 1) == ["good.jpg"]  # and each of the others once


def test_a_file_that_is_overwritten_again_and_again_is_a_picture_each_time(tmp_path, watching):
    path = tmp_path / "latest.jpg"
    pictures = watching(path)
    for number in range(3):
        data = picture(size=(16 + number, 16))
        path.write_bytes(data[:50])  # as a camera that opens the file and writes on
        path.write_bytes(data)
        assert next(pictures).content == data
        other = tmp_path / "new"
        other.write_bytes(picture(size=(16 + number, 16)))
        other.replace(path)  # or one that renames
        assert next(pictures).content == path.read_bytes()


def test_a_torn_read_is_made_again(tmp_path, watching, monkeypatch):
    path, looks, fstat = tmp_path / "latest.jpg", [], os.fstat
    old, new = picture(size=(16, 16)), picture(size=(64, 64))
    path.write_bytes(old)

    def overwritten_before_the_second_look(descriptor):
        looks.append(descriptor)
        if len(looks) == 2:
            path.write_bytes(new)
        return fstat(descriptor)

    monkeypatch.setattr(watched.os, "fstat", overwritten_before_the_second_look)
    assert next(watching(path)).content == new
    assert len(looks) >= 4


def test_a_watched_folder_may_go_away_and_come_back(tmp_path, watching):
    folder, away = tmp_path / "card", tmp_path / "away"
    folder.mkdir()
    write(folder / "a.jpg", picture(), 10)
    pictures, found = watching(folder), []
    assert names(pictures, 1) == ["a.jpg"]
    with capture_logs() as logs:
        folder.rename(away)
        reading = threading.Thread(target=lambda: found.extend(names(pictures, 1)))
        reading.start()
        wait_until(lambda: logs, 20)
        away.rename(folder)
        reading.join(20)
    assert found == ["a.jpg"]
    assert [log["event"] for log in logs] == ["the watched folder cannot be read"]


# Pipes, and how pictures are handed on


async def all_of(source):
    found = []
    while (each := await source.picture(0)) is not None:
        found.append(each)
    return found


async def test_standard_input_gives_its_pictures_in_order_with_none_lost():
    reading, writing = os.pipe()
    sent = [picture(FORMATS[number % 3]) for number in range(9)]
    source = Feed(Pipe(reading, "standard input"), newest=False)

    def write_all():
        with open(writing, "wb") as file:
            file.write(b"".join(sent))

    threading.Thread(target=write_all).start()
    taken = await all_of(source)
    assert [each.content for each in taken] == sent
    assert [each.name for each in taken[:2]] == ["standard input 0", "standard input 1"]
    assert source.passed_over == 0
    source.close()
    os.close(reading)


class Scripted:
    """A stream that a test steps on."""

    def __init__(self, *names, error=None):
        self.names, self.error, self.given = names, error, 0

    def pictures(self, stop):
        for name in self.names:
            self.given += 1
            yield Picture(name, b"")
        if self.error:
            raise self.error
        if self.names[-1] == "last":
            return
        stop.wait()


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def test_of_a_live_source_the_newest_is_taken_and_the_others_are_counted():
    stream = Scripted(*"abcdef")
    source = Feed(stream, newest=True)
    waiting = asyncio.ensure_future(source.picture(0))
    await until(lambda: (stream.given == 6 and source._waiting and source._waiting.name == "f") or waiting.done())
    first = (await waiting).name
    await until(lambda: first == "f" or (source._waiting and source._waiting.name == "f"))
    last = first if first == "f" else (await source.picture(1)).name
    assert last == "f"
    assert source.passed_over == (5 if first == "f" else 4)
    source.close()


async def test_a_stream_in_order_is_not_read_ahead_of_who_takes_its_pictures():
    stream = Scripted(*"abcdef")
    source = Feed(stream, newest=False)
    assert (await source.picture(0)).name == "a"
    await until(lambda: stream.given == 3)
    assert [(await source.picture(0)).name for _ in "bcdef"] == list("bcdef")
    waiting = asyncio.ensure_future(source.picture(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    source.close()
    assert not source._thread.is_alive()


async def test_the_end_and_an_error_come_after_the_last_picture():
    ending, failing = (
        Feed(Scripted("a", "last"), newest=False),
        Feed(Scripted("a", error=SourceError("unplugged")), newest=False),
    )
    assert [each.name for each in await all_of(ending)] == ["a", "last"]
    assert (await failing.picture(0)).name == "a"
    for _ in range(2):
        with pytest.raises(SourceError, match="unplugged"):
            await failing.picture(0)
    broken = Feed(Scripted("a", error=ZeroDivisionError("a bug")), newest=False)
    with capture_logs() as logs:
        assert (await broken.picture(0)).name == "a"
        with pytest.raises(SourceError, match="a bug"):
            await broken.picture(0)
    assert logs


@pytest.mark.parametrize(
    ("images", "watch", "says"),
    [
        (["nosuch"], False, "no file, no folder"),
        (["nosuch/folder"], True, "there is no folder nosuch/folder to watch"),
        (["nosuch.txt"], True, "no picture file"),
        (["nosuch.mp4"], False, "there is no video nosuch.mp4"),
        (["/dev/video-nosuch"], False, "there is no camera /dev/video-nosuch"),
    ],
)
def test_a_source_that_is_not_there_is_named(images, watch, says):
    with pytest.raises((PhotosError, SourceError), match=says):
        open_source(images, watch, None)


def test_pyav_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(video.importlib.util, "find_spec", lambda _name: None)
    for image in ("film.mp4", "rtsp://camera"):
        with pytest.raises(SourceError, match=r"pip install 'semlink\[video\]'"):
            open_source([image], False, None)


# Video


def film(path, frames=10, codec="mpeg4", **options):
    av = pytest.importorskip("av")
    with av.open(str(path), "w", **options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(frames):
            grey = np.full((48, 64, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    return path


def frames_of(path, step=0.0):
    return list(video.VideoFile(path, step).pictures(threading.Event()))


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "mpeg4"), (".mkv", "mpeg4"), (".avi", "mjpeg"), (".ts", "mpeg2video")]
)
def test_a_film_gives_its_frames_in_order(tmp_path, suffix, codec):
    taken = frames_of(film(tmp_path / f"film{suffix}", codec=codec))
    assert len(taken) == 10
    greys = [each.content.getpixel((30, 20))[0] for each in taken]
    np.testing.assert_allclose(greys, np.arange(10) * 20, atol=6)


def test_rounds_take_frames_of_a_film_as_far_apart_as_they_are_themselves(tmp_path):
    path = film(tmp_path / "film.mp4")
    assert [each.name.rpartition(" ")[2] for each in frames_of(path, 0.4)] == ["0", "4", "8"]


def test_hostile_films_end_with_an_error_that_says_what_is_wrong(tmp_path):
    film(tmp_path / "good.mp4")
    good = (tmp_path / "good.mp4").read_bytes()
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/good.mp4\n#EXT-X-ENDLIST\n".encode()
    concat = f"ffconcat version 1.0\nfile {tmp_path}/good.mp4\n".encode()
    for number, data in enumerate(
        (b"", bytes(10_000), good[: len(good) // 2], playlist, concat, RNG.bytes(50_000))
    ):
        path = tmp_path / f"bad{number}.mp4"
        path.write_bytes(data)
        with pytest.raises(SourceError, match=rf"{path} (cannot be opened|has no video|has no frame)"):
            frames_of(path)


def test_frames_larger_than_a_picture_may_be_are_refused(tmp_path, monkeypatch):
    path = film(tmp_path / "film.mp4")
    monkeypatch.setattr(video, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(SourceError, match="frames of 64 x 48 pixels; at most 3071"):
        frames_of(path)


def test_a_camera_that_hangs_up_is_opened_anew_and_its_password_is_never_shown(monkeypatch):
    pytest.importorskip("av")
    monkeypatch.setattr(video, "FIRST_PAUSE_SECONDS", 0.01)
    stop = threading.Event()
    with RtspCamera(frames=6) as camera, capture_logs() as logs:
        taken = list(itertools.islice(video.LiveVideo(camera.address).pictures(stop), 15))
        stop.set()
    greys = [each.content.getpixel((30, 20))[0] for each in taken]
    np.testing.assert_allclose(greys, [10 + 20 * (number % 6) for number in range(15)], atol=3)
    assert camera.served == 3
    assert [log["reason"] for log in logs] == ["the stream has ended"] * 2
    assert [each.name.rpartition(" ")[2] for each in taken] == [str(number) for number in range(15)]
    assert "secret" not in str(logs) + str(taken)
    assert video.without_password("rtsp://me:secret@camera:554/one?key=secret") == "rtsp://camera:554/one"


def test_a_camera_that_says_nothing_is_given_up_after_a_time_limit(monkeypatch):
    pytest.importorskip("av")
    monkeypatch.setattr(video, "OPEN_SECONDS", 0.2)
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent, capture_logs() as logs:
        camera = video.LiveVideo(f"rtsp://me:secret@127.0.0.1:{silent.getsockname()[1]}/x")
        reading = threading.Thread(target=lambda: list(camera.pictures(stop)))
        reading.start()
        wait_until(lambda: logs, 30)
        stop.set()
        reading.join(30)
    assert not reading.is_alive()
    assert logs[0]["event"] == "the camera is opened anew"
    assert "cannot be opened" in logs[0]["reason"]
    assert "secret" not in str(logs)
