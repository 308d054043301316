"""Votes over HTTP and gRPC as holders of several keys see them: each owner has objects of its own."""

from collections.abc import Iterator

import grpc
import httpx
import numpy as np
import pytest
from processes import Running, running, wait_until
from stub_server import FRAME_TYPE, GREY

from semlink.source.iaq.coder import encode
from semlink.v1.link_pb2 import WaitVoteRequest

KEYS = {
    "site/camera-1": "correct-horse-battery-1",
    "site/camera-2": "correct-horse-battery-2",
    "mallory": "m" * 20,
}
FRAME = encode(np.zeros((224, 224, 3), np.uint8), np.ones(196), rho=0.001).frame.to_bytes()
GREY_VOTE = {"label": 7, "name": "grey", "votes": 2, "views": 2} | {
    "fused": {"label": 7, "name": "grey", "confidence": pytest.approx(1)}
}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running("-c", GREY, SEMLINK_API_KEYS=",".join(map(" ".join, KEYS.items()))) as process:
        wait_until(lambda: process.is_ready)
        yield process


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name]}"}


def give_view(server: Running, name: str, object_id: str, expected_views: int) -> httpx.Response:
    ids = {"object_id": object_id, "device_id": name, "expected_views": expected_views}
    return server.http.post(
        "/v1/classify", params=ids, content=FRAME, headers=bearer(name) | {"content-type": FRAME_TYPE}
    )


def votes(server: Running, name: str, **query: object) -> dict:
    return server.http.get("/v1/votes", params=query, headers=bearer(name)).json()


def test_a_stranger_that_opens_an_object_refuses_nobody(server):
    assert give_view(server, "mallory", "cup", 64).json()["missing_views"] == 63
    assert give_view(server, "site/camera-1", "cup", 2).json()["missing_views"] == 1
    assert give_view(server, "site/camera-2", "cup", 2).json()["vote"] == GREY_VOTE
    for name, missing in [("site/camera-1", 0), ("mallory", 63)]:
        answer = server.http.get("/v1/votes/cup", headers=bearer(name)).json()
        assert answer["missing_views"] == missing
        metadata = tuple(bearer(name).items())
        assert server.link.WaitVote(WaitVoteRequest(object_id="cup"), metadata=metadata).missing_views == missing
    refused = give_view(server, "site/camera-1", "own", 3), give_view(server, "site/camera-2", "own", 4)
    assert [each.status_code for each in refused] == [200, 409]
    assert "sent with a key of 'site'" in refused[1].json()["detail"]


def test_votes_are_listed_with_a_cursor(server):
    before = votes(server, "site/camera-1")["next"]
    for number in range(3):
        for name in ("site/camera-1", "site/camera-2"):
            give_view(server, name, f"object {number}", 2)
    first = votes(server, "site/camera-2", after=before, limit=2)
    assert [each["object_id"] for each in first["votes"]] == ["object 0", "object 1"]
    assert all((each["vote"], each["expected_views"]) == (GREY_VOTE, 2) for each in first["votes"])
    rest = votes(server, "site/camera-1", after=first["next"], limit=2)
    assert [each["object_id"] for each in rest["votes"]] == ["object 2"]
    assert votes(server, "site/camera-1", after=rest["next"]) == {"votes": [], "next": rest["next"]}
    assert votes(server, "site/camera-1", limit=1)["votes"] == rest["votes"]
    assert votes(server, "mallory") == {"votes": [], "next": "0-0"}


@pytest.mark.parametrize("query", [{"after": "yesterday"}, {"after": "1-"}, {"limit": 0}, {"limit": 101}])
def test_what_is_no_cursor_and_no_limit(server, query):
    assert server.http.get("/v1/votes", params=query, headers=bearer("mallory")).status_code == 422


def test_without_a_key_there_is_nothing(server):
    assert server.http.get("/v1/votes").status_code == 401
    with pytest.raises(grpc.RpcError):
        server.link.WaitVote(WaitVoteRequest(object_id="cup"))


def test_the_latest_run_answers_for_the_name(server):
    def missing(name: str, object_id: str) -> object:
        return server.http.get(f"/v1/votes/{object_id}", headers=bearer(name)).json().get("missing_views")

    give_view(server, "site/camera-1", "car@monday", 1)
    give_view(server, "mallory", "car@friday", 1)
    assert missing("site/camera-1", "car") == 0
    assert missing("mallory", "car@monday") is None  # nor anything of another owner's
    assert missing("mallory", "ca") is None
    give_view(server, "mallory", "car", 3)
    assert missing("mallory", "car") == 2  # that very object, before any run of it
