"""The server as a process, with the real model, over real sockets."""

import contextlib
import io
import itertools
import json
import math
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from processes import START_SECONDS, Running, running, wait_until
from tolerances import CONFIDENCE

import semlink.vision.weights
from semlink.decision.belief import Belief
from semlink.decision.calibration import read_calibration
from semlink.frame import MAX_FRAME_BYTES
from semlink.source.iaq.coder import decode, encode
from semlink.source.iaq.frame import IaqFrame
from semlink.v1.link_pb2 import ClassifyRequest, WaitVoteRequest
from semlink.vision.images import MAX_IMAGE_BYTES, model_pixels, open_image
from semlink.vision.photos import find_photos
from semlink.vision.vit import class_attention, class_names, load_vit, normalise
from semlink.vision.weights import DEVICE_MODEL, SERVER_MODEL
from server.model import ModelInput, load_model
from server.settings import ServerSettings

FRAME_TYPE = "application/vnd.semlink.frame"
CATS = range(281, 286)

# A server that loads its model once a file exists, and waits for a body but a second.
HELD = """
import pathlib, sys, time
import semlink.service.http_server, semlink.service.listener, semlink.vision.vit
load_vit, gate = semlink.vision.vit.load_vit, pathlib.Path(sys.argv.pop(1))

def held(*arguments, **named):
    while not gate.exists():
        time.sleep(0.01)
    return load_vit(*arguments, **named)

semlink.vision.vit.load_vit, semlink.service.http_server.BODY_SECONDS = held, 1.0
semlink.service.listener.GRACE_SECONDS = 60.0  # the calls of a busy machine end too
import server.__main__
server.__main__.main()
"""

numbers = itertools.count()


def new_object() -> str:
    return f"object {next(numbers)}"


@pytest.fixture(scope="session")
def server(offline):
    with running("-m", "server", **offline) as process:
        wait_until(lambda: process.is_ready)
        yield process


