"""Devices with a spool, against links that die, refuse, delay and cut, and against their own end."""

import asyncio
import contextlib
import json
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import processes
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from relay import Relay
from scripted_link import serving, until, unused_address
from structlog.testing import capture_logs

from device import uplink as device_uplink
from device.device import Device
from device.encoder import Encoder
from device.settings import DeviceSettings
from device.sources.photos import Photos
from device.spool import FIXED_BYTES, Spool, spool_contents
from device.store_and_forward import StoreAndForward
from device.uplink import LONGEST_RETRY_DELAY_SECONDS, Credentials, Uplink, UplinkError
from device.votes import MAX_VOTES_AWAITED
from semlink.service import tls
from semlink.v1 import link_pb2 as pb
from semlink.v1 import link_pb2_grpc
from semlink.vision.photos import find_photos

ROOT = Path(__file__).parents[2]
(CAT,) = find_photos(["chelsea"])
DETAILS = "grpc-status-details-bin"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
async def one_loop(anyio_backend) -> AsyncIterator[None]:
    """One event loop for all tests here: gRPC may report the end of a cancelled call after its test."""
    yield  # noqa: PT022 - while it is open, anyio keeps the loop


class CountingLink(link_pb2_grpc.LinkServiceServicer):
    """Counts a view once, as the server does; `before_answer` is awaited between counting it and answering."""

    def __init__(self, before_answer=None, refuse=lambda request: None):
        self.counted, self.calls, self.ids = {}, [], {}
        self.before_answer, self.refuse = before_answer, refuse

    @property
    def numbers(self):
        """Frame ids as they were counted."""
        return [frame_id for _, frame_id in self.counted]

    async def Classify(self, request, context):
        key = (request.object_id, request.frame_id)
        self.calls.append(request)
        self.ids.setdefault(key, set()).add(dict(context.invocation_metadata()).get("x-request-id"))
        if refusal := self.refuse(request):
            await context.abort(refusal, "as the test says")
        repeated = key in self.counted
        if self.counted.setdefault(key, request) != request:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "another view")
        if self.before_answer:
            await self.before_answer(request)
        response = pb.ClassifyResponse(predictions=[pb.Prediction(label=7, name="cock")], repeated=repeated)
        response.vote.CopyFrom(pb.Vote(label=7, name="cock", votes=1, views=1))
        return response


class LonelyLink(CountingLink):
    """Counts as that does, and has no vote: a camera of the group is dead."""

    def __init__(self):
        super().__init__()
        self.waits = []

    async def Classify(self, request, context):
        response = await super().Classify(request, context)
        response.ClearField("vote")
        response.missing_views = 1
        return response

    async def WaitVote(self, request, context):
        self.waits.append(request.object_id)
        await asyncio.Event().wait()


def held(path):
    """Frame ids in a spool, whoever uses it."""
    return [line["frame_id"] for line in list(spool_contents(path))[1:]]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "views.spool"


@pytest.fixture(scope="module")
def encoder():
    return Encoder.of(DeviceSettings(to="nowhere:1", images=["chelsea"], object_id="none", threads=1))


@pytest.fixture
def device(encoder, path):
    """Makes the rounds of a device, to be run in the test's own process."""

    def make(address, spool_bytes=64 << 20, stop=None, source=None, **settings):
        given = {"images": ["chelsea"], "object_id": "cup", "retry_seconds": 1, "count": 3} | settings
        told = DeviceSettings(to=address, spool=path, **given)
        made = Device(told, Credentials(), encoder, source or Photos([CAT]), stop or asyncio.Event())
        return StoreAndForward(made, Spool(path, spool_bytes))

    return make


