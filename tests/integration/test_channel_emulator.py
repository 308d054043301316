"""The channel emulator as a process, between a real client and a real upstream, over real sockets.

All emulators but one run where torch and the other libraries that look at pictures cannot be imported.
"""

import itertools
import json
import math
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent import futures
from contextlib import contextmanager
from functools import partial
from urllib.parse import quote

import grpc
import numpy as np
import processes
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from processes import Running, wait_until

from semlink.frame import MAX_FRAME_BYTES
from semlink.source.iaq.coder import encode
from semlink.source.iaq.frame import IaqFrame
from semlink.v1 import link_pb2, link_pb2_grpc

WITHOUT_VISION = """
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "timm", "PIL", "skimage", "safetensors", "sionna"}:
            raise ImportError(f"{name} is absent from this test")

sys.meta_path.insert(0, Absent())
runpy.run_module("channel_emulator", run_name="__main__", alter_sys=True)
"""

UNCODED = {"access": "none", "design_ber": None}
UNKNOWN_FIELD = b"\xfa\x3e\x05later"  # field 1007, from a later version of the contract


def start(without_vision: bool) -> list[str]:
    return ["-c", WITHOUT_VISION] if without_vision else ["-m", "channel_emulator"]


def command(*flags: str) -> list[str]:
    return [sys.executable, *start(without_vision=True), *flags]


@contextmanager
def running(upstream: str, *flags: str, without_vision: bool = True, **environment: str):
    flags = ("--upstream", upstream, *flags)
    with processes.running(*start(without_vision), *flags, **environment) as emulator:
        wait_until(lambda: emulator.is_ready)
        yield emulator


