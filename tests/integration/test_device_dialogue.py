"""Devices that say first what they think, against a scripted server that asks, forgets, and asks nonsense."""

import asyncio
import json

import grpc
import numpy as np
import processes
import pytest
from calibrations import eager_calibration
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from pydantic import SecretBytes
from scripted_link import serving, until, unused_address
from structlog.testing import capture_logs

from device.device import Device
from device.opinion_encoder import OpinionEncoder
from device.sender import MAX_TRIES
from device.settings import DeviceSettings
from device.sources.photos import Photos
from device.spool import Spool, spool_contents
from device.store_and_forward import StoreAndForward
from device.uplink import Credentials
from device.votes import MAX_VOTES_AWAITED
from semlink.service.header_tag import header_tag
from semlink.source.codec.frame import CodecFrame
from semlink.source.opinion import OpinionFrame
from semlink.source.registry import read_frame
from semlink.v1 import link_pb2 as pb
from semlink.v1 import link_pb2_grpc
from semlink.vision.photos import find_photos

(CAT,) = find_photos(["chelsea"])
NOTHING, FOLLOWS, ON_WISH = range(3)
VOTE = pb.Vote(label=7, name="cock", votes=1, views=1, fused=pb.Prediction(label=8, name="hen", confidence=0.5))
SMALL = pb.Wish(layer=1, side=64, most_bytes=400)


class AskingLink(link_pb2_grpc.LinkServiceServicer):
    """Knows a view's layers until it is told to forget; says what the script says of so many of them.

    A line of the script is a wish, a vote, a failure, or None: nothing yet, which `WaitVote` then waits out.
    """

    def __init__(self, on_layers=None, on_wait=None):
        """`on_layers`: by the number of layers that are there. `on_wait`: what waits are told, in turn."""
        self.on_layers, self.on_wait = on_layers or {}, list(on_wait or [])
        self.calls, self.known, self.refusals, self.forgets_before, self.air_bits = [], {}, [], [], 0

    def _take(self, request):
        self.calls.append(request)
        if len(self.calls) in self.forgets_before:
            self.known.clear()

    async def Classify(self, request, context):
        self._take(request)
        if self.refusals and (refusal := self.refusals.pop(0)):
            await fail(context, *refusal)
        layers = self.known.setdefault((request.object_id, request.device_id, request.frame_id), {})
        if request.layer and not layers:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such view")
        assert layers.setdefault(request.layer, request.frame) == request.frame
        response = pb.ClassifyResponse(predictions=[pb.Prediction(label=7, name="cock", confidence=0.75)])
        if request.echo_frame:
            response.received_frame = request.frame
        response.channel.air_bits = self.air_bits
        tell(response, self.on_layers.get(len(layers)))
        return response

    async def WaitVote(self, request, context):
        self._take(request)
        if not self.known:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such object")
        if not self.on_wait:
            await asyncio.Event().wait()
        response = pb.WaitVoteResponse()
        tell(response, self.on_wait.pop(0))
        return response

    @property
    def frames(self):
        return [call for call in self.calls if isinstance(call, pb.ClassifyRequest)]

    @property
    def waits(self):
        return [call for call in self.calls if isinstance(call, pb.WaitVoteRequest)]


def tell(response, said):
    if isinstance(said, pb.Wish):
        response.wish.CopyFrom(said)
    elif isinstance(said, pb.Vote):
        response.vote.CopyFrom(said)
    else:
        response.missing_views = 1


def lost(air_bits, design_ber):
    """How a channel refuses a frame whose header it has lost."""
    return grpc.StatusCode.ABORTED, "frame_lost", {"air_bits": str(air_bits), "design_ber": design_ber}


async def fail(context, code, reason="", metadata=None):
    detail = Any()
    detail.Pack(ErrorInfo(reason=reason, domain="test", metadata=metadata))
    status = rpc_status.to_status(Status(code=code.value[0], message=reason, details=[detail] if reason else []))
    await context.abort(code, reason, status.trailing_metadata)


def looking(confidence):
    """A model that is so sure of class 3 whatever it sees."""

    def look(pixels):
        logits = np.zeros(1000, np.float32)
        logits[3] = np.log(confidence * 999 / (1 - confidence))
        return np.full(196, 1 / 196, np.float32), logits

    return look


@pytest.fixture
def calibration(tmp_path):
    return eager_calibration(tmp_path)


@pytest.fixture
def device():
    """Makes a device without a model, to be run in the test's own process; with a spool if there is a path."""

    def make(address, look=None, stop=None, spool=None, key=None, **settings):
        given = {"images": ["chelsea"], "object_id": "cup", "retry_seconds": 5, "vote_seconds": 20}
        told = DeviceSettings(to=address, spool=spool, **{"policy": "ask", **given, **settings})
        source, stop = Photos([CAT]), stop or asyncio.Event()
        made = Device(told, Credentials(), OpinionEncoder(told, look or looking(0.4)), source, stop, key)
        return StoreAndForward(made, Spool(spool, 64 << 20)) if spool else made

    return make


