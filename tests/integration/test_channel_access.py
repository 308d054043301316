"""Access schemes on the wire: an emulator as a process, without torch and OpenVINO; who knows what of whom."""

import asyncio
import json
import subprocess
import sys

import grpc
import numpy as np
import processes
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from processes import wait_until

from channel_emulator.randomness import FrameRandomness
from channel_emulator.transmission import transmit
from device.device import Device
from device.encoder import Encoder
from device.settings import DeviceSettings
from device.sources.photos import Photos
from device.uplink import Credentials
from semlink.access.learned.engine import LearnedAccess
from semlink.channel.awgn import Awgn
from semlink.channel.rayleigh import Rayleigh
from semlink.decision.belief import Belief
from semlink.source.iaq.coder import encode
from semlink.source.iaq.frame import IaqFrame
from semlink.source.learned.frame import LearnedFrame
from semlink.source.learned.interface import Interface, known_interface, to_bytes
from semlink.source.opinion import opinion_frame
from semlink.v1 import link_pb2 as pb
from semlink.v1 import link_pb2_grpc
from semlink.vision.photos import find_photos

WITHOUT_TORCH = """
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "timm", "PIL", "skimage", "safetensors", "sionna"}:
            raise ImportError(f"{name} is absent from this test")

sys.meta_path.insert(0, Absent())
runpy.run_module("channel_emulator", run_name="__main__", alter_sys=True)
"""
WITHOUT_NETWORKS = WITHOUT_TORCH.replace("torch", 'openvino", "torch')

PIXELS = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
SCORES = np.random.default_rng(1).dirichlet(np.full(196, 0.5))


class Server(link_pb2_grpc.LinkServiceServicer):
    """Keeps what arrives; passes it on where it has somebody to."""

    def __init__(self):
        self.requests, self.upstream = [], None

    async def Classify(self, request, context):
        kept = pb.ClassifyRequest()
        kept.CopyFrom(request)
        self.requests.append(kept)
        if self.upstream is not None:
            return await self.upstream.Classify(request)
        response = pb.ClassifyResponse(predictions=[pb.Prediction(label=7, name="cock")], model="a script")
        response.vote.CopyFrom(pb.Vote(label=7, name="cock", votes=1, views=1))
        return response


async def serving(server: Server) -> tuple[grpc.aio.Server, str]:
    listening = grpc.aio.server()
    link_pb2_grpc.add_LinkServiceServicer_to_server(server, listening)
    port = listening.add_insecure_port("127.0.0.1:0")
    await listening.start()
    return listening, f"127.0.0.1:{port}"


@pytest.fixture
async def server():
    server = Server()
    listening, server.address = await serving(server)
    yield server
    await listening.stop(0)


def emulator(upstream: str, *flags: str, start: str = WITHOUT_NETWORKS):
    return processes.running("-c", start, "--upstream", upstream, *flags)


def frame(rho: float = 1 / 8) -> IaqFrame:
    return encode(PIXELS, SCORES, rho=rho).frame


