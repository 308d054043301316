"""Devices with cameras of all kinds, against a link service that remembers what each has sent before."""

import asyncio
import io
import os

import grpc
import numpy as np
import pytest
from PIL import Image
from scripted_link import serving, until, unused_address
from structlog.testing import capture_logs

from device.device import Device
from device.encoder import Encoder
from device.rounds import Clock
from device.settings import DeviceSettings
from device.sources.feed import Feed
from device.sources.opening import open_source
from device.sources.pipe import Pipe
from device.sources.source import Picture, SourceError
from device.spool import Spool
from device.store_and_forward import StoreAndForward
from device.uplink import Credentials
from semlink.v1 import link_pb2 as pb
from semlink.v1 import link_pb2_grpc


class RememberingLink(link_pb2_grpc.LinkServiceServicer):
    """Takes one view of an object from each device, as the server does, and votes when two are in."""

    def __init__(self, expected=1):
        self.views, self.expected, self.voted = {}, expected, asyncio.Event()

    def of(self, device_id):
        return [object_id for object_id, device in self.views if device == device_id]

    async def Classify(self, request, context):
        key, view = (request.object_id, request.device_id), (request.frame_id, request.frame)
        repeated = key in self.views
        if self.views.setdefault(key, view) != view:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "another view of this object before")
        response = pb.ClassifyResponse(predictions=[pb.Prediction(label=7, name="cock")], repeated=repeated)
        views = sum(object_id == request.object_id for object_id, _ in self.views)
        if views == self.expected:
            response.vote.CopyFrom(pb.Vote(label=7, name="cock", votes=views, views=views))
            self.voted.set()
        return response

    async def WaitVote(self, request, context):
        return pb.WaitVoteResponse(missing_views=1)


def picture(grey=128, format_="JPEG"):
    file = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), grey, np.uint8)).save(file, format_)
    return file.getvalue()


@pytest.fixture(scope="module")
def encoder():
    return Encoder.of(DeviceSettings(to="nowhere:1", images=["chelsea"], object_id="none", threads=1))


@pytest.fixture
def device(encoder):
    def make(address, source=None, clock=None, stop=None, **settings):
        given = {"images": ["chelsea"], "object_id": "cup", "retry_seconds": 1, "vote_seconds": 20} | settings
        told = DeviceSettings(to=address, **given)
        source = source or open_source(told.images, told.watch, told.every)
        return Device(told, Credentials(), encoder, source, stop or asyncio.Event(), clock=clock or Clock())

    return make


# A camera that starts anew


async def test_a_camera_that_starts_anew_under_its_name_never_meets_its_own_past(device, reports):
    link, renamed = RememberingLink(), []
    async with serving(link) as address:
        for photos in (["chelsea", "coffee"], ["rocket", "coffee"], ["chelsea", "rocket"]):
            started = device(address, images=photos, count=2)
            with capture_logs() as logs:
                await started.run()
            assert started.failures == 0
            renamed.append([log["new_object_id"] for log in logs if "new_object_id" in log])
    assert renamed == [[], ["cup/0@2"], ["cup/1@2", "cup/1@3"]]
    # The last one's first view is what the first one sent: it is answered as before, under its object id.
    assert link.of("device-1") == ["cup/0", "cup/1", "cup/0@2", "cup/1@2", "cup/1@3"]
    assert [report["object_id"] for report in reports()] == [
        "cup/0", "cup/1", "cup/0@2", "cup/1@2", "cup/0", "cup/1@3"
    ]  # fmt: skip


async def test_cameras_that_start_anew_together_agree_on_their_new_objects(device):
    link = RememberingLink(expected=2)
    async with serving(link) as address:
        for photo in ("chelsea", "coffee"):
            for name in ("left", "right"):
                started = device(address, images=[photo], device_id=name, expected_views=2)
                await started.run()
                assert started.failures == 0
    assert link.of("left") == link.of("right") == ["cup", "cup@2"]


async def test_a_run_that_has_a_name_is_not_renamed(device):
    link = RememberingLink()
    async with serving(link) as address:
        for photo, failures in (("chelsea", 0), ("coffee", 1)):
            started = device(address, images=[photo], run="a")
            await started.run()
            assert started.failures == failures
    assert link.of("device-1") == ["cup@a"]


async def test_another_view_of_an_object_after_the_first_answer_is_no_past(device):
    link = RememberingLink()
    link.views["cup/1", "device-1"] = (1, b"of another camera under the same name")
    async with serving(link) as address:
        started = device(address, count=3)
        await started.run()
    assert started.failures == 1
    assert link.of("device-1") == ["cup/1", "cup/0", "cup/2"]


# Rounds from the clock


class Hands(Clock):
    def __init__(self, now):
        self.time = now

    def now(self):
        return self.time

    async def wait(self, seconds, stop):
        self.time += seconds


async def test_cameras_that_start_at_different_times_vote_on_the_same_moment(device, reports):
    link = RememberingLink(expected=2)
    rounds = {"every": 5, "clock_rounds": True, "expected_views": 2}
    async with serving(link) as address:
        await device(address, clock=Hands(1003.0), count=3, device_id="early", **rounds).run()
        await device(address, clock=Hands(1007.5), count=2, device_id="late", **rounds).run()
        await device(address, clock=Hands(1016.0), count=1, device_id="early", **rounds).run()  # started anew
    assert link.of("early") == ["cup/201", "cup/202", "cup/203", "cup/204"]
    assert link.of("late") == ["cup/202", "cup/203"]
    assert {view[0] for (object_id, _), view in link.views.items() if object_id == "cup/202"} == {202}
    assert [bool(report["vote"]) for report in reports()] == [False, False, False, True, True, False]


