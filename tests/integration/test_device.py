"""The device against a scripted link service, which decodes nothing but the frame."""

import asyncio
import functools
import inspect
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from PIL import Image
from scripted_link import serving, until, unused_address
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from device import gallery
from device.device import Device
from device.encoder import Encoder
from device.settings import DeviceSettings
from device.sources.photos import Photos
from device.uplink import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Credentials, Uplink, UplinkStopped
from device.votes import MAX_VOTES_AWAITED
from semlink.source.iaq.frame import Geometry, IaqFrame
from semlink.v1 import link_pb2 as pb
from semlink.v1 import link_pb2_grpc
from semlink.vision.photos import find_photos

ROOT = Path(__file__).parents[2]
START_SECONDS = 120
CAT, COFFEE = find_photos(["chelsea", "coffee"])
VOTE = pb.Vote(label=7, name="cock", votes=3, views=4)


class ScriptedLink(link_pb2_grpc.LinkServiceServicer):
    """Follows a script, a step for each call to Classify, and answers all later calls.

    A step is a status code to fail with, something to await before answering, or None to answer at once.
    """

    def __init__(self, *script, missing_views=0, vote=None):
        self.script, self.missing_views = list(script), missing_views
        self.vote = vote or self.votes
        self.requests, self.arrivals, self.peers, self.waits = [], [], set(), []
        self.request_ids = []

    async def Classify(self, request, context):
        self.requests.append(request)
        self.arrivals.append(time.monotonic())
        self.peers.add(context.peer())
        self.request_ids.append(dict(context.invocation_metadata()).get("x-request-id"))
        step = self.script.pop(0) if self.script else None
        if isinstance(step, grpc.StatusCode):
            await context.abort(step, "as the script says")
        elif step is not None:
            await step()
        response = pb.ClassifyResponse(
            predictions=[pb.Prediction(label=7, name="cock", confidence=0.75)],
            model="a script",
            received_frame=request.frame if request.echo_frame else b"",
            timings=pb.ServerTimings(decode_ms=1, queue_ms=2, inference_ms=3),
            channel=pb.ChannelReport(impairment="bsc", bits_flipped=11, bits_exposed=300_000, channel_ms=4),
        )
        if self.missing_views:
            response.missing_views = self.missing_views
        else:
            response.vote.CopyFrom(pb.Vote(label=7, name="cock", votes=1, views=1))
        return response

    async def WaitVote(self, request, context):
        self.waits.append((request, context.time_remaining()))
        self.request_ids.append(dict(context.invocation_metadata()).get("x-request-id"))
        return await self.vote(context)

    @staticmethod
    async def votes(context):
        return pb.WaitVoteResponse(vote=VOTE)

    @staticmethod
    async def never_votes(context):
        await asyncio.Event().wait()


class CountingEncoder:
    def __init__(self, encoder):
        self.encoder, self.done = encoder, 0

    def encode(self, pixels, frame_id):
        encoded = self.encoder.encode(pixels, frame_id)
        self.done += 1
        return encoded


@pytest.fixture(scope="module")
def encoder():
    return Encoder.of(DeviceSettings(to="nowhere:1", images=["chelsea"], object_id="none", threads=1))


@pytest.fixture
def device(encoder):
    """Makes the rounds of a device, to be run in the test's own process."""

    def make(address, photos=(CAT,), stop=None, encoder=encoder, source=None, **settings):
        given = {"images": ["chelsea"], "object_id": "cup", "retry_seconds": 20, "vote_seconds": 20} | settings
        settings = DeviceSettings(to=address, **given)
        return Device(settings, Credentials(), encoder, source or Photos(photos), stop or asyncio.Event())

    return make


@pytest.fixture
def bad_photo(tmp_path):
    path = tmp_path / "bad.png"
    path.write_bytes(CAT.read_bytes()[:5000])
    return path


