"""Hostile inputs by the thousand, over every port: each is refused for a reason, and nothing is the worse for it.

pytest tests/faults/test_hostile.py --hostile-inputs 100000 --timeout 0
"""

import http.client
import json
import socket
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from hostile import FRAME_TYPE, Hostile
from processes import Running

from semlink.v1.link_pb2 import ClassifyRequest

pytestmark = pytest.mark.slow

ROUNDS = 5
GROWTH_MIB = 64
"""What a process may hold more of after all rounds than after the first of them."""
IN_FLIGHT, CONNECTIONS = 64, 6
METHODS = (
    "LinkService/Classify",
    "LinkService/Classify",
    "LinkService/WaitVote",
    "ChannelService/GetChannel",
    "Link/No",
)
REFUSED = {
    grpc.StatusCode.FAILED_PRECONDITION,  # tokens, where there is no decoder of any
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.ABORTED,
}
PRIVATE = ("Traceback", 'File "', "site-packages", "Error(")


def take_plans(emulator: Running) -> None:
    """As it was started, but for one device whose frames travel with plans."""
    emulator.http.post("/v1/reset").raise_for_status()
    emulator.http.put("/v1/impairments/planned", json={"type": "mimo_ofdm"}).raise_for_status()


def test_hostile_inputs(server, emulator, frames, other_frames, pytestconfig):
    total = pytestconfig.getoption("--hostile-inputs")
    sent: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    held = []
    for number in range(ROUNDS):
        hostile = Hostile(number, frames, other_frames)
        take_plans(emulator)  # which the round before may have changed
        for name, send, process, share in (
            ("gRPC, server", call, server, 0.35),
            ("gRPC, emulator", call, emulator, 0.25),
            ("gRPC, plans", plan, emulator, 0.01),
            ("gRPC, layers", layer, server, 0.05),
            ("REST, server", ask, server, 0.15),
            ("HTTP, emulator", control, emulator, 0.15),
            ("no HTTP, server", shout, server, 0.04),
        ):
            begun, count = time.perf_counter(), max(1, round(share * total / ROUNDS))
            send(process, hostile, count)
            seconds[name] += time.perf_counter() - begun
            sent[name] += count
        held.append({name: each.resident_mib for name, each in (("server", server), ("emulator", emulator))})
    for name, count in sent.items():
        print(f"{name}: {count} in {seconds[name]:.1f} s, {count / seconds[name]:.0f} a second")
    print(f"MiB held after each round: {held}")
    assert sum(sent.values()) >= 0.99 * total
    for name in held[0]:
        assert held[-1][name] < held[0][name] + GROWTH_MIB
    check_all_is_well(server, emulator, frames[0])


def check_all_is_well(server: Running, emulator: Running, frame: bytes) -> None:
    assert server.process.poll() is emulator.process.poll() is None
    assert emulator.http.post("/v1/reset").is_success
    for process in (server, emulator):
        assert process.link.Classify(ClassifyRequest(frame=frame), timeout=60).predictions
        assert '"exception"' not in process.logs
        assert len(process.http.get("/metrics").text.splitlines()) < 500  # no label is a stranger's to choose
    assert server.http.post("/v1/classify", content=frame, headers={"Content-Type": FRAME_TYPE}).is_success


def call(process: Running, hostile: Hostile, count: int) -> None:
    """Calls over gRPC, many at once, whose messages need not be any."""
    methods = {method: process.channel.unary_unary(f"/semlink.v1.{method}") for method in METHODS}

    def calls() -> Iterator[tuple[grpc.Future, bool]]:
        for _ in range(count):
            name = hostile.random.choice(METHODS)
            call = methods[name].future(hostile.message(), timeout=120, metadata=hostile.metadata())
            # Two bytes may be a good question for a channel's state.
            yield call, name.endswith("GetChannel")

    check_refused(calls())


def plan(process: Running, hostile: Hostile, count: int) -> None:
    """Frames with plans that can't be carried out."""
    check_refused(
        (process.link.Classify.future(hostile.planned_request(), timeout=120), False) for _ in range(count)
    )


def layer(process: Running, hostile: Hostile, count: int) -> None:
    """Layers of views that there are not."""
    check_refused(
        (process.link.Classify.future(hostile.layered_request(), timeout=120), False) for _ in range(count)
    )


def check_refused(calls: Iterable[tuple[grpc.Future, bool]]) -> None:
    """Each call is refused as it should be; those with True beside them may be answered too."""
    waiting: deque[tuple[grpc.Future, bool]] = deque()

    def check() -> None:
        call, may_be_answered = waiting.popleft()
        error = call.exception()
        if error is None and may_be_answered:
            return
        assert error is not None, "a hostile frame was answered"
        assert error.code() in REFUSED, error
        assert error.details()
        assert not any(word in error.details() for word in PRIVATE), error.details()

    for each in calls:
        waiting.append(each)
        if len(waiting) == IN_FLIGHT:
            check()
    while waiting:
        check()