def held(path):
    return [line["frame_id"] for line in list(spool_contents(path))[1:]]


async def test_a_sure_vote_costs_an_opinion_and_a_byte(device, reports):
    link = AskingLink({1: VOTE})
    async with serving(link) as address:
        rounds = device(address)
        await rounds.run()
    assert rounds.failures == 0
    (call,) = link.calls
    assert (call.layer, call.more, len(call.frame)) == (0, ON_WISH, 16)
    assert read_frame(call.frame).belief(1000).label == 3
    (report,) = reports()
    assert report["bits_on_air"] == {"uplink": 128, "downlink": 8}
    assert (report["source"], report["header_bits"], report["payload_bits"]) == ("opinion", 128, 0)
    assert report["true_ratio"] == 128 / (8 * 224 * 224 * 3)
    assert report["vote"]["fused"] == {"label": 8, "name": "hen", "confidence": 0.5}


@pytest.mark.parametrize("said_by", ["the answer", "a wait"])
async def test_a_wish_is_granted_under_the_same_frame_id_and_every_bit_is_counted(device, reports, said_by):
    at_once = said_by == "the answer"
    link = AskingLink({1: SMALL if at_once else None, 2: VOTE}, [] if at_once else [SMALL])
    async with serving(link) as address:
        await device(address).run()
    opinion, picture = link.frames
    assert (picture.layer, picture.more) == (1, ON_WISH)
    assert (picture.object_id, picture.device_id, picture.frame_id) == ("cup", "device-1", opinion.frame_id)
    frame = CodecFrame.from_bytes(picture.frame)
    assert len(picture.frame) <= 400
    assert max(frame.head.width, frame.head.height) == 64
    (report,) = reports()
    down = 8 * SMALL.ByteSize() + (8 if at_once else 16)  # the vote, and the answer that had nothing to say
    assert report["bits_on_air"] == {"uplink": 128 + 8 * len(picture.frame), "downlink": down}
    assert [(layer["layer"], layer["source"]) for layer in report["layers"]] == [(0, "opinion"), (1, "codec")]
    assert report["layers"][1]["wish"] == {"side": 64, "most_bytes": 400}
    assert report["vote"]["label"] == 7


async def test_who_has_forgotten_a_view_is_told_all_of_it_again(device, reports):
    """Once as the device waits, once as it sends the picture; each try is counted."""
    link = AskingLink({1: None, 2: VOTE}, [SMALL, SMALL, SMALL])
    link.forgets_before = [2, 5]  # the first wait, and the first picture
    async with serving(link) as address:
        rounds = device(address)
        with capture_logs() as logs:
            await rounds.run()
    assert rounds.failures == 0
    assert [call.layer for call in link.frames] == [0, 0, 1, 0, 1]
    assert len({call.frame for call in link.frames}) == 2
    assert len([log for log in logs if "has forgotten" in log["event"]]) == 2
    (report,) = reports()
    assert report["vote"]["label"] == 7
    assert report["bits_on_air"]["uplink"] == 8 * sum(len(call.frame) for call in link.frames)


async def test_a_lost_answer_costs_its_bits_again_and_the_same_bytes_are_sent(device, reports):
    link = AskingLink({1: SMALL, 2: VOTE})
    link.refusals = [None, (grpc.StatusCode.UNAVAILABLE,), None]
    async with serving(link) as address:
        await device(address).run()
    _, picture, again = link.frames
    assert picture == again
    (report,) = reports()
    assert report["bits_on_air"]["uplink"] == 8 * (16 + 2 * len(picture.frame))


@pytest.mark.parametrize(
    "wish",
    [
        pb.Wish(layer=0, side=64, most_bytes=400),
        pb.Wish(layer=8, side=64, most_bytes=400),
        pb.Wish(layer=1, side=0, most_bytes=400),
        pb.Wish(layer=1, side=2**31, most_bytes=400),
        pb.Wish(layer=1, side=64, most_bytes=0),
        pb.Wish(layer=1, side=64, most_bytes=2**32 - 1),
    ],
    ids=str,
)
async def test_a_wish_that_makes_no_sense_is_passed_over(device, reports, wish):
    link = AskingLink({1: wish}, [VOTE])
    async with serving(link) as address:
        rounds = device(address)
        await rounds.run()
    assert rounds.failures == 0
    assert len(link.frames) == 1
    (report,) = reports()
    assert report["vote"]["label"] == 7