# Streams of pictures


async def test_pictures_on_standard_input_are_sent_in_order_and_a_bad_one_is_passed_over(device, reports):
    link, (reading, writing) = RememberingLink(), os.pipe()
    with open(writing, "wb") as file:
        file.write(picture(10) + picture(20, "PNG")[:-30] + picture(30, "PNG") + picture(40))
    async with serving(link) as address:
        started = device(address, Feed(Pipe(reading, "standard input"), newest=False), images=["-"])
        await started.run()
    os.close(reading)
    assert started.failures == 1
    assert [report["photo"] for report in reports()] == [f"standard input {number}" for number in (0, 2, 3)]
    assert link.of("device-1") == ["cup/0", "cup/2", "cup/3"]


async def test_a_watched_folder_is_sent_as_it_fills_until_the_count(device, reports, tmp_path):
    link = RememberingLink()
    (tmp_path / "a.jpg").write_bytes(picture(10))
    async with serving(link) as address:
        started = device(address, images=[str(tmp_path)], watch=True, count=3)
        running = asyncio.ensure_future(started.run())
        for number, name in enumerate(("b.png", "c.jpg"), start=1):
            await until(lambda: len(link.views) == number)  # noqa: B023
            (tmp_path / name).write_bytes(picture(20 * number, name[-3:].replace("jpg", "jpeg")))
        await running
    assert [os.path.basename(report["photo"]) for report in reports()] == ["a.jpg", "b.png", "c.jpg"]
    assert started.failures == 0


class Camera:
    """A stream that gives pictures when the test says so."""

    def __init__(self):
        self.due, self.given = [], 0

    def pictures(self, stop):
        while not stop.wait(0.001):
            while self.due:
                yield Picture(self.due.pop(0), Image.new("RGB", (64, 64)))
                self.given += 1


async def test_a_live_camera_that_is_faster_than_the_link_is_seen_at_its_newest_and_others_are_counted(
    device, reports
):
    class HeldLink(RememberingLink):
        asked, release = 0, asyncio.Event()

        async def Classify(self, request, context):
            self.asked += 1
            await self.release.wait()
            return await super().Classify(request, context)

    camera, link = Camera(), HeldLink()
    source = Feed(camera, newest=True)
    async with serving(link) as address:
        running = asyncio.ensure_future(device(address, source, count=3).run())
        camera.due.append("a")
        await until(lambda: link.asked)  # the first is on the air, and the second is encoded meanwhile
        camera.due.append("b")
        await until(lambda: camera.given == 2 and source._waiting is None)
        camera.due.extend("cdef")
        await until(lambda: camera.given == 6)
        link.release.set()
        await running
    told = reports()
    assert [report["photo"] for report in told] == ["a", "b", "f"]
    assert told[-1]["camera"] == {"pictures_passed_over": 3, "rounds_skipped": 0}


async def test_a_round_from_the_clock_in_which_no_picture_comes_is_skipped(device, reports):
    class Rolling(Hands):
        async def wait(self, seconds, stop):
            await super().wait(seconds, stop)
            if self.time > 40:  # the camera has slept for some rounds
                camera.due.append("a")

    camera, link, clock = Camera(), RememberingLink(), Rolling(10.5)
    async with serving(link) as address:
        started = device(address, Feed(camera, newest=True), clock, every=0.2, clock_rounds=True, count=1)
        started.clock.time = 39.5
        await started.run()
    (report,) = reports()
    assert report["camera"]["rounds_skipped"] >= 2
    assert report["frame_id"] >= 200


async def test_a_camera_that_fails_ends_the_device_with_the_reason(device):
    class Unplugged:
        def pictures(self, stop):
            yield Picture("a", Image.new("RGB", (64, 64)))
            raise SourceError("the camera was unplugged")

    link = RememberingLink()
    async with serving(link) as address:
        started = device(address, Feed(Unplugged(), newest=False), count=0)
        with capture_logs() as logs:
            await started.run()
    assert link.of("device-1") == ["cup/0"]
    assert started.failures == 1
    assert [log["reason"] for log in logs if log["log_level"] == "error"] == ["the camera was unplugged"]


async def test_told_to_stop_a_device_waits_for_no_picture(device):
    stop = asyncio.Event()
    started = device(unused_address(), Feed(Camera(), newest=True), stop=stop, count=0)
    running = asyncio.ensure_future(started.run())
    await asyncio.sleep(0)
    stop.set()
    await asyncio.wait_for(running, 20)
    assert started.failures == 0


async def test_at_the_end_of_its_pictures_a_device_with_a_spool_leaves_there_what_nobody_answers(device, tmp_path):
    class Film:
        def pictures(self, stop):
            yield from (Picture(name, Image.new("RGB", (64, 64))) for name in "ab")

    away = device(unused_address(), Feed(Film(), newest=False), images=["film.mp4"], retry_seconds=0)
    spool = Spool(tmp_path / "views.spool", 64 << 20)
    await asyncio.wait_for(StoreAndForward(away, spool).run(), 60)
    assert spool.status.held == 2
    assert away.failures == 1