@pytest.fixture(scope="session")
def model(offline):
    """The server's model, here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semlink.vision.weights, "_from_hub", lambda model: "switched off")
        return load_vit(SERVER_MODEL, weights=Path(offline["SEMLINK_WEIGHTS"]))


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray]:
    """Four views of the cat."""
    cat = open_image(find_photos(["chelsea"])[0])
    return [
        model_pixels(view)
        for view in (cat, cat.crop((60, 20, 400, 290)), cat.rotate(5), cat.point(lambda value: int(0.8 * value)))
    ]


@pytest.fixture(scope="session")
def frames(pictures) -> list[bytes]:
    tiny = load_vit(DEVICE_MODEL)
    attention = class_attention(tiny, normalise(tiny, np.stack(pictures))).numpy()
    return [encode(picture, scores).frame.to_bytes() for picture, scores in zip(pictures, attention, strict=True)]


@pytest.fixture(scope="session")
def frame(frames) -> bytes:
    return frames[0]


def status_of(call, request, **named) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=60, **named)
    return caught.value.code(), caught.value.details()


def with_crc(data: bytes) -> bytes:
    """The frame with the checksum that its header ought to have; of 14 x 14 patches with 4-bit fields."""
    return data[:109] + struct.pack(">I", zlib.crc32(data[:109])) + data[113:]


class TestClassify:
    def test_predictions_are_the_models_own(self, server, model, frame):
        response = server.link.Classify(ClassifyRequest(frame=frame, top_k=7), timeout=60)
        pixels = decode(IaqFrame.from_bytes(frame))
        with torch.inference_mode():
            wanted = model(normalise(model, pixels[None]))[0].softmax(-1)
        labels, confidences = zip(*((each.label, each.confidence) for each in response.predictions), strict=True)
        assert confidences == pytest.approx(wanted.topk(7).values.tolist(), rel=CONFIDENCE)
        assert confidences == pytest.approx(wanted[list(labels)].tolist(), rel=CONFIDENCE)
        assert [each.name for each in response.predictions] == [class_names(model)[label] for label in labels]
        assert response.predictions[0].label in CATS

    def test_says_what_the_model_is(self, server, model, frame):
        response = server.link.Classify(ClassifyRequest(frame=frame), timeout=60)
        assert response.model == str(model.origin)
        assert model.origin.grown
        assert "grown from deit_tiny_patch16_224, not the release" in response.model

    def test_alone_there_is_no_standing(self, server, frame):
        for _ in range(2):
            response = server.link.Classify(ClassifyRequest(frame=frame, device_id="a"), timeout=60)
            assert len(response.predictions) == 5
            assert response.WhichOneof("standing") is None
            assert not response.repeated
            assert not response.HasField("channel")
            assert not response.received_frame

    def test_echo(self, server, frame):
        response = server.link.Classify(ClassifyRequest(frame=frame, echo_frame=True), timeout=60)
        assert response.received_frame == frame

    def test_timings(self, server, frame):
        begun = time.perf_counter()
        timings = server.link.Classify(ClassifyRequest(frame=frame), timeout=60).timings
        milliseconds = 1e3 * (time.perf_counter() - begun)
        assert timings.decode_ms > 0
        assert timings.inference_ms > 1
        assert timings.queue_ms >= 0
        assert timings.decode_ms + timings.queue_ms + timings.inference_ms < milliseconds

    def test_a_damaged_payload_is_normal(self, server, frame):
        damaged = bytearray(frame)
        for position in random.Random(1).sample(range(113, len(frame)), len(frame) // 20):
            damaged[position] ^= 16
        assert server.link.Classify(ClassifyRequest(frame=bytes(damaged)), timeout=60).predictions

    def test_without_any_payload(self, server, pictures):
        data = encode(pictures[0], np.ones(196), rho=0).frame.to_bytes()
        assert server.link.Classify(ClassifyRequest(frame=data), timeout=60).predictions

    def test_many_at_once(self, server, frames):
        calls = [server.link.Classify.future(ClassifyRequest(frame=data), timeout=60) for data in frames * 8]
        labels = [call.result().predictions[0].label for call in calls]
        assert labels == labels[:4] * 8


@pytest.fixture(scope="module")
def loaded(offline):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semlink.vision.weights, "_from_hub", lambda model: "switched off")
        return load_model(ServerSettings(weights=offline["SEMLINK_WEIGHTS"]))


def test_an_opinion_is_fused_with_the_look(loaded, frames):
    pixels = decode(IaqFrame.from_bytes(frames[0]))
    rung = read_calibration().rungs[0]
    opinion = Belief(np.array([7, 285]), np.array([0.6, 0.3]), 1000)
    images = [ModelInput(pixels, 1000), ModelInput(pixels, 5, opinion, rung)]
    result = loaded.predict(images)
    looked = np.zeros(1000)
    for each in result.predictions[0]:
        looked[each.label] = each.confidence
    said = np.full(1000, 0.1 / 998)
    said[[7, 285]] = 0.6, 0.3
    weights = said**rung.opinion_weight * looked**rung.look_weight
    weights /= weights.sum()
    likeliest = np.argsort(-weights)[:5]
    assert [each.label for each in result.predictions[1]] == likeliest.tolist()
    # The looks are of single precision.
    confidences = [each.confidence for each in result.predictions[1]]
    assert confidences == pytest.approx(weights[likeliest], rel=CONFIDENCE)
    assert result.named[1][:5] == result.predictions[1]
    assert (len(result.named[1]), result.classes) == (8, 1000)


def test_together_or_alone_images_are_answered_alike(loaded, frames):
    images = [ModelInput(decode(IaqFrame.from_bytes(data)), top_k) for top_k, data in enumerate(frames, 1)]
    together = loaded.predict(images).predictions
    alone = [loaded.predict([image]).predictions[0] for image in images]
    assert [len(each) for each in together] == [1, 2, 3, 4]
    for one, other in zip(together, alone, strict=True):
        assert one[0].label == other[0].label
        assert [each.confidence for each in one] == pytest.approx(
            [each.confidence for each in other], rel=CONFIDENCE
        )


class TestVote:
    def test_of_four_devices(self, server, frames):
        name = new_object()
        requests = [
            ClassifyRequest(frame=data, object_id=name, device_id=f"device-{i}", expected_views=4)
            for i, data in enumerate(frames)
        ]
        responses = [server.link.Classify(request, timeout=60) for request in requests]
        assert [response.missing_views for response in responses[:3]] == [3, 2, 1]
        vote = responses[3].vote
        labels = [response.predictions[0].label for response in responses]
        assert vote.views == 4
        assert vote.votes == max(map(labels.count, labels)) == labels.count(vote.label)
        assert vote.label in CATS
        named = next(
            response.predictions[0] for response in responses if response.predictions[0].label == vote.label
        )
        assert vote.name == named.name
        assert server.link.WaitVote(WaitVoteRequest(object_id=name), timeout=60).vote == vote

    def test_all_at_once(self, server, frames):
        name = new_object()
        calls = [
            server.link.Classify.future(
                ClassifyRequest(frame=data, object_id=name, device_id=str(i), expected_views=4), timeout=60
            )
            for i, data in enumerate(frames)
        ]
        responses = [call.result() for call in calls]
        votes = {str(each.vote) for each in responses if each.WhichOneof("standing") == "vote"}
        assert len(votes) == 1  # whoever is answered with the last view is told the vote, and it is one
        assert all(each.missing_views in (1, 2, 3) for each in responses if not each.HasField("vote"))

    def test_repeated_frame_gets_the_first_answer(self, server, frame):
        request = ClassifyRequest(frame=frame, object_id=new_object(), device_id="a", frame_id=3, expected_views=2)
        first = server.link.Classify(request, timeout=60)
        damaged = bytearray(frame)
        damaged[200] ^= 255  # the retry met other bit errors, and asks for more; it is still the same view
        request.frame, request.top_k = bytes(damaged), 50
        again = server.link.Classify(request, timeout=60)
        assert (first.repeated, again.repeated) == (False, True)
        assert again.predictions == first.predictions
        assert again.timings == first.timings
        assert (first.missing_views, again.missing_views) == (1, 1)

    def test_repeated_while_the_first_is_running(self, server, frame):
        request = ClassifyRequest(frame=frame, object_id=new_object(), device_id="a", expected_views=1)
        calls = [server.link.Classify.future(request, timeout=60) for _ in range(8)]
        responses = [call.result() for call in calls]
        assert sorted(response.repeated for response in responses) == [False] + [True] * 7
        assert {response.vote.views for response in responses} == {1}
        assert len({str(response.timings) for response in responses}) == 1

    @pytest.mark.parametrize(
        ("change", "status", "reason"),
        [
            ({"frame_id": 1}, grpc.StatusCode.ALREADY_EXISTS, "another view"),
            ({"expected_views": 3}, grpc.StatusCode.FAILED_PRECONDITION, None),
            (
                {"device_id": "b", "expected_views": 3},
                grpc.StatusCode.FAILED_PRECONDITION,
                "expects 1 views, not 3",
            ),
            ({"device_id": "b"}, grpc.StatusCode.FAILED_PRECONDITION, "has all its 1 views"),
        ],
    )
    def test_conflicts(self, server, frame, change, status, reason):
        request = ClassifyRequest(frame=frame, object_id=new_object(), device_id="a", expected_views=1)
        server.link.Classify(request, timeout=60)
        for name, value in change.items():
            setattr(request, name, value)
        if reason is None:  # a repeated frame is a repeated frame
            assert server.link.Classify(request, timeout=60).repeated
        else:
            code, details = status_of(server.link.Classify, request)
            assert code is status
            assert reason in details

    def test_another_frame_under_the_same_id(self, server, frames):
        request = ClassifyRequest(frame=frames[0], object_id=new_object(), device_id="a", expected_views=2)
        server.link.Classify(request, timeout=60)
        request.frame = frames[1]
        assert status_of(server.link.Classify, request)[0] is grpc.StatusCode.ALREADY_EXISTS

    def test_a_refused_frame_is_no_view(self, server, frame):
        request = ClassifyRequest(frame=frame[:-1], object_id=new_object(), device_id="a", expected_views=1)
        assert status_of(server.link.Classify, request)[0] is grpc.StatusCode.INVALID_ARGUMENT
        request.frame = frame
        assert server.link.Classify(request, timeout=60).vote.views == 1


class TestWaitVote:
    def test_waits_for_the_missing_view(self, server, frames):
        name = new_object()
        requests = [
            ClassifyRequest(frame=data, object_id=name, device_id=str(i), expected_views=2)
            for i, data in enumerate(frames[:2])
        ]
        server.link.Classify(requests[0], timeout=60)
        waiting = [
            server.link.WaitVote.future(WaitVoteRequest(object_id=name, wait_seconds=30), timeout=40)
            for _ in range(3)
        ]
        time.sleep(0.3)
        assert not any(call.done() for call in waiting)
        vote = server.link.Classify(requests[1], timeout=60).vote
        assert [call.result().vote for call in waiting] == [vote] * 3

    def test_no_longer_than_asked(self, server, frame):
        name = new_object()
        request = ClassifyRequest(frame=frame, object_id=name, device_id="a", expected_views=3)
        server.link.Classify(request, timeout=60)
        for seconds in (0, 0.5):
            begun = time.monotonic()
            response = server.link.WaitVote(WaitVoteRequest(object_id=name, wait_seconds=seconds), timeout=60)
            assert response.missing_views == 2
            assert seconds <= time.monotonic() - begun + 0.01 < seconds + 60

    def test_unknown(self, server):
        code, details = status_of(server.link.WaitVote, WaitVoteRequest(object_id="unheard of", wait_seconds=10))
        assert code is grpc.StatusCode.NOT_FOUND
        assert "unheard of" in details

    @pytest.mark.parametrize("seconds", [-0.1, 60.1, math.inf, -math.inf, math.nan])
    def test_seconds(self, server, seconds):
        code, details = status_of(server.link.WaitVote, WaitVoteRequest(object_id="cup", wait_seconds=seconds))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "wait_seconds must be within [0, 60]" in details

    @pytest.mark.parametrize("name", ["", "x" * 129])
    def test_object_id(self, server, name):
        code, details = status_of(server.link.WaitVote, WaitVoteRequest(object_id=name))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "object_id" in details


def of_another_shape() -> bytes:
    return encode(np.zeros((112, 112, 3), np.uint8), np.ones(49)).frame.to_bytes()


BAD_FRAMES = {
    "nothing": (lambda frame: b"", "truncated"),
    "truncated header": (lambda frame: frame[:10], "truncated"),
    "truncated bit map": (lambda frame: frame[:80], "truncated"),
    "truncated payload": (lambda frame: frame[:-1], "payload_length"),
    "too long a payload": (lambda frame: frame + b"\0", "payload_length"),
    "magic": (lambda frame: b"XX" + frame[2:], "magic"),
    "version": (lambda frame: frame[:2] + b"\2" + frame[3:], "version"),
    "profile": (lambda frame: frame[:3] + b"\7" + frame[4:], "profile"),
    "crc": (lambda frame: frame[:50] + bytes([frame[50] ^ 1]) + frame[51:], "crc"),
    "max bits": (lambda frame: frame[:8] + b"\x0e" + frame[9:], "max_bits"),
    "value range": (lambda frame: with_crc(frame[:9] + b"\xff\0" + frame[11:]), "value_range"),
    "bit map": (lambda frame: with_crc(frame[:11] + b"\xff" + frame[12:]), "bit_map"),
    "channels": (lambda frame: with_crc(frame[:7] + b"\2" + frame[8:]), "geometry"),
    "geometry": (lambda frame: of_another_shape(), "geometry"),
    "oversized": (lambda frame: frame + bytes(MAX_FRAME_BYTES), "oversized"),
    "a picture": (lambda frame: b"\x89PNG\r\n\x1a\n" + bytes(200), "magic"),
    "text": (lambda frame: b"a" * 500, "magic"),
}


class TestBadInput:
    @pytest.mark.parametrize("name", BAD_FRAMES)
    def test_frame(self, server, frame, name):
        make, reason = BAD_FRAMES[name]
        code, details = status_of(server.link.Classify, ClassifyRequest(frame=make(frame)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details.startswith("frame: ")
        assert f"({reason})" in details

    def test_longer_than_any_message(self, server, frame):
        code, details = status_of(server.link.Classify, ClassifyRequest(frame=frame + bytes(5 << 20)))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in details

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"object_id": "x" * 129, "device_id": "a"}, "object_id"),
            ({"object_id": "cup", "device_id": "x" * 129}, "device_id"),
            ({"object_id": "cup"}, "device_id must be given where there is an object_id"),
            ({"expected_views": 65}, "expected_views"),
            ({"top_k": 101}, "top_k"),
        ],
    )
    def test_field(self, server, frame, fields, reason):
        code, details = status_of(server.link.Classify, ClassifyRequest(frame=frame, **fields))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert reason in details

    def test_fields_at_their_limits(self, server, frame):
        response = server.link.Classify(
            ClassifyRequest(
                frame=frame,
                object_id="ü" * 128,
                device_id="é" * 128,
                frame_id=2**64 - 1,
                expected_views=64,
                top_k=100,
            ),
            timeout=60,
        )
        assert response.missing_views == 63
        assert len(response.predictions) == 100

    @pytest.mark.parametrize("message", [b"\xff\xff\xff", b"\x12\x02\xff\xfe", b"\x0a\x7f"])
    def test_no_message_at_all(self, server, message):
        raw = server.channel.unary_unary("/semlink.v1.LinkService/Classify", request_serializer=bytes)
        assert status_of(raw, message)[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert server.is_ready

    def test_unknown_method(self, server):
        raw = server.channel.unary_unary("/semlink.v1.LinkService/Guess", request_serializer=bytes)
        assert status_of(raw, b"")[0] is grpc.StatusCode.UNIMPLEMENTED

    @settings(max_examples=200, deadline=None)
    @given(data=st.data())
    def test_mutated_frames_are_answered_or_refused(self, server, frame, data):
        mutated = bytearray(frame)
        for _ in range(data.draw(st.integers(0, 4))):
            where = data.draw(st.integers(0, 10) | st.integers(0, 112) | st.integers(0, len(frame) - 1))
            mutated[where] = data.draw(st.integers(0, 255))
        if data.draw(st.booleans()):
            mutated = bytearray(with_crc(bytes(mutated)))
        cut = data.draw(st.none() | st.integers(0, len(mutated)))
        tail = data.draw(st.just(b"") | st.binary(max_size=20))
        request = ClassifyRequest(frame=bytes(mutated[:cut]) + tail)
        try:
            response = server.link.Classify(request, timeout=60)
        except grpc.RpcError as error:
            refusal = error.code(), error.details()[:7]
        else:
            refusal = None
            assert len(response.predictions) == 5
            assert all(0 <= each.confidence <= 1 for each in response.predictions)
        assert refusal in (None, (grpc.StatusCode.INVALID_ARGUMENT, "frame: "))


class TestServices:
    def test_reflection(self, server):
        database = ProtoReflectionDescriptorDatabase(server.channel)
        assert "semlink.v1.LinkService" in database.get_services()
        file = database.FindFileContainingSymbol("semlink.v1.LinkService")
        assert {method.name for method in file.service[0].method} == {"Classify", "WaitVote"}

    @pytest.mark.parametrize("service", ["", "semlink.v1.LinkService"])
    def test_health(self, server, service):
        stub = health_pb2_grpc.HealthStub(server.channel)
        response = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
        assert response.status == health_pb2.HealthCheckResponse.SERVING

    def test_health_over_http(self, server):
        assert server.http.get("/v2/health/live").json() == {"live": True}
        assert server.http.get("/v2/health/ready").json() == {"ready": True}


def stored(picture: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return file.getvalue()


def post(server: Running, content, kind: str = FRAME_TYPE, **parameters) -> httpx.Response:
    headers = {"Content-Type": kind} if kind else {}
    return server.http.post("/v1/classify", content=content, headers=headers, params=parameters)


def problem(response: httpx.Response, status: int) -> str:
    """The detail of a well-formed problem document."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert set(document) == {"type", "title", "status", "detail", "instance", "reason"}
    assert document["type"] == f"urn:semlink:problem:{document['reason']}"
    assert document["status"] == status
    assert document["title"] == httpx.codes(status).name.replace("_", " ").title() or document["title"]
    assert document["instance"] == response.url.path
    return document["detail"]


