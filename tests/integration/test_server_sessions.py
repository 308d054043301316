"""Votes over real sockets: at their deadline, of servers that share a Redis, and while one of these is killed."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from processes import running, wait_until
from stub_server import STUB, Server

from semlink.v1.link_pb2 import ClassifyResponse, Vote, WaitVoteRequest

AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Server]]:
    """Starts servers with flags; their models answer at once, unless they are `held`."""
    with contextlib.ExitStack() as stack:
        started = []

        def start_one(*flags: object, held: bool = False) -> Server:
            folder = tmp_path / str(len(started))
            folder.mkdir()
            (folder / "loaded").touch()
            server = Server(stack.enter_context(running("-c", STUB, folder, *flags)), folder)
            started.append(server)
            if not held:
                server.let_go()
            wait_until(lambda: server.process.is_ready)
            return server

        yield start_one


def vote_on(server: Server, name: str, seconds: float = 0) -> Vote:
    response = server.link.WaitVote(
        WaitVoteRequest(object_id=name, wait_seconds=seconds), timeout=seconds + 20, wait_for_ready=True
    )
    assert response.HasField("vote")
    return response.vote


class TestDeadline:
    def test_over_both_protocols(self, start):
        server = start("--vote-after-seconds", 0.2)
        for device in "ab":
            response = server.call(7, object_id="cup", device_id=device, expected_views=4).result()
            last = response.WhichOneof("standing")
        vote = vote_on(server, "cup", 30)
        assert (vote.label, vote.votes) == (7, vote.views)
        late = server.call(3, object_id="cup", device_id="c", expected_views=4).result()
        assert late.predictions[0].label == 3
        assert late.vote == vote
        assert server.http.get("/v1/votes/cup").json()["vote"]["views"] == vote.views
        assert server.process.metric("semlink_server_partial_votes_total") == 1
        assert server.process.metric("semlink_server_late_views_total") == 1 + (last == "vote" and vote.views == 1)

    def test_quorum(self, start):
        after = 0.01
        server = start("--vote-after-seconds", after, "--quorum", 3)

        def view(device: str) -> ClassifyResponse:
            return server.call(7, object_id="cup", device_id=device, expected_views=4).result()

        assert [view(device).missing_views for device in "ab"] == [3, 2]
        time.sleep(10 * after)
        assert view("c").vote.views == 3


class TestReplicas:
    def test_one_that_is_killed_leaves_its_view_to_the_other(self, start, redis_server):
        dead = start("--redis", redis_server.url, held=True)
        alive = start("--redis", redis_server.url)
        for number, device in enumerate("abc"):
            response = alive.call(7, object_id="cup", device_id=device, expected_views=4).result()
            assert response.missing_views == 3 - number
        view = {"object_id": "cup", "device_id": "d", "expected_views": 4}
        lost = dead.call(3, **view)
        wait_until(lambda: dead.batches)
        waiting = alive.link.WaitVote.future(WaitVoteRequest(object_id="cup", wait_seconds=60), timeout=80)
        dead.process.process.kill()
        assert lost.exception(60).code() is grpc.StatusCode.UNAVAILABLE
        retried = alive.call(3, **view).result()
        assert not retried.repeated
        assert retried.vote.views == 4
        assert waiting.result().vote == retried.vote == vote_on(alive, "cup")

    def test_redis_killed_amid_the_views_of_four_devices(self, start, persistent_redis):
        """Devices send again what nobody answered, to either server; every vote is on four views."""
        servers = [start("--redis", persistent_redis.url) for _ in range(2)]
        rounds, labels, done, stopped = 40, {"a": 3, "b": 7, "c": 7, "d": 9}, threading.Semaphore(0), 0

        def device(name: str) -> list[ClassifyResponse]:
            answers = []
            for number in range(rounds):
                for attempt in range(1000):
                    server = servers[(number + attempt) % 2]
                    call = server.call(
                        labels[name], timeout=20, object_id=str(number), device_id=name, frame_id=number,
                        expected_views=4,
                    )  # fmt: skip
                    error = call.exception()
                    if error is None:
                        answers.append(call.result())
                        break
                    assert error.code() in AWAY, error
                    threading.Event().wait(0.02)
                done.release()
            return answers

        with ThreadPoolExecutor(4) as devices:
            sending = [devices.submit(device, name) for name in labels]
            for _ in range(3):
                for _ in range(30):
                    assert done.acquire(timeout=60)
                persistent_redis.kill()
                stopped += 1
                persistent_redis.start()
            answers = {name: each.result() for name, each in zip(labels, sending, strict=True)}
        assert stopped == 3
        for name, label in labels.items():
            assert [answer.predictions[0].label for answer in answers[name]] == [label] * rounds
        for number in range(rounds):
            votes = [vote_on(server, str(number)) for server in servers]
            assert votes[0] == votes[1]
            assert votes[0].fused.label == 7
            votes[1].ClearField("fused")
            assert votes[1] == Vote(label=7, name="grey 7", votes=2, views=4)
            told = {str(answers[name][number].vote) for name in labels if answers[name][number].HasField("vote")}
            assert told <= {str(votes[0])}
            assert told
        counted = [server.process.metric('semlink_server_votes_total{outcome="plurality"}') for server in servers]
        assert rounds - 3 * len(labels) <= sum(counted) <= rounds  # what was counted may not have been heard of


class TestRedisAway:
    def test_is_told_over_both_protocols_and_gets_over(self, start, redis_server):
        server = start("--redis", redis_server.url)
        before = server.process.logs
        redis_server.kill()
        try:
            view = {"object_id": "cup", "device_id": "a", "expected_views": 1}
            error = server.call(7, **view).exception()
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert "send the same request again" in error.details()
            answer = server.http.get("/v1/votes/cup")
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert str(redis_server.port) not in answer.text + error.details()
            assert server.call(7).result().predictions[0].label == 7  # what stands alone needs no Redis
            assert server.process.is_ready
            assert server.outcomes("grpc", "unavailable") == 1
        finally:
            redis_server.start()
        assert server.call(7, **view).result().vote.views == 1
        lines = server.process.logs.removeprefix(before)
        assert lines.count('"redis is away"') == lines.count('"redis is back"') == 1

    def test_an_address_that_is_none_is_explained_and_not_repeated(self):
        command = [sys.executable, "-m", "server", "--redis", "http://:secret@127.0.0.1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 1
        assert "server: --redis must be redis://HOST:PORT/DATABASE" in done.stderr
        assert "secret" not in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