class Upstream(link_pb2_grpc.LinkServiceServicer, link_pb2_grpc.ChannelServiceServicer):
    """Answers as a server would, or an emulator before one, and keeps what it was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.start()
        self.forget()

    def forget(self) -> None:
        self.received: list[link_pb2.ClassifyRequest] = []
        self.remaining: list[float | None] = []
        self.metadata: list[dict[str, str]] = []
        self.answer = link_pb2.ClassifyResponse()
        self.error: tuple[grpc.StatusCode, str] | None = None
        self.hint: tuple[tuple[str, str | bytes], ...] = ()
        self.hold = threading.Event()
        self.hold.set()
        self.vote = threading.Event()
        self.vote.set()
        self.entered = threading.Event()
        self.cancelled = threading.Event()

    def start(self) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        link_pb2_grpc.add_LinkServiceServicer_to_server(self, self._server)
        link_pb2_grpc.add_ChannelServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def Classify(self, request, context):
        self.received.append(request)
        self._meet(context)
        return self.answer

    def GetChannel(self, request, context):
        self._meet(context)
        return link_pb2.ChannelState(impairment="mimo_ofdm", streams=4)

    def WaitVote(self, request, context):
        self._meet(context)
        self.vote.wait(60)
        return link_pb2.WaitVoteResponse(vote=link_pb2.Vote(name=request.object_id, views=4))

    def _meet(self, context: grpc.ServicerContext) -> None:
        self.remaining.append(context.time_remaining())
        self.metadata.append(dict(context.invocation_metadata()))
        context.add_callback(lambda: None if context.is_active() else self.cancelled.set())
        self.entered.set()
        self.hold.wait(60)
        if self.error:
            context.set_trailing_metadata(self.hint)
            context.abort(*self.error)


@pytest.fixture(scope="module")
def one_upstream():
    upstream = Upstream()
    yield upstream
    upstream.stop()


@pytest.fixture
def upstream(one_upstream):
    one_upstream.forget()
    yield one_upstream
    one_upstream.hold.set()
    one_upstream.vote.set()


@pytest.fixture(scope="module")
def one_emulator(one_upstream):
    with running(one_upstream.address, "--ber", "0.02", "--seed", "5") as emulator:
        yield emulator


@pytest.fixture
def emulator(one_emulator, upstream):
    one_emulator.http.post("/v1/reset").raise_for_status()
    return one_emulator


@pytest.fixture(scope="module")
def frame() -> bytes:
    rng = np.random.default_rng(0)
    return encode(rng.integers(0, 256, (224, 224, 3), np.uint8), rng.random(196), rho=0.25).frame.to_bytes()


def request(frame: bytes, device_id: str = "camera-1", frame_id: int = 0, **fields) -> link_pb2.ClassifyRequest:
    return link_pb2.ClassifyRequest(frame=frame, device_id=device_id, frame_id=frame_id, **fields)


def calls(emulator: Running, frame: bytes) -> list[Callable[..., object]]:
    """A call of each method, to be made with a deadline or without."""
    channels = link_pb2_grpc.ChannelServiceStub(emulator.channel)
    return [
        partial(emulator.link.Classify, request(frame)),
        partial(emulator.link.WaitVote, link_pb2.WaitVoteRequest(object_id="cup")),
        partial(channels.GetChannel, link_pb2.GetChannelRequest(device_id="camera-1")),
    ]


def flips(sent: bytes, received: bytes) -> np.ndarray:
    assert len(sent) == len(received)
    return np.flatnonzero(np.unpackbits(np.frombuffer(sent, np.uint8) ^ np.frombuffer(received, np.uint8)))


# What happens to a frame


def test_only_the_payload_is_damaged_and_every_flip_is_reported(emulator, upstream, frame):
    report = emulator.link.Classify(request(frame), timeout=60).channel
    flipped = flips(frame, upstream.received[0].frame)
    assert report.impairment == "bsc"
    assert report.bits_exposed == IaqFrame.from_bytes(frame).payload_bits == 301_056
    assert report.bits_flipped == flipped.size
    assert 0.015 < flipped.size / report.bits_exposed < 0.025
    assert flipped.min() >= IaqFrame.from_bytes(frame).header_bits
    assert report.channel_ms > 0


def test_a_retry_meets_the_same_flips_and_another_frame_or_device_does_not(emulator, upstream, frame):
    for device_id, frame_id in [("a", 0), ("a", 1), ("b", 0), ("a", 0)]:
        emulator.link.Classify(request(frame, device_id, frame_id), timeout=60)
    first, other_frame, other_device, retry = (received.frame for received in upstream.received)
    assert retry == first
    assert len({first, other_frame, other_device}) == 3


def test_everything_else_passes_unchanged_both_ways(emulator, upstream, frame):
    sent = request(frame, object_id="cup/1", expected_views=4, top_k=3, echo_frame=True)
    sent.MergeFromString(UNKNOWN_FIELD)
    upstream.answer.MergeFromString(UNKNOWN_FIELD)
    upstream.answer.MergeFrom(
        link_pb2.ClassifyResponse(
            predictions=[link_pb2.Prediction(label=281, name="tabby", confidence=0.5)],
            missing_views=3,
            model="deit",
            repeated=True,
            timings=link_pb2.ServerTimings(decode_ms=1),
            received_frame=b"x",
        )
    )
    answer = emulator.link.Classify(sent, timeout=60)
    received = upstream.received[0]
    received.frame = frame
    assert received.SerializeToString(deterministic=True) == sent.SerializeToString(deterministic=True)
    answer.ClearField("channel")
    assert answer.SerializeToString(deterministic=True) == upstream.answer.SerializeToString(deterministic=True)


def test_two_emulators_in_a_row_add_up(emulator, frame):
    with running(emulator.grpc_address, SEMLINK_IMPAIR_HEADER="true", SEMLINK_BER="0") as first:
        alone = emulator.link.Classify(request(frame), timeout=60).channel
        both = first.link.Classify(request(frame), timeout=60).channel
    assert both.impairment == "bsc+bsc"
    assert both.bits_flipped == alone.bits_flipped
    assert both.bits_exposed == 8 * len(frame) + alone.bits_exposed
    assert both.channel_ms > 0


# The control plane


def flipped_share(emulator: Running, frame: bytes, device_id: str) -> float:
    report = emulator.link.Classify(request(frame, device_id), timeout=60).channel
    return report.bits_flipped / report.bits_exposed


def test_a_change_for_all_holds_from_the_next_frame_until_reset(emulator, frame):
    at_start = emulator.http.get("/v1/impairments").json()
    assert at_start == {"default": {"type": "bsc", "ber": 0.02, **UNCODED}, "devices": {}}
    changed = emulator.http.put("/v1/impairments", json={"default": {"type": "none"}})
    assert changed.json() == {"default": {"type": "none", **UNCODED}, "devices": {}}
    report = emulator.link.Classify(request(frame), timeout=60).channel
    assert (report.impairment, report.bits_flipped) == ("none", 0)
    assert emulator.http.post("/v1/reset").json() == at_start
    assert flipped_share(emulator, frame, "camera-1") > 0


@pytest.mark.parametrize("device_id", ["camera-2", "hall/camera 2", "Ü", "two\nlines\n"])
def test_one_device_can_meet_something_else(emulator, frame, device_id):
    path = "/v1/impairments/" + quote(device_id)
    assert emulator.http.get(path).status_code == 404
    everything = {"type": "bsc", "ber": 1, **UNCODED}
    assert emulator.http.put(path, json=everything).json() == everything
    assert emulator.http.get(path).json() == everything
    assert emulator.http.get("/v1/impairments").json()["devices"] == {device_id: everything}
    assert flipped_share(emulator, frame, device_id) == 1
    assert flipped_share(emulator, frame, "camera-1") < 0.1
    assert emulator.http.delete(path).status_code == 204
    assert flipped_share(emulator, frame, device_id) < 0.1
    assert emulator.http.delete(path).status_code == 404


def test_bursts_flip_as_many_bits_as_they_say(emulator, upstream, frame):
    emulator.http.put("/v1/impairments/left", json={"type": "burst", "ber": 0.05, "burst_length": 400})
    report = emulator.link.Classify(request(frame, "left"), timeout=60).channel
    assert report.impairment == "burst"
    assert 0.03 < report.bits_flipped / report.bits_exposed < 0.07
    assert flips(frame, upstream.received[0].frame).size == report.bits_flipped


def test_patches_in_lost_packets_are_lost_and_said_to_be(emulator, upstream, frame):
    emulator.http.put("/v1/impairments/left", json={"type": "packet_loss", "loss": 0.2, "packet_bytes": 1400})
    report = emulator.link.Classify(request(frame, "left"), timeout=60).channel
    (received,) = upstream.received
    assert 0 < len(report.lost_blocks) < 196
    assert sorted(received.lost_patches) == list(report.lost_blocks)
    sent = IaqFrame.from_bytes(frame).without(report.lost_blocks)
    assert IaqFrame.from_bytes(received.frame).without(report.lost_blocks).to_bytes() == sent.to_bytes()


def test_a_scenario_from_a_file_plays_and_is_sought(upstream, frame, tmp_path):
    file = tmp_path / "drive.csv"
    file.write_text("at,device,preset,ber\n0,,clear,\n3600,,paper,\n3600,left,burst,0.2\n7200,,,0.2\n")
    with running(upstream.address, "--preset", "lossy", "--scenario", str(file)) as emulator:
        for position, impairment, least, most in (
            (0, "none", 0, 0), (3600, "bsc", 0.04, 0.06), (7200, "bsc", 0.18, 0.22), (10, "none", 0, 0)
        ):  # fmt: skip
            emulator.http.patch("/v1/scenario", json={"position": position}).raise_for_status()
            report = emulator.link.Classify(request(frame, "right"), timeout=60).channel
            assert report.impairment == impairment
            assert least <= report.bits_flipped / report.bits_exposed <= most
        emulator.http.patch("/v1/scenario", json={"position": 3600}).raise_for_status()
        assert emulator.link.Classify(request(frame, "left"), timeout=60).channel.impairment == "burst"


def test_a_scenario_that_leads_to_no_settings_is_explained_at_the_start(tmp_path):
    file = tmp_path / "drive.csv"
    file.write_text("at,ber,snr_db\n0,0.1,\n5,,20\n")
    arguments = command("--upstream", "127.0.0.1:9", "--scenario", str(file))
    started = subprocess.run(arguments, capture_output=True, text=True, timeout=240)
    assert started.returncode == 1
    assert "(--scenario): step 2 at 5 s: default.bsc.snr_db" in started.stderr


def test_what_is_read_can_be_put_back(emulator):
    emulator.http.put("/v1/impairments/camera-3", json={"type": "none"})
    state = emulator.http.get("/v1/impairments").json()
    emulator.http.post("/v1/reset")
    assert emulator.http.put("/v1/impairments", json=state).json() == state
    emulator.http.put("/v1/impairments", json={"default": state["default"]})
    assert emulator.http.get("/v1/impairments").json()["devices"] == {}


def test_devices_with_an_impairment_of_their_own_are_bounded(emulator):
    none = {"type": "none"}
    devices = {f"camera-{number}": none for number in range(1024)}
    state = {"default": none, "devices": devices}
    assert emulator.http.put("/v1/impairments", json=state).status_code == 200
    assert emulator.http.put("/v1/impairments/camera-0", json=none).status_code == 200
    one_more = emulator.http.put("/v1/impairments/one-more", json=none)
    assert one_more.status_code == 409
    assert "1024" in one_more.json()["detail"]
    devices["one-more"] = none
    assert emulator.http.put("/v1/impairments", json=state).status_code == 422


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"type": "bsc", "ber": 1.5}, "must be at most 1"),
        ({"type": "bsc", "ber": -0.1}, "must be at least 0"),
        ({"type": "bsc"}, "ber"),
        ({"type": "bsc", "ber": 0.1, "bre": 0.2}, "bre"),
        ({"type": "fog"}, "'none', 'packet_loss', 'rayleigh'"),
        ({"type": "burst", "ber": 0.6}, "ber must be within gap_ber and burst_ber"),
        ({"type": "burst", "ber": 0.5}, "less than a bit between two bursts"),
        ({"type": "packet_loss", "packet_bytes": 0}, "must be at least 1"),
        ({"type": "awgn", "order": 32}, "4, 16, 64 or 256"),
        ({"type": "mimo_ofdm", "streams": 17}, "must be at most 16"),
        ({"type": "finite_blocklength", "target_bler": 0}, "greater than 0"),
        ({}, "type"),
    ],
)
def test_a_wrong_impairment_is_a_problem_and_changes_nothing(emulator, body, complaint):
    before = emulator.http.get("/v1/impairments").json()
    for answer in (
        emulator.http.put("/v1/impairments/camera-1", json=body),
        emulator.http.put("/v1/impairments", json={"default": body}),
        emulator.http.put("/v1/impairments", json={"default": {"type": "none"}, "devices": {"camera-1": body}}),
    ):
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert complaint in answer.json()["detail"]
    assert emulator.http.get("/v1/impairments").json() == before


def test_device_ids_have_a_length(emulator):
    for device_id in ("", "x" * 129):
        assert emulator.http.put(f"/v1/impairments/{device_id}", json={"type": "none"}).status_code == 422


def test_metrics_count_frames_and_bits(emulator, upstream, frame):
    names = [f"semlink_channel_bits_{what}_total" for what in ("exposed", "flipped")]
    names += [
        f'semlink_channel_frames_total{{outcome="{outcome}"}}' for outcome in ("answered", "refused", "failed")
    ]
    names += ["semlink_channel_impair_seconds_count"]
    before = np.array([emulator.metric(name) for name in names])
    report = emulator.link.Classify(request(frame), timeout=60).channel
    with pytest.raises(grpc.RpcError):
        emulator.link.Classify(request(b""), timeout=60)
    upstream.error = (grpc.StatusCode.ALREADY_EXISTS, "again")
    with pytest.raises(grpc.RpcError):
        emulator.link.Classify(request(frame), timeout=60)
    after = np.array([emulator.metric(name) for name in names])
    assert (after - before).tolist() == [2 * report.bits_exposed, 2 * report.bits_flipped, 1, 1, 1, 2]
    assert "camera-1" not in emulator.http.get("/metrics").text


def test_openapi_describes_every_operation(emulator):
    paths = emulator.http.get("/openapi.json").json()["paths"]
    assert {"/v1/impairments", "/v1/impairments/{device_id}", "/v1/reset", "/metrics"} < paths.keys()
    operations = itertools.chain.from_iterable(path.values() for path in paths.values())
    assert all(operation.get("summary") for operation in operations)


# What goes wrong


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda f: b"", "truncated"),
        (lambda f: f[:20], "truncated"),
        (lambda f: b"XX" + f[2:], "magic"),
        (lambda f: f[:2] + b"\x09" + f[3:], "version"),
        (lambda f: f[:12] + bytes([f[12] ^ 1]) + f[13:], "crc"),
        (lambda f: f[:-1], "payload_length"),
        (lambda f: f + b"\0", "payload_length"),
        (lambda f: f.ljust(MAX_FRAME_BYTES + 1, b"\0"), "oversized"),
    ],
)
def test_a_malformed_frame_is_refused_here_with_the_reason(emulator, upstream, frame, break_it, reason):
    with pytest.raises(grpc.RpcError) as error:
        emulator.link.Classify(request(break_it(frame)), timeout=60)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details().startswith("frame: ")
    assert error.value.details().endswith(f"({reason})")
    assert not upstream.received


@pytest.mark.parametrize("code", ["ALREADY_EXISTS", "FAILED_PRECONDITION", "NOT_FOUND", "INTERNAL"])
def test_errors_of_the_upstream_pass_unchanged(emulator, upstream, frame, code):
    upstream.error = (grpc.StatusCode[code], "as the upstream says")
    for call in calls(emulator, frame):
        with pytest.raises(grpc.RpcError) as error:
            call(timeout=60)
        assert error.value.code().name == code
        assert error.value.details() == "as the upstream says"


def test_what_the_upstream_says_beside_its_error_passes_too(emulator, upstream, frame):
    """When to try again, for one, is said there."""
    upstream.error = (grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full")
    upstream.hint = (("grpc-status-details-bin", b"retry info"), ("x-request-id", "7"))
    for call in calls(emulator, frame):
        with pytest.raises(grpc.RpcError) as error:
            call(timeout=60)
        assert set(upstream.hint) <= set(error.value.trailing_metadata())


def test_an_upstream_without_a_method_is_named(emulator, upstream, frame):
    upstream.error = (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
    for call, method in zip(calls(emulator, frame), ("Classify", "WaitVote", "GetChannel"), strict=True):
        with pytest.raises(grpc.RpcError) as error:
            call(timeout=60)
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert f"upstream {upstream.address} does not serve {method}" in error.value.details()


def test_who_asks_and_for_which_request_passes_on_and_nothing_else(upstream, frame):
    forwarded = {
        "x-request-id": "of-the-device",
        "authorization": "Bearer one",
        "traceparent": f"00-{7:032x}-{8:016x}-01",
        "tracestate": "vendor=1",
    }
    sent = (*forwarded.items(), ("x-other", "stays here"))
    with running(upstream.address, "--log-level", "debug") as emulator:
        call = emulator.link.Classify.future(request(frame, device_id="left"), timeout=60, metadata=sent)
        call.result()
        emulator.link.WaitVote(link_pb2.WaitVoteRequest(object_id="cup"), timeout=60, metadata=sent)
        emulator.link.Classify(request(frame), timeout=60)
        for metadata in upstream.metadata[:2]:
            assert metadata.items() >= forwarded.items()
            assert "x-other" not in metadata
        assert ("x-request-id", "of-the-device") in call.trailing_metadata()
        made = upstream.metadata[2]["x-request-id"]
        answer = emulator.http.put("/v1/impairments/left", json={"type": "none"}, headers={"X-Request-Id": "mine"})
        assert answer.headers["x-request-id"] == "mine"
        lines = [json.loads(line) for line in emulator.logs.splitlines() if line.startswith("{")]
    passed = [line["request_id"] for line in lines if line["event"] == "frame passed on"]
    assert passed == ["of-the-device", made]
    assert len(made) == 32
    (changed,) = [line for line in lines if line["event"] == "settings changed"]
    assert changed["request_id"] == "mine"


def test_an_upstream_that_is_not_ready_is_named(emulator, upstream, frame):
    upstream.error = (grpc.StatusCode.UNAVAILABLE, "the model is still loading")
    with pytest.raises(grpc.RpcError) as error:
        emulator.link.Classify(request(frame), timeout=60)
    assert_unavailable(error.value, upstream.address)
    assert error.value.details().endswith("the model is still loading")


def assert_unavailable(error: grpc.RpcError, address: str) -> None:
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert f"upstream {address} is unavailable, try again" in error.details()
    info = ErrorInfo()
    assert rpc_status.from_call(error).details[0].Unpack(info)
    assert info.reason == "upstream"


def test_an_upstream_that_dies_under_a_call_is_told_and_found_again(emulator, upstream, frame):
    upstream.hold.clear()
    under_way = emulator.link.Classify.future(request(frame), timeout=60)
    assert upstream.entered.wait(60)
    upstream.stop()
    with pytest.raises(grpc.RpcError) as error:
        under_way.result()
    assert_unavailable(error.value, upstream.address)
    upstream.hold.set()

    with pytest.raises(grpc.RpcError) as error:
        emulator.link.Classify(request(frame), timeout=60)
    assert_unavailable(error.value, upstream.address)
    assert emulator.http.get("/v2/health/ready").is_success

    upstream.start()

    def answered() -> bool:
        try:
            return emulator.link.Classify(request(frame), timeout=60).HasField("channel")
        except grpc.RpcError as error:
            assert_unavailable(error, upstream.address)
            return False

    wait_until(answered)


def test_an_upstream_that_is_killed_under_a_call_is_told(upstream, frame):
    with running(upstream.address) as second, running(second.grpc_address) as first:
        upstream.hold.clear()
        under_way = first.link.Classify.future(request(frame), timeout=60)
        assert upstream.entered.wait(60)
        second.process.kill()
        with pytest.raises(grpc.RpcError) as error:
            under_way.result()
        assert_unavailable(error.value, second.grpc_address)


def test_a_call_that_the_device_gives_up_is_cancelled_upstream(emulator, upstream, frame):
    cancelled = emulator.metric('semlink_channel_frames_total{outcome="cancelled"}')
    upstream.hold.clear()
    under_way = emulator.link.Classify.future(request(frame), timeout=60)
    assert upstream.entered.wait(60)
    under_way.cancel()
    assert upstream.cancelled.wait(60)
    wait_until(lambda: emulator.metric('semlink_channel_frames_total{outcome="cancelled"}') == cancelled + 1)


def test_memory_does_not_grow(emulator, upstream, frame):
    """Not with frames, nor with devices: 1000 frames kept would be 38 MB."""
    numbers = itertools.count()

    def resident_after(frames: int) -> float:
        for _ in range(frames // 50):
            sent = [request(frame, f"camera-{next(numbers)}", next(numbers)) for _ in range(50)]
            answers = [emulator.link.Classify.future(each, timeout=60) for each in sent]
            assert all(answer.result().channel.bits_flipped for answer in answers)
            upstream.forget()
        return emulator.resident_mib

    warm = resident_after(300)
    assert resident_after(1000) < warm + 15


# Deadlines


@contextmanager
def passing_on(upstream, seconds):
    """A call whose upstream is left so long, without what it took to get there; gRPC rounds up a little."""
    begun = time.monotonic()
    yield
    assert seconds - (time.monotonic() - begun) - 0.5 < upstream.remaining[-1] < seconds + 0.5


def test_deadlines_are_passed_on(emulator, upstream, frame):
    with passing_on(upstream, 45):
        wait = link_pb2.WaitVoteRequest(object_id="cup", wait_seconds=40)
        assert emulator.link.WaitVote(wait, timeout=45).vote == link_pb2.Vote(name="cup", views=4)
    for call in calls(emulator, frame):
        with passing_on(upstream, 25):
            call(timeout=25)
        with passing_on(upstream, 30):
            call(timeout=60)


def test_what_comes_without_a_deadline_is_passed_on_with_one(emulator, upstream, frame):
    for call in calls(emulator, frame):
        with passing_on(upstream, 30):
            call()
    for waited, seconds in ((40, 70), (60, 90), (61, 30), (-1, 30), (1e300, 30), (math.nan, 30)):
        with passing_on(upstream, seconds):
            emulator.link.WaitVote(link_pb2.WaitVoteRequest(object_id="cup", wait_seconds=waited))


def test_those_that_wait_for_votes_leave_room_for_frames(upstream, frame):
    with running(upstream.address, "--max-concurrent-calls", "1", "--max-waiting-calls", "3") as emulator:
        upstream.vote.clear()
        waits = link_pb2.WaitVoteRequest(object_id="cup", wait_seconds=60)
        waiting = [emulator.link.WaitVote.future(waits, timeout=120) for _ in range(4)]
        wait_until(lambda: any(call.done() for call in waiting))
        one_too_many = next(call for call in waiting if call.done())
        waiting.remove(one_too_many)
        error = one_too_many.exception()
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.details() == "3 calls wait for votes at once, and no more may"
        _, detail = rpc_status.from_call(error).details
        assert detail.Is(RetryInfo.DESCRIPTOR)
        assert emulator.link.Classify(request(frame), timeout=60).channel.impairment == "bsc"
        upstream.vote.set()
        assert [call.result(60).vote.name for call in waiting] == ["cup"] * 3
        assert emulator.link.WaitVote(waits, timeout=60).vote.name == "cup"


# Starting and ending


def test_it_reflects_its_service_and_tells_its_health(emulator):
    reflection = ProtoReflectionDescriptorDatabase(emulator.channel)
    assert {"semlink.v1.LinkService", "semlink.v1.ChannelService"} <= set(reflection.get_services())
    assert reflection.FindFileContainingSymbol("semlink.v1.LinkService").name == "semlink/v1/link.proto"
    health = health_pb2_grpc.HealthStub(emulator.channel)
    for service in ("", "semlink.v1.LinkService", "semlink.v1.ChannelService"):
        status = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=60).status
        assert status == health_pb2.HealthCheckResponse.SERVING
    assert emulator.http.get("/v2/health/live").json() == {"live": True}
    assert emulator.http.get("/v2/health/ready").json() == {"ready": True}


def test_sigterm_lets_the_call_under_way_end(upstream, frame):
    # An upstream timeout that is no bound here shows that the flag is taken.
    flags = ("--upstream-timeout-seconds", "90", "--channel", "none", "--log-level", "debug")
    with running(upstream.address, *flags, without_vision=False) as emulator:
        upstream.hold.clear()
        under_way = emulator.link.Classify.future(request(frame), timeout=120)
        assert upstream.entered.wait(60)
        assert 30.5 < upstream.remaining[0] < 90.5
        emulator.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not accepts(emulator.grpc_address))
        upstream.hold.set()
        assert under_way.result().channel.impairment == "none"
        assert emulator.process.wait(60) == 0
        assert emulator.process.stdout.read() == ""
        logs = [json.loads(line) for line in emulator.logs.splitlines() if line.startswith("{")]
    assert [line["event"] for line in logs if line["level"] in ("warning", "error")] == []
    assert {"listening", "ready", "frame passed on", "stopped"} <= {line["event"] for line in logs}


def accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as sock:
        return sock.connect_ex((host, int(port))) == 0


def test_an_upstream_that_does_not_answer_in_time(upstream, frame):
    with running(upstream.address, "--upstream-timeout-seconds", "0.3") as emulator:
        upstream.hold.clear()
        for call in calls(emulator, frame):
            with pytest.raises(grpc.RpcError) as error:
                call(timeout=60)
            assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert f"upstream {upstream.address} did not answer in time" in error.value.details()


@pytest.mark.parametrize("flag", ["--grpc-port", "--http-port"])
def test_a_port_that_is_taken(flag):
    ports = {"--grpc-port": "0", "--http-port": "0"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports[flag] = str(taken.getsockname()[1])
        flags = itertools.chain.from_iterable(ports.items())
        ended = subprocess.run(
            command("--upstream", "127.0.0.1:1", *flags), capture_output=True, text=True, timeout=240, check=False
        )
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = [line for line in ended.stderr.splitlines() if "cannot start" in line]
    assert f"cannot listen on 127.0.0.1:{ports[flag]} ({flag})" in json.loads(line)["reason"]
    assert "Traceback" not in ended.stderr


def test_wrong_settings_end_it_at_once():
    ended = subprocess.run(command("--ber", "2"), capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "--upstream (or SEMLINK_UPSTREAM) is required" in ended.stderr
    assert "--ber (or SEMLINK_BER)" in ended.stderr
    assert "Traceback" not in ended.stderr
