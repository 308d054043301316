"""The server's queue over real sockets, before a model that stands still until it is told to go on."""

import contextlib
import json
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status
from processes import running, wait_until
from stub_server import STUB, Server, grey

from semlink.v1.link_pb2 import ClassifyRequest, WaitVoteRequest


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Server]]:
    """Starts a stub with flags; its model is loaded, but holds its first batch."""
    with contextlib.ExitStack() as stack:

        def started(*flags: object, loaded: bool = True, seconds: float = 0) -> Server:
            process = running("-c", STUB, tmp_path, *flags, STUB_SECONDS=str(seconds))
            server = Server(stack.enter_context(process), tmp_path)
            if loaded:
                (tmp_path / "loaded").touch()
                wait_until(lambda: server.process.is_ready)
            return server

        yield started


def fill(server: Server, labels: range) -> list[grpc.Future]:
    """The first is being looked at, the others wait."""
    calls = [server.call(labels[0])]
    wait_until(lambda: server.batches)
    for number, label in enumerate(labels[1:], 1):
        calls.append(server.call(label))
        wait_until(lambda number=number: server.depth == number)
    return calls


def reason_of(detail: AnyMessage) -> str:
    info = ErrorInfo()
    assert detail.Unpack(info)
    assert info.domain == "semlink"
    return info.reason


def refused(call: grpc.Future) -> grpc.RpcError:
    error = call.exception(60)
    assert isinstance(error, grpc.RpcError)
    return error


class TestFull:
    def test_both_protocols_refuse_at_once_and_say_when_to_come_back(self, start):
        server = start("--max-batch", 4, "--queue-size", 6, "--answer-within-seconds", 3600, seconds=2)
        calls = fill(server, range(7))
        for _ in range(5):
            error = refused(server.call(99))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "6 requests wait for the model" in error.details()
            told, detail = rpc_status.from_call(error).details
            assert reason_of(told) == "queue_full"
            info = RetryInfo()
            assert detail.Unpack(info)
            assert info.retry_delay.ToSeconds() == 14  # seven images, of 2 s
            answer = server.post(99)
            assert answer.status_code == 429
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["retry-after"] == "14"
            assert (answer.json()["status"], answer.json()["reason"]) == (429, "queue_full")
        assert server.depth == 6
        assert server.batches == [[0]]
        server.let_go()
        assert [call.result(60).predictions[0].label for call in calls] == list(range(7))
        assert server.batches == [[0], [1, 2, 3, 4], [5, 6]]
        assert server.post(9).json()["predictions"][0] == {"label": 9, "name": "grey 9", "confidence": 1.0}
        assert server.outcomes("grpc", "overloaded") == server.outcomes("http", "overloaded") == 5
        assert server.outcomes("grpc", "answered") == 7
        assert server.outcomes("http", "answered") == 1
        assert server.process.metric("semlink_server_batch_size_count") == 4
        assert server.process.metric("semlink_server_batch_size_sum") == 8
        assert server.process.metric("semlink_server_queue_wait_seconds_count") == 8

    def test_a_repeated_frame_is_answered_all_the_same(self, start):
        server = start("--queue-size", 1)
        server.let_go()
        ids = {"object_id": "cup", "device_id": "a", "expected_views": 1}
        first = server.call(3, **ids).result(60)
        (server.folder / "gate").unlink()
        (server.folder / "batches").unlink()
        held = fill(server, range(2))  # calls that nobody holds are cancelled
        assert refused(server.call(5)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        again = server.call(3, **ids).result(60)
        assert again.repeated
        assert again.predictions == first.predictions
        assert again.vote == first.vote
        assert not any(call.done() for call in held)

    def test_malformed_frames_are_refused_as_such_and_disturb_nobody(self, start):
        server = start("--queue-size", 2)
        calls = fill(server, range(3))
        bad = server.link.Classify.future(ClassifyRequest(frame=grey(1)[:-1] + b"x"), timeout=60)
        assert refused(bad).code() is grpc.StatusCode.INVALID_ARGUMENT
        picture = server.http.post("/v1/classify", content=b"none", headers={"Content-Type": "image/png"})
        assert picture.status_code == 429  # what it holds is found out later, if at all
        server.let_go()
        assert [call.result(60).predictions[0].label for call in calls] == [0, 1, 2]
        assert server.process.metric('semlink_server_frames_rejected_total{reason="crc"}') == 1
        assert server.process.metric("semlink_server_received_bits_total") == 4 * 8 * len(grey(0))
        assert server.outcomes("grpc", "refused") == 1


class TestTooLate:
    """Every image takes 2 s, so the server says."""

    def test_what_cannot_be_answered_in_time_is_refused_at_once(self, start):
        server = start("--max-batch", 4, "--answer-within-seconds", 6.5, seconds=2)
        calls = fill(server, range(3))
        error = refused(server.call(99))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "with 3 requests before it there would be an answer in 8 s" in error.details()
        assert "6.5 s that the server allows" in error.details()
        told, detail = rpc_status.from_call(error).details
        assert reason_of(told) == "too_late"
        info = RetryInfo()
        assert detail.Unpack(info)
        assert info.retry_delay.ToSeconds() == 6
        answer = server.post(99)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "6")
        server.let_go()
        assert [call.result(60).predictions[0].label for call in calls] == [0, 1, 2]
        assert server.outcomes("grpc", "overloaded") == server.outcomes("http", "overloaded") == 1

    def test_a_callers_own_deadline_counts_too(self, start):
        server = start("--request-timeout-seconds", 3, "--answer-within-seconds", 3600, seconds=2)
        calls = fill(server, range(1))
        for answer in (server.call(1, timeout=3), server.call(2, timeout=3, object_id="cup", device_id="a")):
            error = refused(answer)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "answer in 4 s, and its caller waits for " in error.details()
        answer = server.post(3)
        assert answer.status_code == 429
        left = answer.json()["detail"].rpartition("its caller waits for ")[2]
        assert 1 < float(left.removesuffix(" s")) <= 3
        calls.append(server.call(4, timeout=60, object_id="cup", device_id="a"))  # the one refused was not counted
        server.let_go()
        assert [call.result(60).predictions[0].label for call in calls] == [0, 4]