async def test_a_view_becomes_a_valid_frame_and_its_answer_one_report(device, reports):
    link = ScriptedLink()
    async with serving(link) as address:
        rounds = device(address, device_id="left", expected_views=1, view=3)
        await rounds.run()
    assert rounds.failures == 0
    (request,) = link.requests
    frame = IaqFrame.from_bytes(request.frame)
    assert frame.geometry == Geometry(14, 14, 16, 3)
    assert frame.payload_bits == 301_056
    assert (request.object_id, request.device_id, request.frame_id) == ("cup", "left", 0)
    assert (request.expected_views, request.echo_frame) == (1, False)
    (report,) = reports()
    assert report["header_bits"] == frame.header_bits == 904
    assert (report["payload_bits"], report["rho"], report["true_ratio"]) == (301_056, 0.25, frame.true_ratio)
    assert report["top1"] == {"label": 7, "name": "cock", "confidence": 0.75}
    assert report["vote"] == {"label": 7, "name": "cock", "votes": 1, "views": 1, "fused": None}
    assert (report["bits_flipped"], report["impairment"], report["missing_views"]) == (11, "bsc", 0)
    assert (report["view"], report["photo"], report["picture"]) == (3, str(CAT), None)
    times = report["timings_ms"]
    assert (times["channel"], times["server"]) == (4, 6)
    assert 0 < times["encode"] < times["attention"] + times["encode"] < 10_000
    assert link.waits == []


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED],
    ids=lambda code: code.name,
)
async def test_the_same_frame_is_sent_again_while_nobody_answers(device, reports, code):
    link = ScriptedLink(code, code)
    async with serving(link) as address:
        rounds = device(address)
        with capture_logs() as logs:
            await rounds.run()
    assert rounds.failures == 0
    assert len(link.requests) == 3
    assert link.requests[0] == link.requests[1] == link.requests[2]
    assert [log["attempt"] for log in logs if log["event"] == "no answer, asking again"] == [1, 2]
    assert all(code.name in log["reason"] for log in logs if "attempt" in log)
    assert len(reports()) == 1


async def test_a_frame_has_one_request_id_in_its_retries_its_vote_its_report_and_its_log_lines(device, reports):
    link = ScriptedLink(grpc.StatusCode.UNAVAILABLE, missing_views=1)
    async with serving(link) as address:
        rounds = device(address, expected_views=2, count=2)
        with capture_logs(processors=[merge_contextvars]) as logs:
            await rounds.run()
    first, second = (report["request_id"] for report in reports())
    assert len(first) == len(second) == 32
    assert sorted(link.request_ids) == sorted([first] * 3 + [second] * 2)
    (retry,) = [log for log in logs if log["event"] == "no answer, asking again"]
    assert (retry["request_id"], retry["object_id"], retry["frame_id"]) == (first, "cup/0", 0)


async def test_a_call_has_a_deadline_and_is_then_made_again(device, reports):
    link = ScriptedLink(functools.partial(asyncio.sleep, 30))
    async with serving(link) as address:
        rounds = device(address, call_seconds=2)
        await rounds.run()
    assert rounds.failures == 0
    assert len(link.requests) == 2
    assert link.requests[0] == link.requests[1]
    assert len(reports()) == 1


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.FAILED_PRECONDITION]
)
async def test_a_refused_frame_is_given_up_at_once_with_the_reason_and_the_next_one_follows(device, reports, code):
    link = ScriptedLink(code)
    async with serving(link) as address:
        rounds = device(address, count=2, run="told")
        with capture_logs() as logs:
            await rounds.run()
    assert rounds.failures == 1
    assert [request.frame_id for request in link.requests] == [0, 1]
    (error,) = [log for log in logs if log["log_level"] == "error"]
    assert error["event"] == "frame given up"
    assert f"{code.name}: as the script says" in error["reason"]
    assert [report["frame_id"] for report in reports()] == [1]


async def test_an_answer_without_any_prediction_is_none(device, reports):
    class Empty(ScriptedLink):
        async def Classify(self, request, context):
            await super().Classify(request, context)
            return pb.ClassifyResponse()

    link = Empty()
    async with serving(link) as address:
        rounds = device(address, count=2)
        with capture_logs() as logs:
            await rounds.run()
    assert rounds.failures == len(link.requests) == 2
    assert all("answers with no prediction" in log["reason"] for log in logs if log["log_level"] == "error")
    assert reports() == []