class TestRest:
    def test_frame_is_answered_as_over_grpc(self, server, frame):
        over_grpc = server.link.Classify(ClassifyRequest(frame=frame), timeout=60)
        answer = post(server, frame).json()
        assert [each["label"] for each in answer["predictions"]] == [each.label for each in over_grpc.predictions]
        assert [each["confidence"] for each in answer["predictions"]] == pytest.approx(
            [each.confidence for each in over_grpc.predictions], rel=CONFIDENCE
        )
        assert answer["predictions"][0]["name"] == over_grpc.predictions[0].name
        assert answer["model"] == over_grpc.model
        assert answer["vote"] is None
        assert answer["missing_views"] == 0
        assert not answer["repeated"]
        assert answer["timings_ms"]["inference"] > 1

    @pytest.mark.parametrize(("kind", "media_type"), [("JPEG", "image/jpeg"), ("PNG", "image/png")])
    def test_picture(self, server, pictures, kind, media_type):
        answer = post(server, stored(pictures[0], kind), media_type, top_k=3).json()
        assert answer["predictions"][0]["label"] in CATS
        assert len(answer["predictions"]) == 3

    def test_photo_as_it_is(self, server, model):
        path = find_photos(["chelsea"])[0]
        answer = post(server, path.read_bytes(), "Image/PNG; charset=binary").json()
        with torch.inference_mode():
            logits = model(normalise(model, model_pixels(open_image(path))[None]))
        assert answer["predictions"][0]["label"] == logits.argmax().item()
        assert answer["predictions"][0]["confidence"] == pytest.approx(
            logits.softmax(-1).max().item(), rel=CONFIDENCE
        )

    @pytest.mark.parametrize("path", ["/v1/votes/{}", "/v1/votes/{}?wait_seconds=30"])
    def test_vote(self, server, frames, path):
        name = f"shelf/{new_object()}"
        ids = {"object_id": name, "expected_views": 2}
        assert post(server, frames[0], device_id="a", **ids).json()["missing_views"] == 1
        assert server.http.get(f"/v1/votes/{name}").json() == {"vote": None, "missing_views": 1, "wish": None}
        quoted = name.replace("/", "%2F").replace(" ", "%20")
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(server.http.get, path.format(quoted)) if "wait" in path else None
            time.sleep(0.2)
            vote = post(server, frames[1], device_id="b", **ids).json()["vote"]
            answer = (waiting.result() if waiting else server.http.get(path.format(quoted))).json()
        assert answer == {"vote": vote, "missing_views": 0, "wish": None}
        assert vote["views"] == 2
        assert vote["label"] in CATS

    def test_views_over_http_and_grpc_meet(self, server, frames):
        name = new_object()
        post(server, frames[0], object_id=name, device_id="a", expected_views=2)
        request = ClassifyRequest(frame=frames[1], object_id=name, device_id="b", expected_views=2)
        assert server.link.Classify(request, timeout=60).vote.views == 2

    def test_repeated_frame(self, server, frame):
        ids = {"object_id": new_object(), "device_id": "a", "expected_views": 2, "frame_id": 2**64 - 1}
        first, again = (post(server, frame, **ids).json() for _ in range(2))
        assert again == {**first, "repeated": True}

    def test_repeated_picture(self, server, pictures):
        ids = {"object_id": new_object(), "device_id": "a", "expected_views": 2}
        data = stored(pictures[0], "PNG")
        assert [post(server, data, "image/png", **ids).json()["repeated"] for _ in range(2)] == [False, True]


