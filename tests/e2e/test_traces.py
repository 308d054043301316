"""One frame seen from outside: its id in the logs, and its trace, of three processes as they are."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from collector import attributes, collecting
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from processes import running, wait_until

from semlink.v1 import link_pb2

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROCESSES = ("semlink-device", "semlink-channel-emulator", "semlink-server")


def lines(logs: str) -> list[dict]:
    return [json.loads(line) for line in logs.splitlines() if line.startswith("{")]


PATIENT = """
import runpy
from semlink.service import otlp

otlp.CLOSE_SECONDS = 60.0
runpy.run_module("device", run_name="__main__", alter_sys=True)
"""
"""A device that waits until its last spans have left, however busy the machine is."""


def device(to: str, *flags: object, **environment: str) -> subprocess.CompletedProcess:
    command = ["-c", PATIENT, "--to", to, "--images", "chelsea", "--object-id", "cat", "--threads", 1, *flags]
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip


def test_one_frame_is_one_trace_and_one_id_in_three_processes():
    with collecting() as (collector, endpoint):
        standard = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "no_proxy": "127.0.0.1",
        }
        flags = ("--log-level", "debug", "--threads", 1, "--model", "deit_tiny_patch16_224")
        with (
            running("-m", "server", *flags, **standard) as server,
            running(
                "-m", "channel_emulator", "--upstream", server.grpc_address, "--log-level", "debug",
                "--channel", "mimo-ofdm", "--coding", "uncoded", **standard,
            ) as emulator,
        ):  # fmt: skip
            wait_until(lambda: server.is_ready and emulator.is_ready)
            ended = device(
                emulator.grpc_address,
                "--plan",
                "ia-qsmpa",
                "--expected-views",
                2,
                "--vote-seconds",
                0.2,
                **standard,
            )
            wait_until(lambda: collector.of("semlink-server", "WaitVote"), seconds=20)
            wait_until(lambda: len(collector.of("semlink-channel-emulator", "WaitVote")) == 2, seconds=20)
            refused = server.http.post(
                "/v1/classify", content=b"x", headers={
                    "Content-Type": "application/vnd.semlink.frame",
                    "traceparent": f"00-{7:032x}-{8:016x}-01",
                },
            )  # fmt: skip
            wait_until(lambda: collector.of("semlink-server", "http"), seconds=20)
            logs = {"channel_emulator": lines(emulator.logs), "server": lines(server.logs)}

    report = json.loads(ended.stdout)
    logs["device"] = lines(ended.stderr)
    request_id = report["request_id"]
    for process, event in [("device", "views are missing"), ("channel_emulator", "frame passed on"),
                           ("server", "answered")]:  # fmt: skip
        (line,) = [line for line in logs[process] if line["event"] == event]
        assert line["request_id"] == request_id
        assert line["trace_id"] == collector.one("semlink-device", "frame").trace_id.hex()

    def chain(*steps: tuple[str, str]) -> list[Span]:
        """Follows steps from parent to child through the processes."""
        found: list[Span] = []
        for process, name in steps:
            (span,) = [
                span
                for span in collector.of(process, name)
                if not found or span.parent_span_id == found[-1].span_id
            ]
            assert not found or span.trace_id == found[-1].trace_id
            found.append(span)
        return found

    of_device, of_emulator, of_server = PROCESSES
    root = collector.one(of_device, "frame")
    assert not root.parent_span_id
    for name in ("capture", "attention", "encode", "plan", "Classify", "WaitVote"):
        chain((of_device, "frame"), (of_device, name))
    chain((of_device, "frame"), (of_device, "plan"), (of_device, "GetChannel"), (of_emulator, "GetChannel"))
    link = [(of_device, "frame"), (of_device, "Classify"), (of_emulator, "Classify")]
    chain(*link, (of_emulator, "impair"))
    link += [(of_emulator, "Classify"), (of_server, "Classify")]
    passed, served = chain(*link)[2], chain(*link)[-1]
    steps = [chain(*link, (of_server, name))[-1] for name in
             ("queue for decoder", "decode", "queue for model", "inference")]  # fmt: skip
    times = [served.start_time_unix_nano, *(t for step in steps for t in
             (step.start_time_unix_nano, step.end_time_unix_nano)), served.end_time_unix_nano]  # fmt: skip
    # A span has times of the wall clock, its steps those of a counter that is set against it later.
    assert all(earlier <= later + 500_000_000 for earlier, later in itertools.pairwise(times))
    chain((of_device, "frame"), (of_device, "WaitVote"), (of_emulator, "WaitVote"), (of_emulator, "WaitVote"),
          (of_server, "WaitVote"))  # fmt: skip

    ids = {"object_id": "cat", "device_id": "device-1", "frame_id": 0}
    label = report["top1"]["label"]
    told = {"impairment": "mimo_ofdm", "bits_flipped": report["bits_flipped"]}
    assert attributes(root).items() >= (ids | told | {"label": label, "rho": report["rho"]}).items()
    assert attributes(passed).items() >= (ids | told | {"outcome": "answered"}).items()
    bits = report["header_bits"] + report["payload_bits"]
    assert attributes(served).items() >= (ids | {"label": label, "bits": 8 * -(-bits // 8)}).items()
    assert all(len(str(value)) <= 256 for _, span in collector.spans for value in attributes(span).values())
    assert all(span.status.code == Status.STATUS_CODE_UNSET for _, span in collector.spans if span.name != "http")

    assert refused.status_code == 400
    http = collector.one(of_server, "http")
    assert (int(http.trace_id.hex(), 16), int(http.parent_span_id.hex(), 16)) == (7, 8)
    assert (http.status.code, attributes(http)["status"]) == (Status.STATUS_CODE_ERROR, 400)


def test_a_collector_that_is_away_costs_a_log_line():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        nowhere = f"127.0.0.1:{nobody.getsockname()[1]}"
        flags = ("--upstream", nowhere, "--otlp-endpoint", f"http://{nowhere}")
        impatient = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "1"}
        with running("-m", "channel_emulator", *flags, **impatient) as emulator:
            for _ in range(3):
                with pytest.raises(grpc.RpcError) as error:
                    emulator.link.WaitVote(link_pb2.WaitVoteRequest(object_id="cat"), timeout=60)
                assert error.value.code() is grpc.StatusCode.UNAVAILABLE
                wait_until(lambda: "nobody takes the traces" in emulator.logs)
            emulator.process.send_signal(signal.SIGTERM)
            assert emulator.process.wait(15) == 0
            events = [line["event"] for line in lines(emulator.logs)]
            assert emulator.logs.splitlines() == [line for line in emulator.logs.splitlines() if line[0] == "{"]
    assert events.count("nobody takes the traces") == 1
    assert set(events) == {"listening", "passing frames on", "ready", "upstream failed", "nobody takes the traces",
                           "stopping", "stopped"}  # fmt: skip