async def test_an_unreachable_upstream_is_given_up_within_the_bound(device, reports):
    address = unused_address()
    rounds = device(address, retry_seconds=2)
    with capture_logs() as logs:
        await rounds.run()
    assert rounds.failures == 1
    pauses = [log["pause_seconds"] for log in logs if "pause_seconds" in log]
    assert len(pauses) >= 2
    assert sum(pauses) < 2 + 0.005 * len(pauses)  # each is rounded
    (error,) = [log for log in logs if log["log_level"] == "error"]
    assert address in error["reason"]
    assert "UNAVAILABLE" in error["reason"]
    assert reports() == []


async def test_without_time_for_retries_there_is_one_attempt(device):
    link = ScriptedLink(grpc.StatusCode.UNAVAILABLE)
    async with serving(link) as address:
        rounds = device(address, retry_seconds=0)
        await rounds.run()
    assert (rounds.failures, len(link.requests)) == (1, 1)


async def test_pauses_grow_at_random_up_to_a_bound():
    class Impatient(Uplink):
        async def pause(self, seconds):
            pauses.append(seconds)

    sequences = []
    for _ in range(20):
        pauses = []
        link = ScriptedLink(*[grpc.StatusCode.UNAVAILABLE] * 12)
        async with serving(link) as address, Impatient(address, 10, 1000, asyncio.Event()) as uplink:
            await uplink.classify(pb.ClassifyRequest(frame_id=5))
        assert {request.frame_id for request in link.requests} == {5}
        sequences.append(pauses)
    first, *_, last = zip(*sequences, strict=True)
    assert len(sequences[0]) == 12
    assert 0 <= min(first) <= max(first) <= FIRST_PAUSE_SECONDS
    assert FIRST_PAUSE_SECONDS < max(last) <= LONGEST_PAUSE_SECONDS
    assert len(set(last)) == 20


async def test_told_to_stop_while_pausing_it_stops_at_once():
    stop = asyncio.Event()
    async with Uplink(unused_address(), 10, 1000, stop) as uplink:
        pausing = asyncio.ensure_future(uplink.pause(600))
        await asyncio.sleep(0)
        stop.set()
        with pytest.raises(UplinkStopped, match="told to stop"):
            await asyncio.wait_for(pausing, 5)


async def test_a_server_that_dies_mid_call_and_comes_back_answers(device, reports):
    held = ScriptedLink(asyncio.Event().wait)
    async with serving(held) as address:
        rounds = device(address)
        running = asyncio.ensure_future(rounds.run())
        await until(lambda: held.requests)
    back = ScriptedLink()
    async with serving(back, port=int(address.rpartition(":")[2])):
        await running
    assert rounds.failures == 0
    assert back.requests == held.requests
    assert len(reports()) == 1


async def test_the_vote_is_waited_for_when_views_are_missing(device, reports):
    link = ScriptedLink(missing_views=3)
    async with serving(link) as address:
        await device(address, expected_views=4, vote_seconds=17, call_seconds=5).run()
    ((request, remaining),) = link.waits
    assert (request.object_id, request.device_id) == ("cup", "device-1")
    assert 0 < request.wait_seconds <= 17
    assert 20 < remaining < 23
    (report,) = reports()
    assert report["vote"] == {"label": 7, "name": "cock", "votes": 3, "views": 4, "fused": None}
    assert report["missing_views"] == 0
    assert report["top1"]["label"] == 7


async def test_the_wait_for_the_vote_survives_a_lost_connection(device, reports):
    fails = [grpc.StatusCode.UNAVAILABLE]

    async def vote(context):
        if fails:
            await context.abort(fails.pop(), "gone")
        return pb.WaitVoteResponse(vote=VOTE)

    link = ScriptedLink(missing_views=3, vote=vote)
    async with serving(link) as address:
        await device(address, expected_views=4).run()
    assert len(link.waits) == 2
    assert reports()[0]["vote"]["votes"] == 3