class TestLeaving:
    def test_whoever_hangs_up_or_runs_out_of_time_is_never_looked_at(self, start):
        server = start("--request-timeout-seconds", 3600)
        calls = fill(server, range(2))
        gone = server.call(2)
        view = server.call(3, object_id="cup", device_id="a", expected_views=2)
        wait_until(lambda: server.depth == 3)
        gone.cancel()
        view.cancel()
        wait_until(lambda: server.depth == 1)
        assert refused(server.call(4, timeout=2)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        with pytest.raises(httpx.ReadTimeout):
            server.post(5, timeout=httpx.Timeout(60, read=2))
        wait_until(lambda: server.depth == 1)
        server.let_go()
        assert [call.result(60).predictions[0].label for call in calls] == [0, 1]
        assert server.batches == [[0], [1]]
        assert server.outcomes("http", "cancelled") == 1
        lost = server.outcomes("grpc", "cancelled") + server.outcomes("grpc", "expired")
        assert lost == 3  # the client's deadline may tell the server first, or the server's own clock
        again = server.call(3, object_id="cup", device_id="a", expected_views=2).result(60)
        assert not again.repeated

    def test_over_http_the_server_has_a_deadline_of_its_own(self, start):
        server = start("--request-timeout-seconds", 0.2)
        calls = [server.call(0)]
        wait_until(lambda: server.batches)
        answer = server.post(1)
        assert answer.status_code == 504
        assert answer.headers["content-type"] == "application/problem+json"
        assert server.depth == 0
        server.let_go()
        assert calls[0].result(60).predictions[0].label == 0
        assert server.batches == [[0]]
        assert server.outcomes("http", "expired") == 1


class TestWaiting:
    def test_those_that_wait_for_votes_leave_room_for_frames(self, start):
        server = start("--max-concurrent-calls", 1, "--max-waiting-calls", 3)
        server.let_go()
        ids = {"object_id": "cup", "expected_views": 2}
        server.call(1, device_id="a", **ids).result(60)
        waits = WaitVoteRequest(object_id="cup", wait_seconds=60)
        waiting = [server.link.WaitVote.future(waits, timeout=120) for _ in range(4)]
        wait_until(lambda: any(call.done() for call in waiting))
        one_too_many = next(call for call in waiting if call.done())
        waiting.remove(one_too_many)
        error = refused(one_too_many)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "3 calls wait for votes" in error.details()
        assert rpc_status.from_call(error).details
        answer = server.http.get("/v1/votes/cup?wait_seconds=60")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert server.link.WaitVote(WaitVoteRequest(object_id="cup"), timeout=60).missing_views == 1
        vote = server.call(1, device_id="b", **ids).result(60).vote
        assert [call.result(60).vote for call in waiting] == [vote] * 3
        assert server.process.metric('semlink_server_votes_total{outcome="unanimous"}') == 1

    def test_http_connections_are_bounded(self, start):
        server = start("--max-http-connections", 2)
        server.let_go()
        server.call(1, device_id="a", object_id="cup", expected_views=2).result(60)
        host, _, port = server.process.http_address.partition(":")
        waits = b"GET /v1/votes/cup?wait_seconds=60 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with contextlib.ExitStack() as stack:

            def is_full() -> bool:
                """With one more that waits for a vote; those that say nothing are closed meanwhile."""
                waiting = stack.enter_context(socket.create_connection((host, int(port)), timeout=60))
                waiting.sendall(waits)
                return status() == 503

            def status() -> int:
                try:
                    return server.http.get("/v1/votes/cup").status_code
                except httpx.TransportError:
                    return 0  # the client's connection was idle, and closed for another

            wait_until(is_full)
            assert server.process.is_ready
        wait_until(lambda: status() == 200)


def test_one_id_for_a_request_and_all_that_is_logged_for_it(start):
    server = start("--log-level", "debug")
    server.let_go()
    given = (("x-request-id", "from-the-caller"),)
    call = server.call(1, metadata=given, object_id="cup", device_id="a", frame_id=7)
    call.result(60)
    assert ("x-request-id", "from-the-caller") in call.trailing_metadata()
    ids = {"request_id": "from-the-caller", "object_id": "cup", "device_id": "a", "frame_id": 7}
    lines = {line["event"]: line for line in map(json.loads, server.process.logs.splitlines())}
    for event in ("vote", "answered"):
        assert lines[event].items() >= ids.items()
    for wrong in ("", "x" * 129, "two words", "naïve"):
        answer = server.http.get("/v2/health/live", headers={"X-Request-Id": wrong.encode()})
        assert len(answer.headers["x-request-id"]) == 32
    assert server.http.get("/", headers={"X-Request-Id": "mine"}).headers["x-request-id"] == "mine"
    error = refused(server.call(2, metadata=given, object_id="cup", device_id="a"))
    assert ("x-request-id", "from-the-caller") in error.trailing_metadata()


def test_an_end_while_the_model_loads_is_prompt(start):
    server = start(loaded=False)
    assert server.http.get("/v2/health/live").is_success
    assert server.http.get("/v2/health/ready").status_code == 503
    assert refused(server.call(1)).code() is grpc.StatusCode.UNAVAILABLE
    assert server.outcomes("grpc", "unavailable") == 1
    server.process.process.send_signal(signal.SIGTERM)
    assert server.process.process.wait(60) == 0  # though what loads would never end
    assert "Traceback" not in server.process.logs


def test_at_the_end_those_that_wait_for_votes_are_told(start):
    server = start("--max-waiting-calls", 2)
    server.let_go()
    server.call(1, object_id="cup", device_id="a", expected_views=2).result(60)

    def over_grpc() -> grpc.RpcError:
        waits = WaitVoteRequest(object_id="cup", wait_seconds=60)
        while (
            error := refused(server.link.WaitVote.future(waits, timeout=120))
        ).code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            pass  # the look below has the place
        return error

    def over_http() -> httpx.Response:
        while (answer := server.http.get("/v1/votes/cup?wait_seconds=60", timeout=120)).status_code == 429:
            pass
        return answer

    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(over_grpc), pool.submit(over_http)]
        wait_until(lambda: server.http.get("/v1/votes/cup?wait_seconds=0.01").status_code == 429)  # both wait
        server.process.process.send_signal(signal.SIGTERM)
        error, answer = (call.result(60) for call in calls)
    assert (error.code(), answer.status_code) == (grpc.StatusCode.UNAVAILABLE, 503)
    assert answer.headers["content-type"] == "application/problem+json"
    assert error.details() == answer.json()["detail"] == "the server is about to stop; ask again"
    assert server.process.process.wait(60) == 0
    assert "Traceback" not in server.process.logs


def test_over_version_6_of_ip(start):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no ::1")
    server = start("--host", "::1")
    assert server.process.grpc_address.startswith("[::1]:")
    server.let_go()
    assert server.call(1).result(60).predictions[0].label == 1
    assert server.post(2).json()["predictions"][0]["label"] == 2


def test_it_listens_before_torch_is_loaded(start):
    server = start()
    server.let_go()
    server.call(1).result(60)
    lines = map(json.loads, (server.folder / "batches").read_text().splitlines())
    assert [line["torch"] for line in lines] == [False]
