"""Pictures made to cost, over real sockets: frames and health are answered while they are decoded."""

import io
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image
from processes import has_ended, running, wait_until
from stub_server import STUB, Server

from semlink.vision.photos import find_photos

CAT = find_photos(["chelsea"])[0].read_bytes()
JPEG = {"Content-Type": "image/jpeg"}
MILLION_SEGMENTS = b"\xff\xd8" + 1_000_000 * b"\xff\xe1\x00\x12Exif\0\0          " + CAT[2:]
QUEUE = 20


@contextmanager
def ready(folder: Path) -> Iterator[Server]:
    """A server whose model answers at once."""
    (folder / "loaded").touch()
    (folder / "gate").touch()
    flags = "--queue-size", QUEUE, "--answer-within-seconds", 3600
    with running("-c", STUB, folder, *flags) as process:
        wait_until(lambda: process.is_ready)
        yield Server(process, folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with ready(tmp_path_factory.mktemp("stub")) as server:
        yield server


@pytest.fixture
def server_to_end(tmp_path) -> Iterator[Server]:
    with ready(tmp_path) as server:
        yield server


def large(kind: str, **options: object) -> bytes:
    """As many pixels as are allowed, in few bytes."""
    file = io.BytesIO()
    Image.new("L", (7000, 7000)).save(file, kind, **options)
    return file.getvalue()


def post(server: Server, picture: bytes) -> httpx.Response:
    address = f"http://{server.process.http_address}/v1/classify"
    # Unverified: to load the certificates that nobody shows here takes a busy machine a second for twenty of them.
    return httpx.post(address, content=picture, headers=JPEG, timeout=120, trust_env=False, verify=False)


def decoders(server: Server) -> list[int]:
    """Its decoder processes, without those that have ended."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            command = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(lines["PPid"]) == server.process.process.pid and b"picture_worker" in command:
            found.append(int(lines["Pid"]))
    if not found and not Path("/proc").exists():
        pytest.skip("processes are read from /proc")
    return found


def send(server: Server, number: int) -> None:
    for process in decoders(server):
        os.kill(process, number)


def all_else_is_answered(server: Server) -> None:
    for label in range(5):
        assert server.call(label).result(60).predictions[0].label == label
        assert server.post(label).status_code == 200
        assert server.http.get("/v2/health/live").is_success
        assert server.process.is_ready
        health = health_pb2_grpc.HealthStub(server.process.channel)
        serving = health.Check(health_pb2.HealthCheckRequest(), timeout=60)
        assert serving.status == health_pb2.HealthCheckResponse.SERVING


def waiting(server: Server) -> float:
    return server.process.metric("semlink_server_pictures_waiting")


def test_frames_and_health_are_answered_while_pictures_are_decoded_and_fill_their_queue(server):
    with ThreadPoolExecutor(QUEUE) as clients:
        send(server, signal.SIGSTOP)
        attack = [clients.submit(post, server, CAT) for _ in range(QUEUE)]
        wait_until(lambda: waiting(server) == QUEUE)
        refused = post(server, CAT)
        assert refused.status_code == 429
        assert f"{QUEUE} requests wait" in refused.json()["detail"]
        all_else_is_answered(server)
        assert not any(each.done() for each in attack)
        send(server, signal.SIGCONT)
        assert {each.result().status_code for each in attack} == {200}


def test_a_million_segments_are_refused_and_harm_nobody(server):
    picture = MILLION_SEGMENTS
    assert 19 << 20 < len(picture) <= 20 << 20
    with ThreadPoolExecutor(4) as clients:
        attack = [clients.submit(post, server, picture) for _ in range(4)]
        all_else_is_answered(server)
        for each in attack:
            assert each.result().status_code == 400
            assert "more than 1000 segments" in each.result().json()["detail"]


def test_refused_pictures_are_let_go_at_once(server_to_end):
    """600 MB in all, of which some 400 waited for Python's collector of cycles."""
    server = server_to_end
    before = server.process.resident_mib

    def refuse(_: int) -> int:
        return server.http.post("/v1/classify", content=MILLION_SEGMENTS, headers=JPEG, timeout=120).status_code

    with ThreadPoolExecutor(4) as clients:
        assert set(clients.map(refuse, range(32))) == {400}
    assert server.process.resident_mib < before + 300


def test_large_pictures_leave_no_memory_behind_in_the_server(server):
    """Decoded, the picture takes 200 MB."""
    picture = large("PNG", compress_level=1)
    assert post(server, CAT).status_code == 200
    before = peak_mib(server)
    assert post(server, picture).status_code == 200
    assert peak_mib(server) < before + 64


def peak_mib(server: Server) -> float:
    status = Path(f"/proc/{server.process.process.pid}/status")
    if not status.exists():
        pytest.skip("memory is read from /proc")
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024


def test_a_decoder_that_is_killed_is_replaced(server):
    before = decoders(server)
    send(server, signal.SIGKILL)
    assert post(server, CAT).status_code == 200
    wait_until(lambda: len(decoders(server)) == 2 and not {*decoders(server)} & {*before})


def test_a_stop_waits_for_no_decoder(server_to_end):
    server = server_to_end
    processes = decoders(server)
    assert len(processes) == 2
    send(server, signal.SIGSTOP)
    with ThreadPoolExecutor(4) as clients:
        for _ in range(4):
            clients.submit(post, server, CAT)
        wait_until(lambda: waiting(server) == 4)
        server.process.process.terminate()
        assert server.process.process.wait(60) == 0
    for process in processes:
        wait_until(lambda process=process: has_ended(process))


def test_decoders_end_with_a_server_that_is_killed(server_to_end):
    server = server_to_end
    processes = decoders(server)
    server.process.process.kill()
    for process in processes:
        wait_until(lambda process=process: has_ended(process))