async def test_an_answer_without_a_vote_is_still_reported(device, reports):
    async def views_are_missing(context):
        return pb.WaitVoteResponse(missing_views=2)

    async def unknown(context):
        await context.abort(grpc.StatusCode.NOT_FOUND, "forgotten")

    for vote, missing, event in ((views_are_missing, 2, "views are missing"), (unknown, 3, "no vote")):
        link = ScriptedLink(missing_views=3, vote=vote)
        async with serving(link) as address:
            rounds = device(address, expected_views=4)
            with capture_logs() as logs:
                await rounds.run()
        (report,) = reports()
        assert (report["vote"], report["missing_views"]) == (None, missing)
        assert event in [log["event"] for log in logs]
        assert rounds.failures == 0


async def test_rounds_share_one_connection_and_go_round_the_photos(device, reports):
    link = ScriptedLink()
    async with serving(link) as address:
        rounds = device(address, photos=[CAT, COFFEE], count=5)
        await rounds.run()
    assert [request.frame_id for request in link.requests] == [0, 1, 2, 3, 4]
    assert [request.object_id for request in link.requests] == [f"cup/{number}" for number in range(5)]
    assert len(link.peers) == 1
    seen = sorted(reports(), key=lambda report: report["frame_id"])
    assert [Path(report["photo"]).stem for report in seen] == ["chelsea", "coffee", "chelsea", "coffee", "chelsea"]
    assert link.requests[0].frame == link.requests[2].frame != link.requests[1].frame


async def test_rounds_keep_their_pace(device):
    link = ScriptedLink()
    async with serving(link) as address:
        started = time.monotonic()
        await device(address, every=0.6, count=4).run()
    for number, arrival in enumerate(link.arrivals):
        assert arrival - started >= number * 0.6
    assert len(link.arrivals) == 4


async def test_the_next_view_is_encoded_while_the_last_frame_is_on_the_air(device, encoder):
    release, counting = asyncio.Event(), CountingEncoder(encoder)
    link = ScriptedLink(release.wait)
    async with serving(link) as address:
        running = asyncio.ensure_future(device(address, count=3, encoder=counting).run())
        await until(lambda: len(link.requests) == 1 and counting.done == 2)
        await asyncio.sleep(0.2)
        assert len(link.requests) == 1  # but frames go one after the other
        assert counting.done == 2
        release.set()
        await running
    assert [request.frame_id for request in link.requests] == [0, 1, 2]


async def test_frames_are_sent_whatever_becomes_of_votes_of_which_only_so_many_are_awaited(device, reports):
    votes, go_on, told = asyncio.Event(), asyncio.Event(), []

    async def vote_later(context):
        await votes.wait()
        return pb.WaitVoteResponse(vote=VOTE)

    def has_told(count):
        told.extend(reports())
        return len(told) == count

    most = MAX_VOTES_AWAITED
    link = ScriptedLink(*[None] * 2 * most, go_on.wait, missing_views=1, vote=vote_later)
    async with serving(link) as address:
        rounds = device(address, count=2 * most + 3, expected_views=2)
        with capture_logs() as logs:
            running = asyncio.ensure_future(rounds.run())
            await until(lambda: len(link.requests) == 2 * most + 1 and len(link.waits) == most and has_told(most))
            votes.set()
            await until(lambda: has_told(2 * most))
            go_on.set()
            await running
    assert has_told(2 * most + 3)
    without, awaited = told[:most], told[most:]
    assert [report["frame_id"] for report in without] == list(range(most, 2 * most))
    assert {(report["vote"], report["vote_awaited"], report["missing_views"]) for report in without} == {
        (None, False, 1)
    }
    assert all(report["vote"] and report["vote_awaited"] and not report["missing_views"] for report in awaited)
    of_votes = [(log["event"], log.get("reported_without")) for log in logs if "votes" in log["event"]]
    assert of_votes == [
        ("views are reported without their votes, too many are awaited", None), ("votes are awaited again", most)
    ]  # fmt: skip
    assert rounds.failures == 0


async def test_told_to_stop_it_ends_after_the_frame_under_way(device, reports):
    release, stop = asyncio.Event(), asyncio.Event()
    link = ScriptedLink(release.wait)
    async with serving(link) as address:
        running = asyncio.ensure_future(device(address, every=30, stop=stop).run())
        await until(lambda: link.requests)
        stop.set()
        await asyncio.sleep(0.2)
        assert not running.done()
        release.set()
        await asyncio.wait_for(running, 10)
    assert [report["frame_id"] for report in reports()] == [0]


