"""The server on Ray Serve, as processes: two replicas behind its ingress, one of which is killed under load."""

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import yaml
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from processes import START_SECONDS, Running, keep_port, running, skip_without, wait_until
from redis_server import running_redis

from semlink.service.settings import StartupError
from semlink.source.iaq.coder import encode
from semlink.v1.link_pb2 import ClassifyRequest, ClassifyResponse, WaitVoteRequest
from semlink.vision.images import model_pixels, open_image
from semlink.vision.photos import find_photos
from semlink.vision.weights import DEVICE_MODEL, find_weights
from server.settings import ServerSettings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KEY = "a-key-of-sixteen-characters-or-more"
HEADERS = {"authorization": f"Bearer {KEY}"}
METADATA = tuple(HEADERS.items())
FRAME_TYPE = "application/vnd.semlink.frame"
AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""What devices send a frame again after."""
STARTS = 3
"""Ray gives its own processes 15 s to start, however busy the machine is, on ports that were free before."""


@pytest.fixture(scope="module", autouse=True)
def without_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        skip_without("tests/integration/test_ray.py needs Ray: pip install 'semlink[ray]'")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Running]:
    weights = tmp_path_factory.mktemp("weights")
    (weights / f"{DEVICE_MODEL}.safetensors").symlink_to(find_weights(DEVICE_MODEL).path)
    flags = ["--cluster", "ray", "--replicas", 2, "--max-waiting-calls", 2, "--model", DEVICE_MODEL]
    with (
        running_redis("tests/integration/test_ray.py") as redis,
        tempfile.TemporaryDirectory(prefix="ray") as folder,  # a short name: sockets lie in it
        contextlib.ExitStack() as stack,
    ):
        environment = {"SEMLINK_WEIGHTS": str(weights), "SEMLINK_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        environment |= {"SEMLINK_API_KEYS": f"test {KEY}", "SEMLINK_REDIS": redis.url, "RAY_TMPDIR": folder}
        for start in range(1, STARTS + 1):
            try:
                process = stack.enter_context(running("-m", "server", *flags, **environment))
                break
            except AssertionError:
                if start == STARTS:
                    raise
        assert process.is_ready
        yield process


@pytest.fixture(scope="module")
def frames() -> list[bytes]:
    """Four views of the cat."""
    cat = open_image(find_photos(["chelsea"])[0])
    views = (cat, cat.crop((60, 20, 400, 290)), cat.rotate(5), cat.point(lambda value: int(0.8 * value)))
    return [encode(model_pixels(view), np.ones(196)).frame.to_bytes() for view in views]


def descendants(pid: int) -> dict[int, str]:
    """Processes that it has started, and these in turn: their ids and names, but for those that have ended."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(folder.name)] = int(parent)
                names[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {each: names[each] for each in found - {pid}}


def command_of(process: int) -> str:
    """Of a process that runs; empty of one that has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


def replicas(server: Running) -> set[int]:
    return {pid for pid, name in descendants(server.process.pid).items() if name.startswith("ray::ServeReplica")}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own
def test_what_can_not_be_kept_is_said_before_anything_starts():
    from server.cluster.application import application

    for wrong, reason in (
        ({"replicas": 2}, "several replicas need --redis"),
        ({"max_replicas": 2}, "several replicas need --redis"),
        ({"replicas": 3, "max_replicas": 2}, "--max-replicas 2 must be no less than --replicas 3"),
        ({"tls_certificate": Path("x")}, "gRPC ingress speaks no TLS"),
    ):
        with pytest.raises(StartupError, match=reason):
            application(ServerSettings(**wrong))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_configuration_for_a_cluster_is_one():
    from ray._common.utils import import_attr
    from ray.serve.schema import ServeDeploySchema

    written = yaml.safe_load((ROOT / "deploy" / "ray-serve.yaml").read_text())
    configuration = ServeDeploySchema(**written)
    (server,) = configuration.applications
    settings = ServerSettings(**server.args)
    assert import_attr(server.import_path)(settings)
    assert (configuration.grpc_options.port, configuration.http_options.port) == (
        settings.grpc_port,
        settings.http_port,
    )
    for name in configuration.grpc_options.grpc_servicer_functions:
        assert callable(import_attr(name))


def test_calls_from_elsewhere_are_refused_where_the_host_is_this_one():
    from server.cluster.replica import NotFromHere, check_origin

    for peer in ("ipv4:127.0.0.1:40000", "ipv6:%5B::1%5D:40000"):
        check_origin(peer)
    for peer in ("ipv4:192.0.2.7:40000", "ipv6:%5B2001:db8::1%5D:40000", "unix:/somewhere"):
        with pytest.raises(NotFromHere):
            check_origin(peer)


class Context:
    """What a proxy knows of a call that waits for so many seconds."""

    def __init__(self, seconds: float | None) -> None:
        self.time_remaining = lambda: seconds
        self.invocation_metadata = lambda: (("x-request-id", "mine"), ("semlink-time-left", "1e9"))


@pytest.mark.parametrize("seconds", [None, 2.5])
def test_the_ingress_tells_how_long_a_caller_waits_and_nobody_else_does(seconds):
    from server.cluster.ingress import ProxyContext, ReplicaContext

    context = ReplicaContext(ProxyContext(Context(seconds)))
    assert context.time_remaining() == seconds
    assert dict(context.invocation_metadata())["x-request-id"] == "mine"


def test_refusals_are_the_servers_own(server, frames):
    with pytest.raises(grpc.RpcError) as caught:
        server.link.Classify(
            ClassifyRequest(frame=b"none"), timeout=60, metadata=(*METADATA, ("x-request-id", "mine"))
        )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "(truncated)" in caught.value.details()
    assert dict(caught.value.trailing_metadata())["x-request-id"] == "mine"
    answer = server.http.post("/v1/classify", content=b"none", headers={**HEADERS, "content-type": FRAME_TYPE})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert "(truncated)" in answer.json()["detail"]


def answer_of_ray(address: str, token: str | None) -> grpc.StatusCode:
    """Asks Ray's own control service, as something that wants to run code there would do first."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/ray.rpc.JobInfoGcsService/GetNextJobID").future(
            b"", timeout=120, metadata=metadata, wait_for_ready=True
        )
        return call.code()