async def test_what_a_dead_link_leaves_is_sent_first_by_the_next_process(device, reports, path):
    away = device(unused_address())
    with capture_logs() as logs:
        await away.run()
    assert away.device.failures == 1
    assert held(path) == [0, 1, 2]
    assert [log["held"] for log in logs if log["event"] == "views are left in the spool"] == [3]
    assert "nobody answers, frames stay in the spool" in [log["event"] for log in logs]
    assert reports() == []
    link = CountingLink()
    async with serving(link) as address:
        rounds = device(address, count=2, object_id="pot", device_id="other")
        await rounds.run()
    assert rounds.device.failures == 0
    assert list(link.counted) == [("cup/0", 0), ("cup/1", 1), ("cup/2", 2), ("pot/3", 3), ("pot/4", 4)]
    assert [call.device_id for call in link.calls] == ["device-1"] * 3 + ["other"] * 2
    told = reports()
    assert [report["frame_id"] for report in told] == [0, 1, 2, 3, 4]
    assert [report["device_id"] for report in told] == [call.device_id for call in link.calls]
    assert all(link.ids[report["object_id"], report["frame_id"]] == {report["request_id"]} for report in told)
    assert all(report["spool"]["dropped"] == report["spool"]["faults"] == 0 for report in told)
    assert held(path) == []


async def test_a_frame_refused_for_good_is_removed_and_one_that_may_pass_is_kept(device, reports, path):
    passing = [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE]

    def refuse(request):
        if request.frame_id == 1:
            return grpc.StatusCode.INVALID_ARGUMENT
        return passing.pop() if passing and request.frame_id == 2 else None

    stop, link = asyncio.Event(), CountingLink(refuse=refuse)
    async with serving(link) as address:
        rounds = device(address, count=0, every=0.05, stop=stop)
        with capture_logs() as logs:
            running = asyncio.ensure_future(rounds.run())
            await until(lambda: 3 in link.numbers)
            stop.set()
            await running
    assert link.numbers[:3] == [0, 2, 3]
    assert [call.frame_id for call in link.calls[:7]] == [0, 1, 2, 2, 2, 2, 3]
    assert rounds.device.failures == 1
    (error,) = [log for log in logs if log["log_level"] == "error"]
    assert error["event"] == "frame given up"
    assert not {0, 1, 2} & set(held(path))


async def test_a_paced_camera_drops_its_oldest_views_and_any_other_waits_for_room(device, path):
    release = asyncio.Event()

    async def hold(_request):
        await release.wait()

    link = CountingLink(before_answer=hold)
    async with serving(link) as address:
        # Of 4 views there is room for; the first is on its way.
        first = device(address, FIXED_BYTES + 4 * 53_248, every=0.01, count=8)
        with capture_logs() as logs:
            running = asyncio.ensure_future(first.run())
            await until(lambda: link.calls and held(path)[-1:] == [7])
            assert held(path) == [0, 5, 6, 7]
            release.set()
            await running
        assert [log["dropped_frame_id"] for log in logs if "dropped_frame_id" in log] == [1, 2, 3, 4]
        assert (link.numbers, first.device.failures) == ([0, 5, 6, 7], 4)

        release.clear()
        second = device(address, FIXED_BYTES + 4 * 53_248, count=8)
        running = asyncio.ensure_future(second.run())
        await until(lambda: held(path) == [8, 9, 10, 11])
        await asyncio.sleep(0.3)
        assert held(path) == [8, 9, 10, 11]
        release.set()
        await running
    assert (link.numbers[4:], second.device.failures) == (list(range(8, 16)), 0)


async def test_a_dead_camera_of_the_group_fills_no_spool_of_another(device, reports, path):
    count, stop, link = 2 * MAX_VOTES_AWAITED, asyncio.Event(), LonelyLink()
    async with serving(link) as address:
        # Of 4 views there is room.
        rounds = device(
            address, FIXED_BYTES + 4 * 53_248, count=count, stop=stop, expected_views=2, vote_seconds=60
        )
        running = asyncio.ensure_future(rounds.run())
        await until(lambda: link.numbers == list(range(count)) and held(path) == [])
        assert len(link.waits) == MAX_VOTES_AWAITED
        stop.set()
        await running
    assert rounds.device.failures == 0
    told = reports()
    assert sorted(report["frame_id"] for report in told) == list(range(count))
    assert {(report["vote"], report["missing_views"]) for report in told} == {(None, 1)}