async def test_told_to_stop_while_retrying_it_gives_up_without_a_failure(device, reports):
    stop = asyncio.Event()
    rounds = device(unused_address(), retry_seconds=600, stop=stop)
    with capture_logs() as logs:
        running = asyncio.ensure_future(rounds.run())
        await until(lambda: any(log["event"] == "no answer, asking again" for log in logs))
        stop.set()
        await asyncio.wait_for(running, 12)
    assert rounds.failures == 0
    assert reports() == []
    assert "frame given up" in [log["event"] for log in logs]


async def test_told_to_stop_while_waiting_for_a_vote_it_reports_what_it_has(device, reports):
    stop = asyncio.Event()
    link = ScriptedLink(missing_views=3, vote=ScriptedLink.never_votes)
    async with serving(link) as address:
        rounds = device(address, expected_views=4, stop=stop)
        running = asyncio.ensure_future(rounds.run())
        await until(lambda: link.waits)
        stop.set()
        await asyncio.wait_for(running, 10)
    (report,) = reports()
    assert (report["vote"], report["missing_views"]) == (None, 3)
    assert rounds.failures == 0


async def test_a_photo_that_is_missing_or_damaged_is_counted_logged_and_passed_over(
    device, reports, bad_photo, tmp_path
):
    link = ScriptedLink()
    async with serving(link) as address:
        rounds = device(address, photos=[CAT, bad_photo, tmp_path / "gone.png", COFFEE], count=4)
        with capture_logs() as logs:
            await rounds.run()
    assert rounds.failures == 2
    assert [(request.frame_id, request.object_id) for request in link.requests] == [(0, "cup/0"), (3, "cup/3")]
    assert [log["photo"] for log in logs if log["event"] == "no view"] == [
        str(bad_photo), str(tmp_path / "gone.png")
    ]  # fmt: skip
    assert len(reports()) == 2


async def test_pictures_show_what_was_received_and_a_failing_one_costs_no_answer(device, reports, tmp_path):
    link = ScriptedLink()
    (tmp_path / "file").write_text("no folder")
    async with serving(link) as address:
        await device(address, object_id="a/b", device_id="c/d", pictures=tmp_path / "pictures").run()
        with capture_logs() as logs:
            rounds = device(address, pictures=tmp_path / "file")
            await rounds.run()
    assert all(request.echo_frame for request in link.requests)
    first, second = reports()
    assert first["picture"] == str(tmp_path / "pictures" / "a-b-c-d.png")
    with Image.open(first["picture"]) as picture:
        assert picture.format == "PNG"
    assert second["picture"] is None
    assert "no picture" in [log["event"] for log in logs]
    assert rounds.failures == 0


async def test_pictures_of_rounds_are_bounded_and_nothing_else_in_the_folder_goes(device, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "MAX_PICTURES", 2)
    others = [
        "cup-x-device-1.png",
        "cup-1-device-2.png",
        "mug-1-device-1.png",
        "cup-device-1.png",
        "cup-7-device-1.jpg",
    ]
    for name in others:
        (tmp_path / name).write_bytes(b"somebody's")
        os.utime(tmp_path / name, (1, 1))
    link = ScriptedLink()
    async with serving(link) as address:
        rounds = device(address, count=4, pictures=tmp_path)
        await rounds.run()
    assert rounds.failures == 0
    left = {path.name for path in tmp_path.iterdir()}
    assert left >= set(others)
    assert len(left - set(others)) == 2
    assert left - set(others) <= {f"cup-{number}-device-1.png" for number in range(4)}


# From here on, `python -m device` as a process of its own.


class Process:
    """A running device: its reports, its log, its end."""

    def __init__(self, process, log):
        self.process, self._log = process, log

    @property
    def log(self):
        return Path(self._log.name).read_text()

    def events(self):
        return [json.loads(line)["event"] for line in self.log.splitlines() if line.startswith("{")]

    async def report(self):
        async with asyncio.timeout(START_SECONDS):
            return json.loads(await self.process.stdout.readline())

    async def status(self, seconds=START_SECONDS):
        async with asyncio.timeout(seconds):
            return await self.process.wait()