async def test_unequal_protection_needs_neither_torch_nor_openvino(server):
    sent = frame()
    flags = ("--channel", "awgn", "--snr", "10", "--order", "16", "--access", "ldpc-qam", "--cbr", "1/16")
    with emulator(server.address, *flags, "--seed", "5") as running:
        await asyncio.to_thread(wait_until, lambda: running.is_ready)

        def classify(number: int) -> pb.ChannelReport:
            request = pb.ClassifyRequest(frame=sent.to_bytes(), device_id="camera", frame_id=number)
            return running.link.Classify(request, timeout=30).channel

        report = await asyncio.to_thread(classify, 3)
        assert 0 < report.channel_uses <= PIXELS.size // 16
        assert (report.bits_flipped, report.bits_exposed) == (0, sent.payload_bits)
        # The important patches arrive as they were, the others are lost, and it is known which.
        lost = list(report.lost_blocks)
        (request,) = server.requests
        assert sorted(request.lost_patches) == lost
        assert 0 < len(lost) < 196
        kept = np.setdiff1d(np.flatnonzero(sent.bits), lost)
        assert sent.bits[kept].min() >= sent.bits[lost].max()
        arrived = IaqFrame.from_bytes(request.frame)
        np.testing.assert_array_equal(arrived.codes[kept], sent.codes[kept])
        # The emulator's physics are the library's.
        same = Awgn(snr_db=10.0, order=16, access="ldpc-qam", cbr="1/16")
        assert transmit(sent.to_bytes(), None, same, FrameRandomness(5, "camera", 3))[0] == request.frame

        # Changed while frames pass.
        changed = running.http.patch("/v1/impairments", json={"default": {"type": "rayleigh", "cbr": "1/4"}})
        assert changed.json()["default"] == {
            "type": "rayleigh", "snr_db": 10.0, "order": 16, "access": "ldpc-qam", "design_ber": None, "cbr": "1/4"
        }  # fmt: skip
        assert len((await asyncio.to_thread(classify, 4)).lost_blocks) < len(lost)
        running.http.patch("/v1/impairments", json={"default": {"access": "qam"}}).raise_for_status()
        uncoded = await asyncio.to_thread(classify, 5)
        assert (len(uncoded.lost_blocks), uncoded.channel_uses) == (0, sent.payload_bits // 4)
        assert uncoded.bits_flipped > 1000
        # What it cannot do it says at once, and goes on as before.
        for wrong, says in (
            ({"access": "learned"}, "access learned: "),
            ({"cbr": "1/5"}, "1/4"),
            ({"access": "x"}, "qam"),
        ):
            refused = running.http.patch("/v1/impairments", json={"default": wrong})
            assert refused.status_code == 422
            assert says in refused.text
        assert running.http.get("/v1/impairments").json()["default"]["access"] == "qam"


async def test_symbols_show_as_they_arrived_where_they_are_asked_for(server):
    sent = frame()

    async def classify(running, number: int) -> pb.ChannelReport:
        request = pb.ClassifyRequest(frame=sent.to_bytes(), device_id="camera", report_symbols=number)
        return (await asyncio.to_thread(running.link.Classify, request, timeout=30)).channel

    def put(running, channel: dict[str, object]) -> None:
        running.http.put("/v1/impairments", json={"default": channel}).raise_for_status()

    with emulator(server.address, "--channel", "rayleigh", "--snr", "10", "--order", "16") as running:
        await asyncio.to_thread(wait_until, lambda: running.is_ready)
        assert not (await classify(running, 0)).HasField("constellation")
        shown = (await classify(running, 100)).constellation
        unasked, asked = (each.frame for each in server.requests)
        assert unasked == asked != sent.to_bytes()
        assert (len(shown.symbols), shown.order, shown.total) == (8 * 100, 16, sent.payload_bits // 4)
        assert 0 < len(shown.wrong) < 100
        for number in (4097, 2**32 - 1):
            with pytest.raises(grpc.RpcError) as refused:
                await classify(running, number)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert refused.value.details() == f"report_symbols must be at most 4096, not {number}"

        # Of two emulators in a row, the one shows symbols that has some; of two, the second.
        with emulator(running.grpc_address, "--channel", "bsc", "--ber", "0") as first:
            await asyncio.to_thread(wait_until, lambda: first.is_ready)
            both = await classify(first, 100)
            assert (both.impairment, both.constellation) == ("bsc+rayleigh", shown)
            put(first, {"type": "awgn", "snr_db": 20, "order": 4})
            both = await classify(first, 100)
            assert (both.impairment, both.constellation.order) == ("awgn+rayleigh", 16)
            put(running, {"type": "none"})
            both = await classify(first, 100)
            assert (both.impairment, both.constellation.order) == ("awgn+none", 4)


async def test_a_lost_header_is_told_with_what_it_cost_and_a_stronger_try_gets_through(server):
    opinion = opinion_frame(Belief.of([0.1, 0.6, 0.3])).to_bytes()
    flags = ("--channel", "bsc", "--ber", "0.2", "--access", "ldpc", "--code-ber", "0.01")
    with emulator(server.address, *flags, start=WITHOUT_TORCH) as running:
        await asyncio.to_thread(wait_until, lambda: running.is_ready)

        async def classify(layer: int = 0, **protection: float) -> pb.ChannelReport:
            asked = {"protection": pb.Protection(**protection)} if protection else {}
            request = pb.ClassifyRequest(frame=opinion, device_id="camera", layer=layer, **asked)
            return (await asyncio.to_thread(running.link.Classify, request, timeout=60)).channel

        async def refusal(**protection: float) -> tuple[grpc.StatusCode, ErrorInfo]:
            with pytest.raises(grpc.RpcError) as error:
                await classify(**protection)
            info = ErrorInfo()
            rpc_status.from_call(error.value).details[0].Unpack(info)
            return error.value.code(), info

        code, lost = await refusal()
        assert (code, lost.reason, lost.metadata["design_ber"]) == (
            grpc.StatusCode.ABORTED, "frame_lost", "0.01"
        )  # fmt: skip
        assert int(lost.metadata["air_bits"]) > 8 * len(opinion)
        assert (await refusal())[1] == lost, "a retry meets the same errors"
        for design_ber in (float("nan"), 0.3, -1.0):
            code, wrong = await refusal(design_ber=design_ber, attempt=1)
            assert (code, wrong.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "access_design_ber")
        assert server.requests == []

        report = await classify(layer=3, design_ber=0.2, attempt=2)
        assert report.air_bits > 4 * int(lost.metadata["air_bits"])
        assert 0.1 < report.measured_ber < 0.3
        (request,) = server.requests
        assert (request.frame, request.layer) == (opinion, 3)
        assert not request.HasField("protection"), "it was for this channel"

        # Where nothing is coded, protection is refused rather than ignored.
        running.http.patch("/v1/impairments", json={"default": {"access": "none"}}).raise_for_status()
        code, uncoded = await refusal(design_ber=0.1)
        assert (code, uncoded.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "access_uncoded")
        changed = running.http.patch("/v1/impairments", json={"default": {"type": "awgn"}}).json()
        assert changed["default"]["access"] == "qam", "awgn has no such access as none"


async def test_learned_access_runs_without_torch_and_takes_frames_of_its_training(server):
    interface = known_interface(LearnedAccess("awgn", "1/24").interface)
    bits = np.random.default_rng(0).integers(0, 2, (2, 64, 96))
    learned = LearnedFrame.from_bits(bits, (1, 2), interface).to_bytes()
    other = Interface.from_bytes(to_bytes(np.full((64, 96), 0.1, np.float32)))
    stranger = LearnedFrame.from_bits(bits, (1, 2), other).to_bytes()
    flags = ("--channel", "awgn", "--snr", "10", "--access", "learned", "--cbr", "1/24")
    with emulator(server.address, *flags, start=WITHOUT_TORCH) as running:
        await asyncio.to_thread(wait_until, lambda: running.is_ready)

        async def classify(data: bytes, number: int) -> pb.ChannelReport:
            request = pb.ClassifyRequest(frame=data, device_id="camera", frame_id=number)
            return (await asyncio.to_thread(running.link.Classify, request, timeout=60)).channel

        report = await classify(learned, 0)
        assert report.channel_uses == 2 * 128
        assert 0 < report.bits_flipped < report.bits_exposed == 2 * 6144
        same = transmit(
            learned, None, Awgn(snr_db=10.0, access="learned", cbr="1/24"), FrameRandomness(0, "camera", 0)
        )
        # Another process may use other instructions, and a bit that stands on the edge falls to the other side.
        here, there = (np.frombuffer(data, np.uint8) for data in (same[0], server.requests[0].frame))
        assert np.unpackbits(here ^ there).sum() <= 0.01 * report.bits_exposed
        running.http.patch("/v1/impairments", json={"default": {"cbr": "1/4"}}).raise_for_status()
        assert (await classify(learned, 1)).channel_uses == 2 * 768
        for data, reason in ((frame().to_bytes(), "coder"), (stranger, "interface")):
            with pytest.raises(grpc.RpcError) as refused:
                await classify(data, 2)
            assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert refused.value.details().startswith("access: ")
            assert running.metric(f'semlink_channel_access_refused_total{{reason="{reason}"}}') == 1
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--access", "learned"], "access learned: "),
        (["--cbr", "1/4"], "--cbr has no effect with --access qam"),
        (["--access", "ldpc-qam", "--cbr", "1/3"], "--cbr"),
    ],
)
def test_what_cannot_start_says_why(flags, says):
    command = [sys.executable, "-c", WITHOUT_NETWORKS, "--upstream", "127.0.0.1:1", "--channel", "awgn", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2
    assert says in done.stderr


async def test_the_device_sends_the_same_bytes_whatever_the_channel_does(server, capsys):
    """The device knows nothing of the channel: a recorder between it and the emulator sees the same requests."""
    recorder = Server()
    listening, recorder.address = await serving(recorder)
    given = {"images": ["chelsea"], "object_id": "cup", "rho": 0.125, "threads": 1}
    encoder = Encoder.of(DeviceSettings(to="nowhere:1", **given))
    channels = (
        {"type": "none"},
        {"type": "awgn", "snr_db": 10.0, "access": "ldpc-qam", "cbr": "1/24"},
        {"type": "rayleigh", "snr_db": 5.0, "access": "qam"},
    )
    with emulator(server.address, "--channel", "none") as running:
        await asyncio.to_thread(wait_until, lambda: running.is_ready)
        async with grpc.aio.insecure_channel(running.grpc_address) as channel:
            recorder.upstream = link_pb2_grpc.LinkServiceStub(channel)
            for number, impairment in enumerate(channels):
                running.http.put("/v1/impairments", json={"default": impairment}).raise_for_status()
                settings = DeviceSettings(to=recorder.address, **(given | {"object_id": f"cup-{number}"}))
                photos = Photos(find_photos(["chelsea"]))
                await Device(settings, Credentials(), encoder, photos, asyncio.Event()).run()
    await listening.stop(0)
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [report["channel_uses"] is not None for report in reports] == [False, True, True]
    assert [report["segments_lost"] > 0 for report in reports] == [False, True, False]
    assert len(recorder.requests) == len(server.requests) == len(channels)
    assert len({request.frame for request in recorder.requests}) == 1
    assert len({request.frame for request in server.requests}) == len(channels)


@pytest.mark.parametrize("kind", [Awgn, Rayleigh])
@pytest.mark.parametrize("access", ["qam", "ldpc-qam"])
def test_the_access_node_does_the_same_to_equal_bits_of_another_picture(kind, access):
    """It knows nothing of the picture: with the same bits of another range of values, the same becomes of them."""
    first = frame()
    other = IaqFrame(first.geometry, first.max_bits, first.low // 2 + 40, 200, first.bits, first.payload)
    assert first.to_bytes() != other.to_bytes()
    channel = kind(snr_db=11.0, order=16, access=access, **({} if access == "qam" else {"cbr": "1/8"}))
    met = FrameRandomness(0, "camera", 1)
    one, two = (transmit(each.to_bytes(), None, channel, met) for each in (first, other))
    assert one[0][-len(first.payload) :] == two[0][-len(first.payload) :] != first.payload
    one[1].channel_ms = two[1].channel_ms = 0
    assert one[1] == two[1]
