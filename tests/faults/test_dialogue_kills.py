"""Each process killed in the middle of a dialogue: nothing is lost, and nothing counted twice.

Devices, emulator and servers are real processes; their models are stubs, which start at once.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from calibrations import eager_calibration
from processes import Running, running, wait_until
from redis_server import PERSISTENT, running_redis
from relay import Relay
from stub_server import GREY

from device.spool import spool_contents
from semlink.vision.photos import find_photos

(CAT,) = find_photos(["chelsea"])
OBJECT, DEVICES = "cup/0", ("first", "second", "third")
ASKING = ("--wish-seconds", 60)

# A device without torch, which takes whatever it sees for a class, and is so sure of it.
DEVICE = """
import os
import numpy as np
import device.__main__
from device.opinion_encoder import OpinionEncoder

def look(pixels):
    logits = np.zeros(1000, np.float32)
    logits[int(os.environ["LABEL"])] = float(os.environ["LOGIT"])
    return np.full(196, 1 / 196, np.float32), logits

OpinionEncoder.of = classmethod(lambda cls, settings: cls(settings, look))
device.__main__.main()
"""


class Camera:
    """A device that looks at one object, under its name, however often it is killed."""

    def __init__(self, name: str, folder: Path, to: str) -> None:
        self.spool, self._output, self._log = (folder / f"{name}.{kind}" for kind in ("spool", "jsonl", "log"))
        flags = {
            "to": to, "images": "-", "object-id": "cup", "device-id": name, "expected-views": len(DEVICES),
            "policy": "ask", "spool": self.spool, "vote-seconds": 60, "retry-seconds": 60,
        }  # fmt: skip
        self._command = [sys.executable, "-c", DEVICE]
        self._command += [str(part) for flag, value in flags.items() for part in (f"--{flag}", value)]
        number = DEVICES.index(name)
        self._environment = os.environ | {"LABEL": str(100 + number), "LOGIT": str(4 + number)}

    def start(self, pictures: bytes = b"") -> None:
        """Starts it with pictures on its standard input, or with what its spool holds alone."""
        with self._output.open("ab") as output, self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=output, stderr=log, env=self._environment
            )
        self.process.stdin.write(pictures)
        self.process.stdin.close()

    def kill(self) -> None:
        """As kill -9 does."""
        self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def reports(self) -> list[dict]:
        return [json.loads(line) for line in self._output.read_text().splitlines()]


class World:
    """One server or several, an emulator before them, and three cameras before that."""

    def __init__(self, stack: ExitStack, folder: Path, servers: int, *flags: object) -> None:
        self._stack = stack
        self._flags = ("-c", GREY, "--calibration", eager_calibration(folder), *ASKING, *flags)
        self.servers = [self._server() for _ in range(servers)]
        self._relay = stack.enter_context(Relay([server.grpc_address for server in self.servers]))
        self.emulator = self._emulator()
        wait_until(lambda: all(server.is_ready for server in self.servers))
        self.cameras = [Camera(name, folder, self.emulator.grpc_address) for name in DEVICES]
        for camera in self.cameras:
            stack.callback(lambda camera=camera: camera.process.kill())

    def _server(self, ports: tuple[int, int] = (0, 0)) -> Running:
        return self._stack.enter_context(running(*self._flags, ports=ports))

    def _emulator(self, ports: tuple[int, int] = (0, 0)) -> Running:
        return self._stack.enter_context(
            running("-m", "channel_emulator", "--upstream", self._relay.address, ports=ports)
        )

    def kill_server(self, number: int = 0) -> None:
        """Kills a server, and starts another in its place."""
        killed = self.servers[number]
        killed.kill()
        self.servers[number] = self._server(killed.ports)

    def kill_emulator(self) -> None:
        self.emulator.kill()
        self.emulator = self._emulator(self.emulator.ports)

    def standing(self, device: str = "") -> dict:
        """What a server says of the object, and wants of a device."""
        told = self.servers[0].http.get(f"/v1/votes/{OBJECT}", params={"device_id": device} if device else {})
        return told.json() if told.is_success else {}

    def is_awaiting(self, missing: int) -> bool:
        return self.standing().get("missing_views") == missing


@pytest.fixture(params=["memory", "redis"])
def world(request, tmp_path) -> Iterator[World]:
    with ExitStack() as stack:
        if request.param == "memory":
            yield World(stack, tmp_path, 1)
        else:
            redis = stack.enter_context(running_redis("tests/faults/test_dialogue_kills.py", *PERSISTENT))
            yield World(stack, tmp_path, 2, "--redis", redis.url)


def test_each_process_may_be_killed_in_mid_dialogue(world):
    first, second, third = world.cameras
    picture = CAT.read_bytes()
    for camera in (first, second):
        camera.start(picture)
    wait_until(lambda: world.is_awaiting(1))

    # Opinions are in, and the vote is waited for.
    first.kill()
    first.start()
    world.kill_emulator()
    world.kill_server()
    wait_until(lambda: world.is_awaiting(1))

    # A picture is wished for, and cannot be sent.
    first.process.send_signal(signal.SIGSTOP)
    third.start(picture)
    wait_until(lambda: world.standing("first").get("wish"))
    first.kill()
    world.kill_server(len(world.servers) - 1)
    first.start()

    for camera in world.cameras:
        assert camera.process.wait(60) == 0, camera.log
    reports = [report for camera in world.cameras for report in camera.reports]
    assert [report["device_id"] for report in reports] == list(DEVICES)
    assert {report["object_id"] for report in reports} == {OBJECT}
    (vote,) = {json.dumps(report["vote"]) for report in reports}
    assert json.loads(vote)["views"] == 3
    assert [layer["source"] for layer in reports[0]["layers"]] == ["opinion", "codec"]
    for server in world.servers:
        listed = server.http.get("/v1/votes").json()["votes"]
        assert [(each["object_id"], each["vote"]["views"]) for each in listed] == [(OBJECT, 3)]
    for camera in world.cameras:
        assert len(list(spool_contents(camera.spool))) == 1, "views are left"
        assert "Traceback" not in camera.log