def test_ray_itself_wants_the_token(server):
    processes = " ".join(descendants(server.process.pid).values())
    address = re.search(r"--gcs-address=([\d.:]+)", processes)[1]
    for token in (None, "0" * 64):
        assert answer_of_ray(address, token) is grpc.StatusCode.UNAUTHENTICATED


def test_a_node_of_the_recipe_wants_its_token(tmp_path):
    """The image's environment and entry point, as docs/cluster.md has them, around `ray start`."""
    recipe = re.search(r"```dockerfile\n(.*?)```", (ROOT / "docs" / "cluster.md").read_text(), re.DOTALL)[1]
    environment = dict(pair.split("=") for pair in re.search(r"^ENV (.*)$", recipe, re.MULTILINE)[1].split())
    entry = json.loads(re.search(r"^ENTRYPOINT (.*)$", recipe, re.MULTILINE)[1])
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = keep_port(0)
    port = kept.getsockname()[1]
    flags = f"--head --block --port={port} --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0"
    flags += " --num-cpus=1 --include-dashboard=false --node-ip-address=127.0.0.1"
    with kept, tempfile.TemporaryDirectory(prefix="ray") as folder:
        node = subprocess.Popen(
            [*entry, "ray", "start", *flags.split(), f"--temp-dir={folder}"],
            env=os.environ | environment | {"PATH": programs, "HOME": str(tmp_path)},
        )
        try:
            assert answer_of_ray(f"127.0.0.1:{port}", None) is grpc.StatusCode.UNAUTHENTICATED
            token = (tmp_path / ".ray" / "auth_token").read_text()
            assert answer_of_ray(f"127.0.0.1:{port}", token) is grpc.StatusCode.OK
        finally:
            node.terminate()
            node.wait(120)