async def test_a_disk_that_takes_its_time_holds_up_no_answer(device, reports, path, monkeypatch):
    writing, goes_on, waited, told = asyncio.Event(), threading.Event(), [], []
    loop = asyncio.get_running_loop()

    insert = Spool._insert

    def insert_slowly(spool, row, size):
        if row[0] == 1:
            loop.call_soon_threadsafe(writing.set)
            waited.append(goes_on.wait(20))
        insert(spool, row, size)

    async def answer_meanwhile(request):
        await writing.wait()

    def answered():
        told.extend(reports())
        return told

    monkeypatch.setattr(Spool, "_insert", insert_slowly)
    async with serving(CountingLink(before_answer=answer_meanwhile)) as address:
        running = asyncio.ensure_future(device(address, count=2).run())
        await until(answered)
        goes_on.set()
        await running
    assert waited == [True]
    assert [report["frame_id"] for report in answered()] == [0, 1]


async def test_a_stored_view_is_planned_for_the_channel_that_it_meets_at_last(device, path):
    await device(unused_address(), count=1, plan="ia-qsmpa", retry_seconds=0).run()
    await device(unused_address(), count=1, retry_seconds=0).run()  # keeps no pixels, for there is no plan
    assert held(path) == [0, 1]
    link = CountingLink()
    async with serving(link) as server:
        flags = ("--upstream", server, "--channel", "mimo-ofdm", "--snr", "10")
        with processes.running("-m", "channel_emulator", *flags) as emulator:
            await asyncio.to_thread(processes.wait_until, lambda: emulator.is_ready)
            rounds = device(emulator.grpc_address, count=1, plan="ia-qsmpa", retry_seconds=20)
            await rounds.run()
    assert rounds.device.failures == 0
    assert link.numbers == [0, 1, 2]


async def test_a_view_that_no_plan_gets_through_stays_until_the_channel_is_better(device, path):
    link = CountingLink()
    async with serving(link) as server:
        flags = ("--upstream", server, "--channel", "finite-blocklength", "--snr", "-20")
        with processes.running("-m", "channel_emulator", *flags) as emulator:
            await asyncio.to_thread(processes.wait_until, lambda: emulator.is_ready)
            away = device(emulator.grpc_address, count=2, plan="ia-qsmpa", retry_seconds=0)
            with capture_logs() as logs:
                await away.run()
            assert (link.calls, held(path), away.device.failures) == ([], [0, 1], 1)
            (left,) = [log["reason"] for log in logs if log["log_level"] == "error"]
            assert "plan: latency: " in left
            better = {"default": {"type": "finite_blocklength", "snr_db": 10}}
            await asyncio.to_thread(emulator.http.put, "/v1/impairments", json=better)
            rounds = device(emulator.grpc_address, count=1, plan="ia-qsmpa", retry_seconds=20)
            await rounds.run()
    assert (rounds.device.failures, link.numbers, held(path)) == (0, [0, 1, 2], [])


def asking_to_wait(seconds, code=grpc.StatusCode.RESOURCE_EXHAUSTED):
    detail = Any()
    detail.Pack(RetryInfo(retry_delay=Duration(seconds=seconds)))
    return Status(code=code.value[0], message="full", details=[detail]).SerializeToString()


@pytest.mark.parametrize(
    ("details", "seconds"),
    [
        (asking_to_wait(7), 7),
        (asking_to_wait(10**9), LONGEST_RETRY_DELAY_SECONDS),
        (asking_to_wait(-5), 0),
        (asking_to_wait(7, grpc.StatusCode.UNAVAILABLE), 0),
        (Status(code=8, message="full").SerializeToString(), 0),
        (b"\xff\xff nonsense", 0),
    ],
    ids=["asked", "too long", "negative", "of another failure", "nothing asked", "nonsense"],
)
async def test_a_server_that_says_when_to_come_back_is_left_in_peace_until_then(details, seconds):
    class Full(CountingLink):
        async def Classify(self, request, context):
            self.calls.append(request)
            if len(self.calls) == 1:
                context.set_trailing_metadata(((DETAILS, details),))
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
            return pb.ClassifyResponse(predictions=[pb.Prediction(label=7)])

    class Impatient(Uplink):
        async def pause(self, seconds):
            pauses.append(seconds)

    pauses, link = [], Full()
    async with serving(link) as address, Impatient(address, 10, 1000, asyncio.Event()) as uplink:
        await uplink.classify(pb.ClassifyRequest())
    assert len(link.calls) == 2
    assert seconds <= pauses[0] <= seconds + device_uplink.FIRST_PAUSE_SECONDS
    link.calls.clear()
    async with serving(link) as address, Uplink(address, 10, 0, asyncio.Event()) as uplink:
        with pytest.raises(UplinkError) as refused:
            await uplink.classify(pb.ClassifyRequest())
    assert refused.value.retry_delay_seconds == seconds