@pytest.mark.parametrize("policy", ["ask", "alone"])
async def test_a_picture_that_is_refused_costs_no_opinion(device, reports, policy, calibration):
    link = AskingLink({1: SMALL if policy == "ask" else None}, [VOTE])
    link.refusals = [None, (grpc.StatusCode.INVALID_ARGUMENT, "undecodable")]
    async with serving(link) as address:
        rounds = device(address, policy=policy, look=looking(0.2), calibration=calibration)
        with capture_logs() as logs:
            await rounds.run()
    assert rounds.failures == 0
    assert [call.layer for call in link.frames] == [0, 1]
    assert [wait.device_id for wait in link.waits] == [""]  # by its name, it would be told the same wish again
    assert "the picture is refused" in [log["event"] for log in logs]
    (report,) = reports()
    assert (report["source"], report["vote"]["label"]) == ("opinion", 7)
    assert report["bits_on_air"]["uplink"] == 8 * sum(len(call.frame) for call in link.frames)


async def test_who_wishes_again_and_again_gets_each_layer_once(device, reports):
    link = AskingLink({number: pb.Wish(layer=number, side=64, most_bytes=400) for number in range(1, 20)})
    async with serving(link) as address:
        await device(address).run()
    assert [(call.layer, call.more) for call in link.frames] == [*((layer, ON_WISH) for layer in range(7)), (7, 0)]
    assert len(reports()) == 1


@pytest.mark.parametrize("confidence", [0.2, 0.999])
async def test_alone_an_unsure_device_sends_a_picture_unasked_and_a_sure_one_none(
    device, reports, confidence, calibration
):
    link = AskingLink({1: None, 2: VOTE}, [VOTE])
    async with serving(link) as address:
        await device(address, look=looking(confidence), policy="alone", calibration=calibration).run()
    told = [(call.layer, call.more, type(read_frame(call.frame))) for call in link.frames]
    unsure = [(0, FOLLOWS, OpinionFrame), (1, NOTHING, CodecFrame)]
    assert told == (unsure if confidence < 0.5 else [(0, NOTHING, OpinionFrame)])
    (report,) = reports()
    assert report["bits_on_air"]["uplink"] == 8 * sum(len(call.frame) for call in link.frames)


async def test_a_lost_header_is_sent_under_a_code_for_twice_the_errors_and_all_tries_are_counted(device, reports):
    link = AskingLink({1: SMALL, 2: VOTE})
    link.refusals = [lost(300, "0.03"), lost(500, "0.06"), None, None]
    async with serving(link) as address:
        await device(address).run()
    assert [(call.layer, call.protection.attempt) for call in link.frames] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    designs = [call.protection.design_ber for call in link.frames]
    assert designs == pytest.approx([0, 0.06, 0.12, 0.12])  # the picture begins where the opinion got through
    picture = 8 * len(link.frames[-1].frame)
    down = 8 + 8 + 8 * SMALL.ByteSize() + 8
    assert reports()[0]["bits_on_air"] == {"uplink": 300 + 500 + 128 + picture, "downlink": down}


async def test_a_header_that_no_code_gets_through_is_given_up(device, reports):
    link = AskingLink()
    link.refusals = [lost(300, "") for _ in range(2 * MAX_TRIES)]
    async with serving(link) as address:
        rounds = device(address, protect_for=0.05)
        await rounds.run()
    assert (rounds.failures, reports()) == (1, [])
    designs = [call.protection.design_ber for call in link.frames]
    assert designs == pytest.approx([0.05, 0.1, 0.2, 0.2, 0.2])
    assert [call.protection.attempt for call in link.frames] == list(range(MAX_TRIES))


async def test_what_the_channel_counts_stands_for_the_bits_of_the_frame(device, reports):
    link = AskingLink({1: VOTE})
    link.air_bits = 512
    async with serving(link) as address:
        await device(address).run()
    assert reports()[0]["bits_on_air"]["uplink"] == 512