def test_both_ingresses_want_the_key(server, frames):
    with pytest.raises(grpc.RpcError) as caught:
        server.link.Classify(ClassifyRequest(frame=frames[0]), timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert server.http.get("/v1/votes/cup").status_code == 401
    assert server.http.get("/v2/health/live").is_success
    check = health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert check.status == health_pb2.HealthCheckResponse.SERVING


def test_whoever_is_too_many_is_told_when_to_come_back(server, frames):
    request = ClassifyRequest(frame=frames[0], object_id="awaited", device_id="a", expected_views=2)
    assert server.link.Classify(request, timeout=60, metadata=METADATA).missing_views == 1
    wait = WaitVoteRequest(object_id="awaited", wait_seconds=60)
    calls = [server.link.WaitVote.future(wait, timeout=80, metadata=METADATA) for _ in range(5)]
    wait_until(lambda: any(call.done() for call in calls))  # each of the two replicas lets two wait
    refused = next(call for call in calls if call.done())
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    retry, told = RetryInfo(), rpc_status.from_call(refused)
    assert told.details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 1000
    request.device_id = "b"
    vote = server.link.Classify(request, timeout=60, metadata=METADATA).vote
    answered = [call.result().vote for call in calls if call.exception() is None]
    assert answered == [vote] * len(answered)
    assert answered


def test_a_replica_is_killed_amid_the_views_of_four_devices(server, frames):
    """Devices send again what nobody answered; every vote is on four views, and everybody hears the same one."""
    objects, done = [f"object {number}" for number in range(12)], threading.Semaphore(0)

    def over_grpc(frame: bytes, **ids) -> ClassifyResponse:
        while True:
            call = server.link.Classify.future(ClassifyRequest(frame=frame, **ids), timeout=20, metadata=METADATA)
            if call.exception() is None:
                return call.result()
            assert call.code() in AWAY, call
            threading.Event().wait(0.1)

    def over_http(frame: bytes, **ids) -> dict:
        while True:
            with contextlib.suppress(httpx.TransportError):
                headers = {**HEADERS, "content-type": FRAME_TYPE}
                answer = server.http.post("/v1/classify", params=ids, content=frame, headers=headers)
                if answer.is_success:
                    return answer.json()
                assert answer.status_code >= 500 or answer.status_code in (408, 429), answer.text
            threading.Event().wait(0.1)

    def device(name: str, frame: bytes) -> list:
        send, answers = over_http if name == "d" else over_grpc, []
        for number, thing in enumerate(objects):
            answers.append(send(frame, object_id=thing, device_id=name, frame_id=number, expected_views=4))
            done.release()
        return answers

    before = replicas(server)
    assert len(before) == 2
    with ThreadPoolExecutor(4) as devices:
        sending = {name: devices.submit(device, name, frame) for name, frame in zip("abcd", frames, strict=True)}
        for _ in range(12):
            assert done.acquire(timeout=60)
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        answers = {name: each.result() for name, each in sending.items()}

    for number, thing in enumerate(objects):
        request = WaitVoteRequest(object_id=thing)
        vote = server.link.WaitVote(request, timeout=60, metadata=METADATA, wait_for_ready=True).vote
        assert vote.views == 4
        told = [answers[name][number].vote for name in "abc" if answers[name][number].HasField("vote")]
        assert all(each == vote for each in told)
        in_json = answers["d"][number]["vote"]
        assert told or in_json
        if in_json:
            assert in_json.pop("fused")["label"] == vote.fused.label
            assert in_json == {"label": vote.label, "name": vote.name, "votes": vote.votes, "views": 4}
        again = over_grpc(frames[0], object_id=thing, device_id="a", frame_id=number, expected_views=4)
        assert again.repeated
        assert again.predictions == answers["a"][number].predictions
        assert again.vote == vote
    wait_until(lambda: len(replicas(server) - {killed}) == 2, START_SECONDS)


def test_sigterm_ends_all_of_it(server):
    started = descendants(server.process.pid)
    assert len(started) > 4
    server.process.terminate()
    assert server.process.wait(60) == 0
    wait_until(lambda: not any(map(command_of, started)), 60)
    assert '"event": "stopped"' in server.logs