async def test_a_connection_that_falls_silent_is_given_up_for_a_new_one(monkeypatch):
    faster = [
        (name, value // 10 if "ping" in name or "keepalive" in name else value)
        for name, value in tls._CHANNEL_OPTIONS
    ]
    monkeypatch.setattr(tls, "_CHANNEL_OPTIONS", faster)
    link = CountingLink()
    async with serving(link) as server:
        with Relay([server]) as relay:
            async with Uplink(relay.address, 2, 20, asyncio.Event()) as uplink:
                await uplink.classify(pb.ClassifyRequest(frame_id=0))
                relay.fault = "black hole"
                second = asyncio.ensure_future(uplink.classify(pb.ClassifyRequest(frame_id=1)))
                await until(lambda: relay.swallowed)
                relay.fault = ""
                await second
            assert relay.accepted >= 2
    assert link.numbers == [0, 1]


# From here on, `python -m device` as a process of its own.


class Process:
    """A running device: its log, its reports, its end."""

    def __init__(self, process, folder):
        self.process, self._folder = process, folder

    @property
    def log(self):
        return [json.loads(line) for line in (self._folder / "log").read_text().splitlines()]

    @property
    def reports(self):
        # Killed, it may have been in the middle of a line.
        lines = (self._folder / "reports").read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    async def end(self, number):
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        async with asyncio.timeout(60):
            return await self.process.wait()


@asynccontextmanager
async def process(folder, *arguments, wrapped=()):
    folder.mkdir()
    with (folder / "log").open("wb") as log, (folder / "reports").open("wb") as reports:
        command = ("-m", "device", "--images", "chelsea", "--object-id", "cup", "--threads", "1", *arguments)
        started = await asyncio.create_subprocess_exec(
            *wrapped, sys.executable, *map(str, command), cwd=ROOT, stdout=reports, stderr=log
        )
    try:
        yield Process(started, folder)
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def test_every_view_is_counted_once_and_in_order_whoever_is_killed_and_whatever_is_cut(tmp_path, path):
    camera = ("--spool", path, "--every", 0.1, "--retry-seconds", 1, "--call-seconds", 2)
    counted_and_unanswered = asyncio.Event()

    async def hold_the_fifth(request):
        if request.frame_id == 5:
            counted_and_unanswered.set()
            await asyncio.Event().wait()

    link = CountingLink(before_answer=hold_the_fifth)
    # Nobody is there; then the device is killed.
    async with process(tmp_path / "1", "--to", unused_address(), *camera) as first:
        await until(lambda: path.exists() and path.stat().st_size and len(held(path)) > 3)
        assert await first.end(signal.SIGKILL) == -signal.SIGKILL
    left = held(path)
    assert left == list(range(len(left)))

    # The link answers, until a view has been counted and its answer is not yet there; then it is killed again.
    async with serving(link) as server, process(tmp_path / "2", "--to", server, *camera) as second:
        await asyncio.wait_for(counted_and_unanswered.wait(), 120)
        await second.end(signal.SIGKILL)
    assert link.numbers == [0, 1, 2, 3, 4, 5]
    assert 5 in held(path)  # counted, but not answered
    link.before_answer = None

    # A slow link whose connections are cut, then a server that goes away for a while.
    with Relay([server]) as relay:
        relay.fault = "delay"
        port = int(server.rpartition(":")[2])
        async with process(tmp_path / "3", "--to", relay.address, *camera) as third:
            for wanted in (8, 12):
                async with serving(link, port):
                    await until(lambda: len(link.counted) > wanted)  # noqa: B023
                    relay.cut()
                    await until(lambda: len(link.counted) > wanted + 2)  # noqa: B023
                await asyncio.sleep(0.3)
            async with serving(link, port):
                await until(lambda: len(link.counted) > 16)
                assert await third.end(signal.SIGTERM) == 0
    numbers = link.numbers
    assert numbers == list(range(len(numbers)))
    assert list(link.counted) == [(f"cup/{number}", number) for number in numbers]
    assert len(link.calls) > len(numbers), "5 was sent again at least, and counted once"
    assert all(len(ids) == 1 for ids in link.ids.values())
    reported = [report["frame_id"] for run in (first, second, third) for report in run.reports]
    assert sorted(set(reported)) == numbers[: len(set(reported))]
    assert set(range(numbers[-1] + 1)) <= set(reported) | set(held(path))
    assert [line for line in third.log if line.get("level") == "error"] == []


async def test_what_was_counted_is_not_sent_again_though_its_vote_was_awaited_when_the_device_was_killed(
    tmp_path, path
):
    camera = ("--spool", path, "--expected-views", 2, "--vote-seconds", 60, "--count", 3)
    link, forgetful = LonelyLink(), CountingLink()
    async with serving(link) as server, process(tmp_path / "1", "--to", server, *camera) as first:
        await until(lambda: len(link.waits) == 3)
        assert await first.end(signal.SIGKILL) == -signal.SIGKILL
    assert first.reports == []
    async with serving(forgetful) as server, process(tmp_path / "2", "--to", server, *camera) as second:
        assert await asyncio.wait_for(second.process.wait(), 120) == 0
    assert (link.numbers, forgetful.numbers) == ([0, 1, 2], [3, 4, 5])


def small_disk(folder):
    """A command that runs another with a disk of 1 MiB at `folder`, in name spaces of its own."""
    script = 'mount -t tmpfs -o size=1m,mode=700 tmpfs "$0" && exec "$@"'
    return ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(folder))