def ask(process: Running, hostile: Hostile, count: int) -> None:
    """Requests of the server's REST API."""
    random = hostile.random

    def requests() -> Iterator[tuple]:
        for _ in range(count):
            ids = "object_id", "device_id", "frame_id", "expected_views"
            query = hostile.query(*ids, "top_k", "layer", "more", "wait_seconds", "x%00")
            match random.randrange(6):
                case 0:
                    yield "GET", f"/v1/votes/{hostile.query('a')}?{query}", None, {}
                case 1:
                    yield random.choice(("PATCH", "DELETE", "PUT")), f"/v1/{query}", b"x", {}
                case 2:
                    yield "POST", f"/v1/classify?{query}", hostile.frame(), {"Content-Type": FRAME_TYPE}
                case 3:
                    kind = random.choice(("", "text/html", "multipart/form-data", "image/png;" * 300, "\xff\xfe"))
                    yield "POST", "/v1/classify", hostile.frame(), {"Content-Type": kind}
                case 4:
                    kind = random.choice(("image/png", "image/jpeg"))
                    yield "POST", "/v1/classify", hostile.picture(), {"Content-Type": kind}
                case 5:
                    fields = {"Content-Type": FRAME_TYPE, "Semlink-Header-Tag": random.choice(("zz", "f" * 9000))}
                    yield "POST", "/v1/classify", hostile.frame(), fields | {"X-Request-Id": "\xe9" * 300}

    for status, answer in exchange(process, requests()):
        check_problem(status, answer)


def control(process: Running, hostile: Hostile, count: int) -> None:
    """Requests of the control plane, which may take what it is told if it is right."""
    random = hostile.random

    def requests() -> Iterator[tuple]:
        for _ in range(count):
            path = "/v1/impairments" + random.choice(("", "", f"/{hostile.query('a')}"))
            path = random.choice((path, path, "/v1/scenario"))
            kind = random.choice(("application/json", "application/json", "text/csv", "text/plain", "\xff"))
            yield random.choice(("PUT", "PATCH", "DELETE", "POST")), path, hostile.json(), {"Content-Type": kind}

    for status, answer in exchange(process, requests()):
        if not 200 <= status < 300:
            check_problem(status, answer)
        assert len(answer) < 100_000  # no answer is many times what it answers


def check_problem(status: int, answer: bytes) -> None:
    assert 400 <= status < 500, (status, answer[:500])
    problem = json.loads(answer)
    assert set(problem) == {"type", "title", "status", "detail", "instance", "reason"}
    assert problem["status"] == status
    assert problem["detail"]
    assert not any(word in problem["detail"] for word in PRIVATE), problem
    assert len(problem["detail"]) < 2000


def exchange(process: Running, requests: Iterator[tuple]) -> Iterator[tuple[int, bytes]]:
    """Makes the requests over a few connections that are kept, and tells status and body of each answer."""
    host, _, port = process.http_address.partition(":")

    def talk(share: list[tuple]) -> list[tuple[int, bytes]]:
        connection = http.client.HTTPConnection(host, int(port), timeout=120)
        connection._validate_path = lambda path: None  # paths need not be any
        answers = []
        for method, path, body, fields in share:
            connection.request(method, path, body, fields)
            answer = connection.getresponse()
            answers.append((answer.status, answer.read()))
        connection.close()
        return answers

    shares: list[list[tuple]] = [[] for _ in range(CONNECTIONS)]
    for number, request in enumerate(requests):
        shares[number % CONNECTIONS].append(request)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for answers in pool.map(talk, shares):
            yield from answers


def shout(process: Running, hostile: Hostile, count: int) -> None:
    """What is no HTTP, at the server's HTTP port, and no gRPC at its other one."""
    addresses = [process.ports[1]] * 3 + [process.ports[0]]

    def one(port: int, data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: connection.recv(65536), b""))
            except OSError:  # it has hung up already
                return b""

    cases = [(hostile.random.choice(addresses), hostile.head()) for _ in range(count)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        answers = list(pool.map(lambda case: (case[0], one(*case)), cases))
    heads = [answer for port, answer in answers if port == process.ports[1] and answer]
    assert all(b" 4" in answer[:13] or answer.startswith(b"HTTP/1.1 200") for answer in heads), heads
    assert not any(word.encode() in answer for word in PRIVATE for _, answer in answers)
