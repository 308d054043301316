"""Frames of today's codecs at a server: decoded in processes apart, whatever their payload does to the decoder."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from PIL import Image
from processes import Running, running, wait_until
from stub_server import FRAME_TYPE, STUB, Server

from semlink.source.codec import encode
from semlink.source.codec.stills import CODECS
from semlink.v1.link_pb2 import ClassifyRequest
from server.pictures import FRAMES, PICTURES


def grey(label: int, codec: str = "avif") -> bytes:
    return encode(np.full((224, 224, 3), label, np.uint8), codec=codec).frame.to_bytes()


def damaged(codec: str) -> bytes:
    """With a payload that no decoder makes anything of."""
    frame = encode(np.zeros((224, 224, 3), np.uint8), codec=codec).frame
    return frame.with_payload(b"\xff" * len(frame.payload)).to_bytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "loaded").touch()
    (folder / "gate").touch()
    with running("-c", STUB, folder) as process:
        wait_until(lambda: process.is_ready)
        yield Server(process, folder)


def decoders(process: Running, kinds: tuple[str, ...]) -> set[int]:
    """Processes that decode for a server, of PICTURES or FRAMES."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode().rstrip("\0").split("\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        if parent == process.process.pid and "semlink.vision.picture_worker" in command:
            found |= {int(folder.name)} if command[-len(kinds) :] == list(kinds) else set()
    return found


@pytest.mark.parametrize("codec", CODECS)
def test_stills_are_seen(server, codec):
    """The stub says how bright the first pixel is; codecs keep greys to a level or two."""
    for label in (40, 180):
        answer = server.link.Classify(ClassifyRequest(frame=grey(label, codec)), timeout=60)
        assert abs(answer.predictions[0].label - label) <= 2
        assert answer.timings.decode_ms > 0
    over_rest = server.http.post("/v1/classify", content=grey(90, codec), headers={"Content-Type": FRAME_TYPE})
    assert abs(over_rest.json()["predictions"][0]["label"] - 90) <= 2


def test_segments_that_were_lost_end_the_still(server):
    noise = np.random.default_rng(0).integers(0, 256, (14, 14, 3), np.uint8)
    frame = encode(np.asarray(Image.fromarray(noise).resize((224, 224))), codec="jpeg").frame
    whole = server.link.Classify(ClassifyRequest(frame=frame.to_bytes()), timeout=60)
    last = frame.segment_bits.size - 1
    request = ClassifyRequest(frame=frame.to_bytes(), lost_patches=[last], echo_frame=True)
    answer = server.link.Classify(request, timeout=60)
    assert answer.predictions[0].label == whole.predictions[0].label
    assert answer.received_frame == frame.without([last]).to_bytes()
    with pytest.raises(grpc.RpcError, match="lost_patches"):
        server.link.Classify(ClassifyRequest(frame=frame.to_bytes(), lost_patches=[last + 1]), timeout=60)


@pytest.mark.parametrize("codec", ["avif", "webp"])
def test_damage_beyond_decoding_is_refused(server, codec):
    rejected = 'semlink_server_frames_rejected_total{reason="undecodable"}'
    before = server.process.metric(rejected)
    ids = {"object_id": f"broken {codec}", "device_id": "a"}
    with pytest.raises(grpc.RpcError) as caught:
        server.link.Classify(ClassifyRequest(frame=damaged(codec), **ids), timeout=60)
    info = ErrorInfo()
    assert rpc_status.from_call(caught.value).details[0].Unpack(info)
    assert (caught.value.code(), info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "undecodable")
    answer = server.http.post("/v1/classify", content=damaged(codec), headers={"Content-Type": FRAME_TYPE})
    assert (answer.status_code, answer.json()["reason"]) == (400, "undecodable")
    assert server.process.metric(rejected) == before + 2
    seen = server.link.Classify(ClassifyRequest(frame=grey(9), **ids), timeout=60)
    assert seen.vote.views == 1, "what could not be decoded was no view"


def test_another_shape_than_the_models_is_refused_undecoded(server):
    small = encode(np.zeros((32, 32, 3), np.uint8)).frame.to_bytes()
    with pytest.raises(grpc.RpcError, match="geometry"):
        server.link.Classify(ClassifyRequest(frame=small), timeout=60)


def test_a_decoder_that_is_killed_costs_at_most_its_frame(server):
    if not Path("/proc/self/stat").exists():
        pytest.skip("processes are found in /proc")
    server.link.Classify(ClassifyRequest(frame=grey(1)), timeout=60)
    before = decoders(server.process, FRAMES)
    pictures = decoders(server.process, PICTURES)
    assert before
    for process in before:
        os.kill(process, signal.SIGKILL)
    for _ in range(3):
        server.link.Classify(ClassifyRequest(frame=grey(1)), timeout=60)
    assert decoders(server.process, FRAMES)
    assert not decoders(server.process, FRAMES) & before
    assert decoders(server.process, PICTURES) == pictures
    assert server.process.is_ready


def test_stopped_decoders_of_pictures_delay_no_frame(server):
    if not Path("/proc/self/stat").exists():
        pytest.skip("processes are found in /proc")
    stopped = decoders(server.process, PICTURES)
    for process in stopped:
        os.kill(process, signal.SIGSTOP)
    try:
        answer = server.link.Classify(ClassifyRequest(frame=grey(200)), timeout=60)
        assert abs(answer.predictions[0].label - 200) <= 2
        assert decoders(server.process, PICTURES) == stopped
    finally:
        for process in stopped:
            os.kill(process, signal.SIGCONT)


def test_many_at_once(server):
    with ThreadPoolExecutor(8) as callers:
        labels = list(range(30, 230, 5))
        frames = [ClassifyRequest(frame=grey(label, "jpeg")) for label in labels]
        seen = list(callers.map(lambda each: server.link.Classify(each, timeout=60).predictions[0].label, frames))
    assert max(abs(np.array(seen) - labels)) <= 2


def test_hostile_payloads_cost_no_process(server):
    """Bits flipped anywhere behind the header, and nonsense: a label, or a refusal for this one reason."""
    rng = np.random.default_rng(0)
    picture = np.asarray(Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize((224, 224)))
    for codec in CODECS:
        frame = encode(picture, codec=codec, budget_bytes=700).frame
        for _ in range(40):
            payload = bytearray(frame.payload)
            if rng.random() < 0.3:
                payload[:] = rng.bytes(len(payload))
            for position in rng.integers(len(payload), size=rng.integers(1, 30)):
                payload[position] ^= 1 << rng.integers(8)
            request = ClassifyRequest(frame=frame.with_payload(bytes(payload)).to_bytes())
            answer = server.link.Classify.future(request, timeout=60)
            error = answer.exception()
            assert answer.result().predictions if error is None else "(undecodable)" in error.details()
    assert server.process.is_ready
