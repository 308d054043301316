"""Dialogues with servers by gRPC and REST: opinions, wishes and the pictures that fulfil them."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count

import grpc
import numpy as np
import pytest
from calibrations import eager_calibration
from processes import running, wait_until
from stub_server import FRAME_TYPE, STUB, Server

from semlink.decision.belief import Belief
from semlink.source.codec import encode as encode_still
from semlink.source.iaq.coder import encode
from semlink.source.opinion import opinion_frame
from semlink.v1.link_pb2 import ClassifyRequest, ClassifyResponse, WaitVoteRequest

ON_WISH, FOLLOWS, NOTHING = ClassifyRequest.ON_WISH, ClassifyRequest.FOLLOWS, ClassifyRequest.NOTHING
PICTURE = encode_still(np.full((224, 224, 3), 9, np.uint8), codec="avif", side=112).frame.to_bytes()
"""The stub calls it "grey 9" or so."""
LAYERED = {"device_id": "a", "expected_views": 1, "layer": 1, "frame": PICTURE}
numbers = count()


def opinion(label: int, confidence: float) -> bytes:
    others = (1 - confidence) / 2
    return opinion_frame(Belief(np.array([label, 300]), np.array([confidence, others]), 1000)).to_bytes()


SURE, UNSURE = opinion(281, 0.999), opinion(285, 0.4)


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Iterator[Callable[..., Server]]:
    with ExitStack() as stack:

        def start(*flags: object) -> Server:
            folder = tmp_path_factory.mktemp("server")
            for each in ("loaded", "gate"):
                (folder / each).touch()
            process = stack.enter_context(running("-c", STUB, folder, *flags))
            wait_until(lambda: process.is_ready)
            return Server(process, folder)

        yield start


@pytest.fixture(scope="module")
def server(start, tmp_path_factory) -> Server:
    calibration = eager_calibration(tmp_path_factory.mktemp("calibration"))
    return start("--wish-seconds", 60, "--calibration", calibration)


@pytest.fixture
def thing() -> str:
    """A new object."""
    return f"thing {next(numbers)}"


def tell(server: Server, frame: bytes, **fields) -> ClassifyResponse:
    return server.link.Classify(ClassifyRequest(frame=frame, **fields), timeout=60)


def refusal(server: Server, **fields) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        server.link.Classify(ClassifyRequest(**fields), timeout=60)
    return caught.value.code(), caught.value.details()


def test_an_unsure_view_is_asked_for_a_picture(server, thing):
    ids = {"object_id": thing, "expected_views": 2, "more": ON_WISH}
    first = tell(server, UNSURE, device_id="a", **ids)
    assert (first.missing_views, first.HasField("wish")) == (1, False)
    assert [each.label for each in first.predictions] == [285, 300]
    assert first.predictions[0].name == "class 285"
    assert first.timings.inference_ms == 0  # no model has looked at anything
    waiting = server.link.WaitVote.future(
        WaitVoteRequest(object_id=thing, wait_seconds=60, device_id="a"), timeout=90
    )
    other = tell(server, opinion(9, 0.5), device_id="b", **ids)
    assert other.WhichOneof("standing") == "missing_views"
    wish = waiting.result().wish
    assert (wish.layer, other.missing_views) == (1, 0)
    again = tell(server, UNSURE, device_id="a", **ids)
    assert again.repeated
    assert again.wish == wish
    assert len(PICTURE) <= wish.most_bytes
    answer = tell(server, PICTURE, device_id="a", **ids | {"layer": 1, "more": NOTHING})
    if not answer.HasField("vote"):  # both are asked
        answer = tell(server, PICTURE, device_id="b", **ids | {"layer": 1, "more": NOTHING})
    vote = answer.vote
    assert (vote.votes, vote.views, vote.fused.label) == (2, 2, vote.label)
    assert server.link.WaitVote(WaitVoteRequest(object_id=thing), timeout=60).vote == vote
    assert server.process.metric("semlink_server_opinions_total") >= 2
    assert server.process.metric("semlink_server_wishes_total") >= 1


def test_a_sure_one_is_not(server, thing):
    answer = tell(server, SURE, object_id=thing, device_id="a", more=ON_WISH)
    assert (answer.vote.label, answer.vote.name, answer.vote.fused.label) == (281, "class 281", 281)
    assert not answer.HasField("wish")


def test_an_opinion_alone(server):
    answer = tell(server, SURE, top_k=1)
    assert [each.label for each in answer.predictions] == [281]
    assert answer.WhichOneof("standing") is None


def test_what_follows_is_waited_for(server, thing):
    first = tell(server, UNSURE, object_id=thing, device_id="a", more=FOLLOWS)
    assert (first.missing_views, first.HasField("wish")) == (1, False)
    answer = tell(server, PICTURE, object_id=thing, device_id="a", layer=1)
    assert answer.vote.views == 1
    assert answer.predictions[0].label in (8, 9, 10)  # codecs keep greys to a level or so


def test_over_rest(server, thing):
    headers, ids = {"content-type": FRAME_TYPE}, {"object_id": thing, "device_id": "a"}
    first = server.http.post("/v1/classify", params=ids | {"more": "on_wish"}, content=UNSURE, headers=headers)
    wish = first.json()["wish"]
    assert (first.json()["vote"], first.json()["missing_views"], wish["layer"]) == (None, 0, 1)
    status = server.http.get(f"/v1/votes/{thing}", params={"device_id": "a", "wait_seconds": 60}).json()
    assert status == {"vote": None, "missing_views": 0, "wish": wish}
    assert server.http.get(f"/v1/votes/{thing}").json()["wish"] is None
    assert server.http.get(f"/v1/votes/{thing}", params={"device_id": "b"}).status_code == 404
    answer = server.http.post("/v1/classify", params=ids | {"layer": 1}, content=PICTURE, headers=headers).json()
    assert answer["wish"] is None
    assert answer["vote"]["fused"]["label"] == answer["vote"]["label"] == answer["predictions"][0]["label"]


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"layer": 1}, grpc.StatusCode.NOT_FOUND, "layer 0 of the view of object .* begin with layer 0"),
        ({"layer": 8}, grpc.StatusCode.INVALID_ARGUMENT, "layer: must be at most 7"),
        ({"layer": 7, "more": ON_WISH}, grpc.StatusCode.INVALID_ARGUMENT, "nothing follows layer 7"),
        ({"more": 3}, grpc.StatusCode.INVALID_ARGUMENT, "more must be one of nothing, follows, on_wish"),
        ({"more": -1}, grpc.StatusCode.INVALID_ARGUMENT, "more must be one of"),
        ({"object_id": ""}, grpc.StatusCode.INVALID_ARGUMENT, "a view in layers needs an object_id"),
        ({"frame": SURE}, grpc.StatusCode.INVALID_ARGUMENT, r"picture of the coder codec \(layer\)"),
        ({"frame": encode(np.zeros((224, 224, 3), np.uint8), np.ones(196), rho=0.1).frame.to_bytes()},
         grpc.StatusCode.INVALID_ARGUMENT, r"picture of the coder codec \(layer\)"),
        ({"frame": opinion_frame(Belief(np.array([1001]), np.array([0.9]), 1024)).to_bytes(), "layer": 0},
         grpc.StatusCode.INVALID_ARGUMENT, r"names class 1001 of a model of 1000 classes \(label\)"),
        ({"frame": SURE, "layer": 0, "lost_patches": [0]}, grpc.StatusCode.INVALID_ARGUMENT, "lost_patches"),
    ],
)  # fmt: skip
def test_refusals(server, thing, fields, code, told):
    refused, details = refusal(server, **LAYERED | {"object_id": thing} | fields)
    assert refused is code
    assert details.count("\n") == 0
    assert re.search(told, details), details
    with pytest.raises(grpc.RpcError) as unknown:
        server.link.WaitVote(WaitVoteRequest(object_id=thing), timeout=60)
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND  # nothing is left of it


def test_pictures_are_no_layers(server, thing):
    ids = {"object_id": thing, "device_id": "a", "more": "on_wish"}
    answer = server.http.post(
        "/v1/classify", params=ids, content=b"\xff\xd8", headers={"content-type": "image/jpeg"}
    )
    assert (answer.status_code, "no layer of a view" in answer.json()["detail"]) == (400, True)


def test_a_server_that_has_the_other_ones_redis_goes_on(start, redis_server, thing):
    """One hears the opinions and dies; the other knows what it wished for, and takes the vote."""
    flags = "--redis", redis_server.url, "--wish-seconds", 60
    dead, alive = start(*flags), start(*flags)
    ids = {"object_id": thing, "device_id": "a", "more": ON_WISH}
    wish = tell(dead, UNSURE, **ids).wish
    dead.process.process.kill()
    again = tell(alive, UNSURE, **ids)
    assert (again.repeated, again.wish) == (True, wish)
    assert tell(alive, PICTURE, **ids | {"layer": 1}).vote.views == 1
