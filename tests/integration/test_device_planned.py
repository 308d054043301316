"""A device that plans its frames, a real emulator that holds its channel, and a script for a server."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import numpy as np
import processes
import pytest
from processes import wait_until

from device import sender as device_sender
from device.device import Device
from device.encoder import Encoder
from device.planning import PlanningError, plan_view
from device.settings import DeviceSettings
from device.sources.photos import Photos
from device.uplink import Credentials
from semlink.access.planner import PlanMethod
from semlink.source.iaq.frame import IaqFrame
from semlink.source.registry import read_frame
from semlink.v1 import link_pb2 as pb
from semlink.v1 import link_pb2_grpc
from semlink.vision.photos import find_photos

(CAT,) = find_photos(["chelsea"])


class Server(link_pb2_grpc.LinkServiceServicer):
    """Answers every frame, after `before_answer(frame id)`."""

    def __init__(self):
        self.requests, self.before_answer = [], lambda number: None

    async def Classify(self, request, context):
        self.requests.append(request)
        await asyncio.to_thread(self.before_answer, request.frame_id)
        response = pb.ClassifyResponse(predictions=[pb.Prediction(label=7, name="cock")], model="a script")
        response.vote.CopyFrom(pb.Vote(label=7, name="cock", votes=1, views=1))
        return response


@pytest.fixture(scope="module")
def encoder():
    return Encoder.of(DeviceSettings(to="nowhere:1", images=["chelsea"], object_id="none", threads=1))


@asynccontextmanager
async def link(*flags):
    """A server and an emulator before it."""
    server, listening = Server(), grpc.aio.server()
    link_pb2_grpc.add_LinkServiceServicer_to_server(server, listening)
    port = listening.add_insecure_port("127.0.0.1:0")
    await listening.start()
    try:
        with processes.running("-m", "channel_emulator", "--upstream", f"127.0.0.1:{port}", *flags) as emulator:
            await asyncio.to_thread(wait_until, lambda: emulator.is_ready)
            yield emulator, server
    finally:
        await listening.stop(0)


def put(emulator, kind, **parameters):
    emulator.http.put("/v1/impairments", json={"default": {"type": kind, **parameters}}).raise_for_status()


def device(encoder, address, **settings):
    given = {"images": ["chelsea"], "object_id": "cup", "retry_seconds": 20, "plan": "ia-qsmpa"} | settings
    return Device(DeviceSettings(to=address, **given), Credentials(), encoder, Photos([CAT]), asyncio.Event())


async def test_a_planned_view_becomes_a_report_with_power_and_latency(encoder, reports):
    async with link("--channel", "mimo-ofdm", "--snr", "10") as (emulator, server):
        rounds = device(encoder, emulator.grpc_address)
        await rounds.run()
    assert rounds.failures == 0
    (request,) = server.requests
    frame = IaqFrame.from_bytes(request.frame)
    assert (frame.bits.min(), frame.payload_bits) == (1, 301_056)
    (report,) = reports()
    sent = report["transmission"]
    assert (sent["plan"], sent["snr_db"], sent["streams"], sent["target_bler"]) == ("ia-qsmpa", 10, 4, None)
    assert sent["power"] == pytest.approx(3136)
    assert 1 < sent["t_d_ms"] == sent["air_ms"] == pytest.approx(sent["planned_t_d_ms"], rel=1e-9)
    assert (sent["blocks_lost"], sent["bits_lost"], report["bits_flipped"]) == (0, 0, 0)
    assert sent["exceeds_coherence"] == (sent["t_d_ms"] > 50 / 15)
    assert (report["impairment"], report["payload_bits"]) == ("mimo_ofdm", 301_056)
    assert report["timings_ms"]["plan"] > 0


async def test_a_codecs_picture_is_planned_as_it_is_and_what_comes_first_arrives(reports):
    settings = DeviceSettings(to="nowhere:1", images=["chelsea"], object_id="none", source="codec", threads=1)
    flags = ("--channel", "finite-blocklength", "--snr", "10", "--target-bler", "0.5")
    async with link(*flags) as (emulator, server):
        rounds = device(Encoder.of(settings), emulator.grpc_address, source="codec", plan="exact", count=4)
        await rounds.run()
    assert rounds.failures == 0
    told = reports()
    for request, report in zip(server.requests, told, strict=True):
        frame = read_frame(request.frame)
        assert (frame.segment_bits.size, request.plan.method) == (24, "exact")
        assert request.plan.ByteSize() < 32
        assert report["transmission"]["blocks_lost"] == len(request.lost_patches)
        assert report["transmission"]["t_d_ms"] == pytest.approx(report["transmission"]["planned_t_d_ms"])
        assert frame.without(list(request.lost_patches)).payload
    assert sum(report["transmission"]["blocks_lost"] for report in told) > 0


async def test_it_adapts_while_the_control_plane_turns_the_channel(encoder, reports):
    changes = {
        0: lambda emulator: put(emulator, "mimo_ofdm", snr_db=30),
        1: lambda emulator: put(emulator, "mimo_ofdm", snr_db=30, streams=8),
        2: lambda emulator: put(emulator, "finite_blocklength", snr_db=20, target_bler=0.3),
        3: lambda emulator: put(emulator, "bsc", ber=0.01),
        4: lambda emulator: None,
    }
    async with link("--channel", "mimo-ofdm", "--snr", "10") as (emulator, server):
        server.before_answer = lambda number: changes[number](emulator)
        rounds = device(encoder, emulator.grpc_address, count=5)
        await rounds.run()
    assert rounds.failures == 0
    answers = reports()
    sent = [answer["transmission"] for answer in answers]
    assert sent[4] is None  # a channel without plans gets a frame without
    assert answers[4]["bits_flipped"] > 1000
    assert [each["streams"] for each in sent[:4]] == [4, 4, 8, 4]
    assert [each["snr_db"] for each in sent[:4]] == [10, 30, 30, 20]
    assert [each["target_bler"] for each in sent[:4]] == [None, None, None, 0.3]
    assert sent[0]["t_d_ms"] > sent[1]["t_d_ms"] > sent[2]["t_d_ms"]
    assert sent[3]["blocks_lost"] > 20
    assert [len(each.lost_patches) for each in server.requests][:4] == [each["blocks_lost"] for each in sent[:4]]


@pytest.mark.parametrize("turns", [1, 1000])
async def test_a_channel_that_changes_under_the_plan_is_planned_for_anew(encoder, reports, monkeypatch, turns):
    async with link("--channel", "mimo-ofdm", "--snr", "10") as (emulator, server):
        planned = []

        def turn_then_plan(view, state, *rest):
            planned.append(state.snr_db)
            if len(planned) <= turns:
                put(emulator, "mimo_ofdm", snr_db=10 + len(planned))
            return plan_view(view, state, *rest)

        monkeypatch.setattr(device_sender, "plan_view", turn_then_plan)
        rounds = device(encoder, emulator.grpc_address, retry_seconds=20 if turns == 1 else 5)
        await rounds.run()
        refused = emulator.metric('semlink_channel_plans_refused_total{rule="stale"}')
    assert planned == [10 + number for number in range(len(planned))]
    if turns == 1:
        assert (rounds.failures, len(planned), reports()[0]["transmission"]["snr_db"]) == (0, 2, 11)
        assert (len(server.requests), refused) == (1, 1)
    else:
        assert (rounds.failures, server.requests) == (1, [])
        assert refused == len(planned) > 1


async def test_a_view_that_no_plan_gets_through_now_goes_through_when_the_channel_is_better(encoder, reports):
    async with link("--channel", "finite-blocklength", "--snr", "-20") as (emulator, server):
        running = asyncio.ensure_future(device(encoder, emulator.grpc_address, retry_seconds=100).run())
        refused = 'semlink_channel_plans_refused_total{rule="latency"}'
        await asyncio.to_thread(wait_until, lambda: emulator.metric(refused) >= 2)
        await asyncio.to_thread(put, emulator, "finite_blocklength", snr_db=10)
        await running
    assert len(server.requests) == 1
    assert reports()[0]["transmission"]["snr_db"] == 10


async def test_without_a_plan_such_a_channel_refuses_the_frame_and_says_what_to_do(encoder, capsys):
    async with link("--channel", "mimo-ofdm") as (emulator, server):
        rounds = device(encoder, emulator.grpc_address, plan=None)
        await rounds.run()
    assert (rounds.failures, server.requests) == (1, [])
    assert "plan: missing" in (log := capsys.readouterr().out)
    assert "--plan" in log


async def test_a_method_that_starves_blocks_is_refused_for_its_latency(encoder, capsys):
    async with link("--channel", "mimo-ofdm", "--snr", "-10") as (emulator, server):
        rounds = device(encoder, emulator.grpc_address, plan="fixed-b-wf", retry_seconds=0)
        await rounds.run()
    assert (rounds.failures, server.requests) == (1, [])
    assert "plan: latency: " in capsys.readouterr().out


async def test_no_emulator_on_the_way_takes_plans_either(encoder, reports):
    server, listening = Server(), grpc.aio.server()
    link_pb2_grpc.add_LinkServiceServicer_to_server(server, listening)
    port = listening.add_insecure_port("127.0.0.1:0")
    await listening.start()
    rounds = device(encoder, f"127.0.0.1:{port}", rho=0.125)
    await rounds.run()
    await listening.stop(0)
    assert rounds.failures == 0
    assert not server.requests[0].HasField("plan")
    assert reports()[0]["transmission"] is None


def test_a_state_that_makes_no_sense_is_refused(encoder):
    view = encoder.encode(np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8), 0)
    good = {"subcarriers": 784, "streams": 1, "spacing_hz": 15e3, "total_power": 784, "coherence_symbols": 50}
    channel = np.ones(784, "<c8").tobytes()
    plan_view(view, pb.ChannelState(channel=channel, **good), PlanMethod.FIXED, 0.25)
    for wrong in (
        {"channel": channel[:-1]},
        {"channel": bytes(8 * 784)},
        {"channel": np.full(784, np.nan, "<c8").tobytes()},
        {"streams": 64, "channel": channel},
        {"streams": 0, "channel": b""},
        {"receive_antennas": 2},
        {"receive_antennas": 2**31, "transmit_antennas": 2**31},
        {"streams": 2, "receive_antennas": 1, "transmit_antennas": 1},
        {"total_power": -1.0, "channel": channel},
        {"snr_db": float("nan"), "channel": channel},
        {"target_bler": 0.7, "channel": channel},
    ):
        with pytest.raises(PlanningError, match="has no plan for the channel"):
            plan_view(view, pb.ChannelState(**(good | wrong)), PlanMethod.FIXED, 0.25)


@pytest.mark.parametrize("flags", [{"total_bits": 100_000}, {"rho": 0.1}])
def test_a_plan_keeps_to_a_ratio_that_pays_for_it(flags):
    with pytest.raises(ValueError, match="--plan"):
        DeviceSettings(to="a:1", images=["chelsea"], object_id="cup", plan="fixed", **flags)