async def test_on_a_full_disk_views_wait_in_memory_and_nothing_is_lost(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        subprocess.run([*small_disk(disk), "true"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mounting of file systems here")
    release = asyncio.Event()

    async def hold(_request):
        await release.wait()

    def faults():
        return [line for line in full.log if line["event"] == "a view cannot be stored and waits in memory"]

    link = CountingLink(before_answer=hold)
    async with serving(link) as server:
        arguments = ("--to", server, "--spool", disk / "views.spool", "--every", 0.1, "--call-seconds", 60)
        async with process(tmp_path / "full", *arguments, wrapped=small_disk(disk)) as full:
            await until(lambda: len(faults()) > 2)
            release.set()
            last = faults()[-1]["frame_id"]
            await until(lambda: len(link.counted) > last + 3)
            status = await full.end(signal.SIGTERM)
    assert status == 0, [line for line in full.log if line["level"] in ("warning", "error")]
    assert "full" in faults()[0]["reason"]
    assert link.numbers == list(range(len(link.numbers)))
    assert len(link.calls) == len(link.counted)
    assert full.reports[-1]["spool"]["faults"] == len(faults())
    assert full.reports[-1]["spool"]["dropped"] == 0


async def test_stopped_on_a_full_disk_views_in_memory_are_counted_as_dropped(device, path):
    """As on SIGTERM, which sets `stop`, with a limit on the size of files for a disk."""
    stop, link, limit = asyncio.Event(), CountingLink(), resource.getrlimit(resource.RLIMIT_FSIZE)
    link.before_answer = lambda _request: asyncio.Event().wait()
    async with serving(link) as address:
        rounds = device(address, count=0, every=0.01, stop=stop, call_seconds=1)
        spool = rounds._spool
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, limit[1]))
        try:
            running = asyncio.ensure_future(rounds.run())
            await until(lambda: spool.status.next_number > 3)
            stop.set()
            await running
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    made, status = spool.status.next_number, spool.status
    assert (status.held, status.dropped) == (0, made)
    assert rounds.device.failures == made
    assert next(iter(spool_contents(path)))["dropped"] == made


async def test_two_devices_may_not_share_a_spool(path, tmp_path):
    spool = Spool(path, 64 << 20)
    async with process(tmp_path / "second", "--to", unused_address(), "--spool", path) as second:
        assert await asyncio.wait_for(second.process.wait(), 120) == 1
    assert f"another device uses the spool {path}" in (tmp_path / "second" / "log").read_text()
    spool.close()