@asynccontextmanager
async def process(*arguments, **environment):
    with tempfile.NamedTemporaryFile("wb", suffix=".log") as log:
        started = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "device", *map(str, arguments),
            cwd=ROOT, env=os.environ | environment, stdout=asyncio.subprocess.PIPE, stderr=log,
        )  # fmt: skip
        try:
            yield Process(started, log)
        finally:
            if started.returncode is None:
                started.kill()
                await started.wait()


async def test_a_process_keeps_going_through_a_lost_server_and_a_bad_photo_until_sigterm(bad_photo):
    # A web proxy named in the environment is not on the way to a neighbour.
    proxies = dict.fromkeys(("http_proxy", "grpc_proxy", "https_proxy"), f"http://{unused_address()}")
    first, second = ScriptedLink(None, None, asyncio.Event().wait), ScriptedLink()
    address = unused_address()
    port = int(address.rpartition(":")[2])
    async with process(
        "--to", address, "--images", CAT, bad_photo, COFFEE, "--object-id", "cup", "--every", 0.1,
        "--threads", 1, "--retry-seconds", 60, no_proxy="", **proxies,
    ) as device:  # fmt: skip
        async with serving(first, port):
            before = [await device.report(), await device.report()]
            await until(lambda: len(first.requests) == 3)
        async with serving(second, port):
            after = [await device.report(), await device.report()]
            device.process.send_signal(signal.SIGTERM)
            status = await device.status(20)
        rest = (await device.process.stdout.read()).splitlines()
        log, events = device.log, device.events()
    assert status == 1, "views were missed: the bad photo's"
    numbers = [report["frame_id"] for report in (*before, *after, *map(json.loads, rest))]
    assert numbers == [number for number in range(numbers[-1] + 1) if number % 3 != 1]
    assert second.requests[0] == first.requests[2]
    assert len(first.peers) == 1
    assert [line for line in log.splitlines() if not line.startswith("{")] == []
    assert {"weights", "no view", "no answer, asking again"} <= set(events)


async def test_processes_that_cannot_do_their_work_say_why(tmp_path):
    nowhere = unused_address()
    common = ("--object-id", "cup", "--threads", 1, "--images")
    (tmp_path / "empty").mkdir()
    async with (
        process("--to", nowhere, *common, "chelsea", "--retry-seconds", 1) as unreachable,
        process("--to", nowhere, *common, "chelsea", "--retry-seconds", 600) as stopped_retrying,
        process("--to", nowhere, *common, "chelsea") as stopped_starting,
        process(
            "--to", nowhere, *common, "chelsea", "--model", "deit_base_patch16_224",
            "--weights", tmp_path / "empty", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path),
        ) as unknown_weights,
        process("--to", nowhere, *common, "nosuch") as no_photo,
    ):  # fmt: skip
        assert await no_photo.status() == 1
        assert "device: nosuch is no file, no folder" in no_photo.log

        await asyncio.sleep(1)  # somewhere in its start, which takes longer than this
        stopped_starting.process.send_signal(signal.SIGTERM)
        assert await stopped_starting.status() in (0, -signal.SIGTERM)  # 1: it would have sent its view

        assert await unknown_weights.status() == 1
        for place in ("--weights: no deit_base", "models/: no", "timm's hub: "):
            assert f"  - {place}" in unknown_weights.log
        assert "--weights (or SEMLINK_WEIGHTS)" in unknown_weights.log
        assert "Traceback" not in unknown_weights.log

        assert await unreachable.status() == 1
        assert "frame given up" in unreachable.events()
        assert f"{nowhere} says UNAVAILABLE" in unreachable.log

        await until(lambda: "no answer, asking again" in stopped_retrying.events())
        stopped_retrying.process.send_signal(signal.SIGTERM)
        assert await stopped_retrying.status(15) == 0
        assert "Traceback" not in stopped_retrying.log
        for each in (unreachable, stopped_retrying, stopped_starting, unknown_weights, no_photo):
            assert await each.process.stdout.read() == b""


def test_the_script_speaks_the_whole_contract():
    methods = pb.DESCRIPTOR.services_by_name["LinkService"].methods_by_name
    assert all(inspect.iscoroutinefunction(getattr(ScriptedLink, name)) for name in methods)
