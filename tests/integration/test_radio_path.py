"""What crosses the radio: headers that devices vouch for, and patches that the channel says it has lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from processes import running, wait_until

from semlink.service.header_tag import header_tag
from semlink.source.iaq.coder import encode
from semlink.source.iaq.frame import IaqFrame
from semlink.v1.link_pb2 import ClassifyRequest
from semlink.vision.images import model_pixels, open_image
from semlink.vision.photos import find_photos
from semlink.vision.weights import DEVICE_MODEL

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
PIXELS = model_pixels(open_image(find_photos(["chelsea"])[0]))
FRAME = encode(PIXELS, np.random.default_rng(0).random(196)).frame
LOST = [0, 17, 17, 100, 195]
REJECTED = 'semlink_server_frames_rejected_total{{reason="{}"}}'
PICTURE = find_photos(["chelsea"])[0].read_bytes()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    (folder / "keys").write_text(f"camera {KEY.hex()}\ncamera-2 {OTHER_KEY.hex()}\n")
    (folder / "camera").write_text(KEY.hex())
    return folder


@pytest.fixture(scope="module")
def server(files):
    """A server that knows its devices' keys."""
    flags = ("--model", DEVICE_MODEL, "--threads", 1, "--header-keys-file", files / "keys", "--log-level", "debug")
    with running("-m", "server", *flags) as process:
        wait_until(lambda: process.is_ready)
        yield process
        assert KEY.hex() not in process.logs


def tagged(frame: IaqFrame = FRAME, key: bytes = KEY, **changes) -> ClassifyRequest:
    view = {"object_id": "", "device_id": "camera", "frame_id": 0, "expected_views": 1} | changes
    data = frame.to_bytes()
    return ClassifyRequest(frame=data, header_tag=header_tag(key, data[: frame.header_bits // 8], **view), **view)


def refusal_of(server, request) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        server.link.Classify(request, timeout=60)
    return caught.value.code(), caught.value.details()


def test_a_frame_that_its_device_vouches_for_is_answered(server):
    request = tagged(object_id="tagged", expected_views=2)
    assert server.link.Classify(request, timeout=60).missing_views == 1
    assert server.link.Classify(request, timeout=60).repeated  # a replay counts nothing twice
    assert server.link.Classify(tagged(object_id="layered", more=2), timeout=60).predictions
    alone = tagged()
    alone.expected_views = 0  # which stands for 1
    assert server.link.Classify(alone, timeout=60).predictions


@pytest.mark.parametrize(
    "change",
    [
        {"header_tag": b""},
        {"header_tag": bytes(16)},
        {"device_id": "camera-2"},
        {"device_id": "stranger"},
        {"object_id": "another"},
        {"frame_id": 1},
        {"expected_views": 2},
        {"more": 2},
        {"frame": encode(PIXELS, np.random.default_rng(1).random(196)).frame.to_bytes()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_the_device_did_not_say_is_refused(server, change):
    request = tagged(object_id="cup")
    for name, value in change.items():
        setattr(request, name, value)
    before = server.metric(REJECTED.format("tag"))
    code, details = refusal_of(server, request)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert details == "the header's tag is not one that this device makes with its key"
    assert server.metric(REJECTED.format("tag")) == before + 1


def test_the_payload_stays_open_to_damage(server):
    request = tagged()
    request.frame = request.frame[:-1000] + bytes(1000)
    assert server.link.Classify(request, timeout=60).predictions


def test_over_rest_the_tag_is_a_header_field_and_pictures_have_none(server):
    request = tagged()

    def status(kind="application/vnd.semlink.frame", content=request.frame, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()} | {"Content-Type": kind}
        answer = server.http.post("/v1/classify?device_id=camera", content=content, headers=headers)
        return answer.status_code

    assert status(Semlink_Header_Tag=request.header_tag.hex()) == 200
    assert status() == status(Semlink_Header_Tag="no tag") == status(Semlink_Header_Tag="00" * 16) == 403
    assert status("image/png", PICTURE, Semlink_Header_Tag=request.header_tag.hex()) == 403


def test_lost_patches_are_taken_as_not_sent(server):
    request = tagged()
    request.lost_patches.extend(LOST)
    request.echo_frame = True
    answer = server.link.Classify(request, timeout=60)
    assert answer.received_frame == FRAME.without(LOST).to_bytes()
    expected = server.link.Classify(tagged(FRAME.without(LOST)), timeout=60)
    assert answer.predictions == expected.predictions
    whole = server.link.Classify(tagged(), timeout=60)
    assert answer.predictions != whole.predictions


def test_a_retry_that_loses_other_patches_is_the_same_frame(server):
    request = tagged(object_id="retried", expected_views=2)
    server.link.Classify(request, timeout=60)
    request.lost_patches.extend(LOST)
    assert server.link.Classify(request, timeout=60).repeated


@pytest.mark.parametrize("lost", [[196], [2**32 - 1], [0] * 197, [1] * 500_000])
def test_lost_patches_lie_within_the_grid(server, lost):
    request = tagged()
    request.lost_patches.extend(lost)
    before = server.metric(REJECTED.format("lost_patches"))
    code, details = refusal_of(server, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details == "frame: lost patches must be at most 196 numbers within 0..195 (lost_patches)"
    assert server.metric(REJECTED.format("lost_patches")) == before + 1


def device(address: str, *flags: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "device", "--to", address, "--images", "chelsea", "--device-id", "camera"]
    command += ["--threads", "1", *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=os.environ | environment)


def test_a_tag_survives_a_channel_that_loses_blocks(server, files):
    flags = ("--channel", "finite-blocklength", "--target-bler", 0.3, "--snr", 10)
    with running("-m", "channel_emulator", "--upstream", server.grpc_address, *flags) as emulator:
        wait_until(lambda: emulator.is_ready)
        planned = ("--plan", "ia-qsmpa", "--object-id", "lossy", "--pictures", files / "pictures")
        done = device(emulator.grpc_address, *planned, "--header-key-file", files / "camera")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["transmission"]["blocks_lost"] > 20
    assert report["vote"]["views"] == 1
    assert open_image(Path(report["picture"])).size == (4 * 232 + 8, 256)
    assert KEY.hex() not in done.stdout + done.stderr


def test_a_device_with_another_key_is_told(server):
    done = device(server.grpc_address, "--object-id", "forged", SEMLINK_HEADER_KEY=OTHER_KEY.hex())
    assert done.returncode == 1
    assert "UNAUTHENTICATED: the header's tag" in done.stderr
    assert OTHER_KEY.hex() not in done.stdout + done.stderr


@pytest.mark.parametrize("module", ["server", "device"])
def test_a_file_without_keys_is_explained(files, module):
    (files / "empty").write_text("")
    (files / "empty").chmod(0o600)
    flags = {
        "server": ["--header-keys-file", files / "empty", "--grpc-port", "0", "--http-port", "0"],
        "device": ["--header-key-file", files / "empty", "--to", "a:1", "--images", "chelsea", "--object-id", "x"],
    }
    command = [sys.executable, "-m", module, *map(str, flags[module])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{module}: ")
    assert str(files / "empty") in done.stderr
    assert "Traceback" not in done.stderr