async def test_tags_cover_layer_and_what_may_follow(device):
    key, link = bytes(range(32)), AskingLink({1: SMALL, 2: VOTE})
    async with serving(link) as address:
        await device(address, key=SecretBytes(key)).run()
    for call in link.frames:
        header = call.frame[: read_frame(call.frame).header_bits // 8]
        ids = {"object_id": "cup", "device_id": "device-1", "frame_id": 0, "expected_views": 1}
        assert call.header_tag == header_tag(key, header, layer=call.layer, more=call.more, **ids)


async def test_a_view_in_dialogue_stays_in_the_spool_while_others_are_sent_and_the_next_process_goes_on(
    device, reports, tmp_path
):
    path, stop, link = tmp_path / "views.spool", asyncio.Event(), AskingLink({1: None, 2: VOTE})
    async with serving(link) as address:
        running = asyncio.ensure_future(device(address, spool=path, count=2, stop=stop).run())
        await until(lambda: len(link.waits) == 2)  # both opinions were answered, and are waited for
        assert held(path) == [0, 1]
        stop.set()
        await running
        assert (held(path), reports()) == ([0, 1], [])
        before = list(link.frames)
        link.on_layers = {1: SMALL, 2: VOTE}
        rounds = device(address, spool=path, count=1)
        await rounds.run()
    assert (rounds.device.failures, held(path)) == (0, [])
    sent = link.frames[2:]
    assert [(call.frame_id, call.layer) for call in sent] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert [call.frame for call in before] == [call.frame for call in sent if call.layer == 0][:2]
    assert [report["frame_id"] for report in reports()] == [0, 1, 2]


async def test_a_dialogue_that_nobody_answers_leaves_its_view_in_the_spool(device, reports, tmp_path):
    path, link = tmp_path / "views.spool", AskingLink({1: SMALL})
    link.refusals = [None] + 100 * [(grpc.StatusCode.UNAVAILABLE,)]
    async with serving(link) as address:
        rounds = device(address, spool=path, retry_seconds=0.5)
        await rounds.run()
    assert (held(path), rounds.device.failures, reports()) == ([0], 1, [])


async def test_a_dead_server_of_many_objects_fills_no_spool(device, reports, tmp_path):
    """Views beyond those that are waited for are reported as they are, and the others by and by."""
    path, link, stop = tmp_path / "views.spool", AskingLink(), asyncio.Event()
    async with serving(link) as address:
        running = asyncio.ensure_future(
            device(address, spool=path, count=MAX_VOTES_AWAITED + 3, stop=stop, vote_seconds=60).run()
        )
        await until(lambda: len(link.frames) == MAX_VOTES_AWAITED + 3 and len(held(path)) == MAX_VOTES_AWAITED)
        stop.set()
        await running
    assert [report["frame_id"] for report in reports()] == list(range(MAX_VOTES_AWAITED, MAX_VOTES_AWAITED + 3))
    assert held(path) == list(range(MAX_VOTES_AWAITED))


async def test_bits_that_found_no_connection_were_not_on_the_air(device, reports):
    address, link = unused_address(), AskingLink({1: VOTE})
    with capture_logs() as logs:
        running = asyncio.ensure_future(device(address, retry_seconds=60).run())
        await until(lambda: [log["event"] for log in logs].count("no answer, asking again") == 2)
        async with serving(link, int(address.rpartition(":")[2])):
            await running
    assert reports()[0]["bits_on_air"] == {"uplink": 128, "downlink": 8}


async def test_a_channel_whose_code_is_too_weak_gets_stronger_ones_until_the_frame_is_through(device, reports):
    link = AskingLink({1: SMALL, 2: VOTE})
    async with serving(link) as server:
        flags = ("--upstream", server, "--channel", "bsc", "--ber", 0.08, "--access", "ldpc", "--code-ber", 0.005)
        with processes.running("-m", "channel_emulator", *flags) as emulator:
            await asyncio.to_thread(processes.wait_until, lambda: emulator.is_ready)
            rounds = device(emulator.grpc_address)
            with capture_logs() as logs:
                await rounds.run()
            lost = [json.loads(line) for line in emulator.logs.splitlines() if '"frame lost"' in line]
    assert rounds.failures == 0
    designs = [log["design_ber"] for log in logs if "stronger code" in log["event"]]
    assert designs == pytest.approx([0.01 * 2**number for number in range(len(designs))])
    assert designs
    opinion, picture = link.frames  # what may be lost of a picture is its end
    assert read_frame(opinion.frame).belief(1000).label == 3
    assert CodecFrame.from_bytes(picture.frame).codec == "avif"
    (report,) = reports()
    assert report["vote"]["label"] == 7
    assert len(lost) == len(designs)
    coded = report["bits_on_air"]["uplink"] - sum(line["air_bits"] for line in lost)
    assert coded > sum(layer["bits"] for layer in report["layers"])


async def test_air_that_is_measured_to_be_worse_than_told_gets_a_stronger_code_for_the_picture(device):
    link = AskingLink({1: SMALL, 2: VOTE})
    async with serving(link) as server:
        flags = ("--upstream", server, "--channel", "bsc", "--ber", 0.1, "--access", "ldpc")
        with processes.running("-m", "channel_emulator", *flags) as emulator:
            await asyncio.to_thread(processes.wait_until, lambda: emulator.is_ready)
            await device(emulator.grpc_address, protect_for=0.05).run()
    _, picture = link.frames
    assert len(CodecFrame.from_bytes(picture.frame).payload) > 200, "all of it came through"