def bomb() -> bytes:
    size = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", size), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


class TestProblems:
    @pytest.mark.parametrize("name", [name for name in BAD_FRAMES if name != "oversized"])
    def test_bad_frame(self, server, frame, name):
        make, reason = BAD_FRAMES[name]
        assert f"({reason})" in problem(post(server, make(frame)), 400)

    @pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(100)])
    def test_no_picture(self, server, data):
        assert "can't be read as JPEG, PNG" in problem(post(server, data, "image/png"), 400)

    def test_truncated_picture(self, server, pictures):
        data = stored(pictures[0], "JPEG")
        assert "truncated" in problem(post(server, data[: len(data) // 2], "image/jpeg"), 400)

    def test_huge_picture(self, server):
        assert "pixels" in problem(post(server, bomb(), "image/png"), 400)

    def test_a_picture_that_fails_is_no_view(self, server, pictures):
        ids = {"object_id": new_object(), "device_id": "a"}
        problem(post(server, b"no picture", "image/png", **ids), 400)
        problem(server.http.get(f"/v1/votes/{ids['object_id']}"), 404)
        assert post(server, stored(pictures[0], "PNG"), "image/png", **ids).json()["vote"]["views"] == 1

    @pytest.mark.parametrize("path", ["/", "/v1", "/v1/classify/", "/v1/vote", "/v1/votes/unheard-of", "/%00%ff"])
    def test_not_found(self, server, path):
        problem(server.http.get(path), 404)

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("GET", "/v1/classify", "POST"),
            ("DELETE", "/v1/votes/cup", "GET, HEAD"),
            ("POST", "/v2/health/ready", "GET, HEAD"),
        ],
    )
    def test_method(self, server, method, path, allowed):
        response = server.http.request(method, path)
        problem(response, 405)
        assert response.headers["allow"] == allowed

    @pytest.mark.parametrize(
        ("change", "reason"),
        [({"frame_id": 1}, "another view"), ({"device_id": "b"}, "all its 1 views"),
         ({"device_id": "b", "expected_views": 2}, "expects 1 views")],
    )  # fmt: skip
    def test_conflict(self, server, frame, change, reason):
        ids = {"object_id": new_object(), "device_id": "a", "expected_views": 1}
        post(server, frame, **ids)
        assert reason in problem(post(server, frame, **ids | change), 409)

    @pytest.mark.parametrize(
        ("kind", "length", "most"),
        [(FRAME_TYPE, MAX_FRAME_BYTES + 1, MAX_FRAME_BYTES), ("image/png", MAX_IMAGE_BYTES + 1, MAX_IMAGE_BYTES)],
    )
    def test_too_long(self, server, kind, length, most):
        assert f"at most {most} bytes" in problem(post(server, bytes(length), kind), 413)

    @pytest.mark.parametrize(
        "kind", ["", "text/plain", "image/webp", "image/gif", "multipart/form-data; boundary=x"]
    )
    def test_media_type(self, server, frame, kind):
        detail = problem(post(server, frame, kind), 415)
        assert FRAME_TYPE in detail
        assert "image/jpeg" in detail

    @pytest.mark.parametrize(
        ("parameters", "reason"),
        [({"top_k": 0}, "top_k"), ({"top_k": "many"}, "top_k"), ({"expected_views": 65}, "expected_views"),
         ({"object_id": "x" * 129, "device_id": "a"}, "object_id"), ({"object_id": "cup"}, "device_id"),
         ({"frame_id": -1}, "frame_id"), ({"frame_id": 2**64}, "frame_id"), ({"colour": "red"}, "colour")],
    )  # fmt: skip
    def test_parameter(self, server, frame, parameters, reason):
        assert reason in problem(post(server, frame, **parameters), 422)

    @pytest.mark.parametrize(
        "path",
        [
            "/v1/votes/",
            f"/v1/votes/{'x' * 129}",
            *(f"/v1/votes/cup?wait_seconds={wrong}" for wrong in (-1, 61, "nan")),
        ],
    )
    def test_vote_parameter(self, server, path):
        problem(server.http.get(path), 422)

    def test_host_that_is_none(self, server):
        answer = raw_http(server, b"GET /nowhere HTTP/1.1\r\nHost: [\r\nConnection: close\r\n\r\n")
        assert b"421 Misdirected Request" in answer
        assert b'"instance":"/nowhere"' in answer

    def test_no_http(self, server):
        assert b"400 Bad Request" in raw_http(server, b"\x16\x03\x01 this is no HTTP\r\n\r\n")


def connect(server: Running) -> socket.socket:
    host, _, port = server.http_address.partition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def send(connection: socket.socket, data: bytes, times: int) -> None:
    for _ in range(times):
        connection.sendall(data)


def raw_http(server: Running, request: bytes) -> bytes:
    """All that is answered until the server hangs up."""
    with connect(server) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


class TestBodies:
    @pytest.mark.parametrize(
        ("kind", "status"), [("image/png", b"413"), (FRAME_TYPE, b"413"), ("text/plain", b"415")]
    )
    def test_endless_body_is_cut_off(self, server, kind, status):
        head = (
            "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
        with connect(server) as connection:
            connection.sendall(head.encode())
            with pytest.raises(ConnectionError):
                send(connection, chunk, times=1024)  # 64 MiB are never taken
            assert connection.recv(65536).startswith(b"HTTP/1.1 " + status)

    def test_body_that_breaks_off(self, server, frame):
        head = (
            "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: {FRAME_TYPE}\r\nContent-Length: 5000\r\n\r\n"
        )
        before = server.logs
        with connect(server) as connection:
            connection.sendall(head.encode() + frame[:1000])
        time.sleep(0.3)
        assert server.is_ready
        assert server.logs.removeprefix(before) == ""

    def test_memory_does_not_grow(self, server, frame, pictures):
        def barrage() -> float:
            for _ in range(4):
                post(server, bytes(MAX_IMAGE_BYTES), "image/png")
                post(server, bomb(), "image/png")
                post(server, stored(np.zeros((2000, 2000, 3), np.uint8), "PNG"), "image/png")
                status_of(server.link.Classify, ClassifyRequest(frame=frame + bytes(MAX_FRAME_BYTES)))
                for _ in range(20):
                    status_of(
                        server.link.Classify, ClassifyRequest(frame=frame[:-1], object_id="x", device_id="y")
                    )
            return server.resident_mib

        first = barrage()
        # If only the 12 MiB files were kept, three barrages would take 144 MiB. An allocator keeps some of them.
        assert max(barrage() for _ in range(3)) < first + 128
        assert post(server, frame).is_success


@pytest.fixture(scope="module")
def document(server) -> dict:
    return server.http.get("/openapi.json").json()


class TestOpenApi:
    def test_references_resolve(self, document):
        def references(node):
            if isinstance(node, dict):
                if "$ref" in node:
                    yield node["$ref"]
                for child in node.values():
                    yield from references(child)
            elif isinstance(node, list):
                for child in node:
                    yield from references(child)

        found = set(references(document))
        assert "#/components/schemas/Problem" in found
        for reference in found:
            node = document
            for part in reference.removeprefix("#/").split("/"):
                node = node[part]

    def test_every_error_is_a_problem_document(self, document):
        statuses = set()
        for path in document["paths"].values():
            for operation in path.values():
                for status, response in operation["responses"].items():
                    assert response["description"]
                    if status != "200":
                        statuses.add(int(status))
                        assert list(response["content"]) == ["application/problem+json"]
        assert statuses == {400, 403, 404, 408, 409, 413, 415, 421, 422, 429, 503, 504}
        assert set(document["components"]["schemas"]["Problem"]["properties"]) == {
            "type", "title", "status", "detail", "instance", "reason"
        }  # fmt: skip

    def test_bodies(self, document):
        body = document["paths"]["/v1/classify"]["post"]["requestBody"]
        assert body["required"]
        assert set(body["content"]) == {FRAME_TYPE, "image/jpeg", "image/png"}

    def test_everything_is_described(self, document):
        for path in document["paths"].values():
            for operation in path.values():
                assert operation["summary"]
                for parameter in operation.get("parameters", []):
                    assert parameter.get("description") or parameter["schema"].get("examples")
        for name in ("Prediction", "Vote", "TimingsBody"):
            for field in document["components"]["schemas"][name]["properties"].values():
                assert field["examples"]

    def test_answers_have_the_fields_described(self, document, server, frame):
        answer = post(server, frame, object_id=new_object(), device_id="a").json()
        schemas = document["components"]["schemas"]
        assert set(answer) == set(schemas["AnswerBody"]["properties"])
        assert set(answer["vote"]) == set(schemas["Vote"]["properties"])
        assert set(answer["predictions"][0]) == set(schemas["Prediction"]["properties"])
        assert set(answer["timings_ms"]) == set(schemas["TimingsBody"]["properties"])

    def test_page(self, server):
        assert server.http.get("/docs").is_success


class TestLife:
    def test_from_loading_to_the_end(self, offline, frame, tmp_path):
        gate = tmp_path / "gate"
        with running("-c", HELD, gate, **offline) as server:
            self.while_loading(server, frame)
            gate.touch()
            wait_until(lambda: server.is_ready)
            assert server.link.Classify(ClassifyRequest(frame=frame), timeout=60).predictions
            self.slow_body(server)
            self.told_to_stop(server, frame)

    def while_loading(self, server, frame):
        assert server.http.get("/v2/health/live").is_success
        problem(server.http.get("/v2/health/ready"), 503)
        stub = health_pb2_grpc.HealthStub(server.channel)
        response = stub.Check(health_pb2.HealthCheckRequest(), timeout=60)
        assert response.status == health_pb2.HealthCheckResponse.NOT_SERVING
        request = ClassifyRequest(frame=frame, object_id="cup", device_id="a", expected_views=4)
        code, details = status_of(server.link.Classify, request)
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "still loading" in details
        assert "still loading" in problem(post(server, frame), 503)
        assert status_of(server.link.WaitVote, WaitVoteRequest(object_id="cup"))[0] is grpc.StatusCode.NOT_FOUND

    def slow_body(self, server):
        """A byte now and then does not keep a connection."""
        head = (
            "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: {FRAME_TYPE}\r\nContent-Length: 5000\r\n\r\n"
        )
        begun = time.monotonic()
        with connect(server) as connection:
            connection.sendall(head.encode())
            connection.settimeout(0.1)
            answer = b""
            while not answer and time.monotonic() < begun + 60:
                connection.sendall(b"x")
                try:
                    answer = connection.recv(65536)
                except TimeoutError:
                    continue
            connection.settimeout(60)
            with contextlib.suppress(ConnectionResetError):  # it hung up, on a byte of ours
                while rest := connection.recv(65536):
                    answer += rest
            assert answer.startswith(b"HTTP/1.1 408")
            assert b"application/problem+json" in answer
        assert time.monotonic() - begun > 0.9

    def told_to_stop(self, server, frame):
        """Calls under way are answered; then the process ends with 0."""
        request = ClassifyRequest(frame=frame, object_id="cup", device_id="a", expected_views=1)
        calls = [server.link.Classify.future(ClassifyRequest(frame=frame), timeout=60) for _ in range(10)]
        calls.append(server.link.Classify.future(request, timeout=60))
        calls[0].result()  # the others are with the server by now
        server.process.send_signal(signal.SIGTERM)
        assert all(call.result().predictions for call in calls)
        assert server.process.wait(60) == 0
        assert "Traceback" not in server.logs
        lines = [json.loads(line) for line in server.logs.splitlines()]
        events = [line["event"] for line in lines]
        assert events.index("ready") < events.index("stopping") < events.index("vote") < events.index("stopped")
        assert {line["process"] for line in lines} == {"server"}
        assert status_of(server.link.Classify, ClassifyRequest(frame=frame))[0] is grpc.StatusCode.UNAVAILABLE

    def test_killed_mid_call(self, offline, frame):
        with running("-m", "server", **offline) as server:
            wait_until(lambda: server.is_ready)
            request = ClassifyRequest(frame=frame, object_id="cup", device_id="a", expected_views=2)
            server.link.Classify(request, timeout=60)
            waiting = server.link.WaitVote.future(WaitVoteRequest(object_id="cup", wait_seconds=60), timeout=70)
            calls = [server.link.Classify.future(ClassifyRequest(frame=frame), timeout=120) for _ in range(30)]
            calls[0].result()
            server.process.kill()
            assert waiting.exception(20).code() is grpc.StatusCode.UNAVAILABLE
            failed = [call.exception(20) for call in calls]
            assert {error.code() for error in failed if error} == {grpc.StatusCode.UNAVAILABLE}

    def test_after_all_that_the_first_server_still_answers(self, server, frame):
        assert server.link.Classify(ClassifyRequest(frame=frame), timeout=60).predictions
        assert post(server, frame).is_success
        for line in map(json.loads, server.logs.splitlines()):
            assert "exception" not in line


# What can't start: its flags, its environment, its exit status, and what it says. PORT is one that is taken.
BAD_STARTS = {
    "no weights": (
        ["--model", "vit_base_patch16_224"],
        {},
        1,
        ["no weights for vit_base_patch16_224", "--weights: no", "models/: no",
         "timm's hub: switched off", "Put vit_base_patch16_224.safetensors into a folder"],
    ),
    "grpc port": (["--grpc-port", "PORT"], {}, 1, ["cannot listen on 127.0.0.1:PORT (--grpc-port)"]),
    "http port": (["--http-port", "PORT"], {}, 1, ["cannot listen on 127.0.0.1:PORT (--http-port)"]),
    "flag": (["--colour", "red"], {}, 2, ["--colour", "usage: python -m server"]),
    "value": (["--grpc-port", "70000"], {}, 2, ["--grpc-port (or SEMLINK_GRPC_", "65535", "70000"]),
    "environment": ([], {"SEMLINK_OBJECT_TTL_SECONDS": "soon"}, 2, ["SEMLINK_OBJECT_TTL_SECONDS", "soon"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield str(taken.getsockname()[1])


@pytest.fixture(scope="module")
def bad_starts(offline, taken_port) -> dict[str, subprocess.CompletedProcess]:
    """All of them, two at a time."""

    def run(flags: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess:
        flags = [flag.replace("PORT", taken_port) for flag in flags]
        return subprocess.run(
            [sys.executable, "-m", "server", "--grpc-port", "0", "--http-port", "0", *flags],
            env=os.environ | offline | environment,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )

    with ThreadPoolExecutor(2) as pool:
        runs = {name: pool.submit(run, *case[:2]) for name, case in BAD_STARTS.items()}
        return {name: run.result() for name, run in runs.items()}


@pytest.mark.parametrize("name", BAD_STARTS)
def test_bad_start_says_why(bad_starts, taken_port, name):
    *_, status, reasons = BAD_STARTS[name]
    run = bad_starts[name]
    assert run.returncode == status, run.stderr
    assert "Traceback" not in run.stderr
    for reason in reasons:
        assert reason.replace("PORT", taken_port) in run.stderr
