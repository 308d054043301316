"""A third source coder, that of docs/add-a-coder.md: from device to server, and from the command line."""

import json
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from PIL import Image
from processes import running, wait_until

from semlink.source.iaq.coder import encode
from semlink.v1.link_pb2 import ClassifyRequest
from semlink.vision.images import model_pixels, open_image
from semlink.vision.photos import find_photos

GREY = str(Path(__file__).parents[1] / "grey_coder.py")
FRAME_TYPE = "application/vnd.semlink.frame"
REJECTED = 'semlink_server_frames_rejected_total{reason="no_decoder"}'
PIXELS = model_pixels(open_image(find_photos(["chelsea"])[0]))
HEADER_BYTES = 8 + 2 + 25


def run(*arguments):
    return subprocess.run(
        [sys.executable, GREY, *map(str, arguments)], capture_output=True, text=True, timeout=200
    )


@pytest.fixture(scope="module")
def server(offline):
    with running(GREY, "server", **offline) as process:
        wait_until(lambda: process.is_ready)
        yield process


@pytest.fixture(scope="module")
def grey_frame(tmp_path_factory):
    path = tmp_path_factory.mktemp("grey") / "cat.slf"
    done = run("semlink", "encode", "chelsea", path, "--source", "grey", "--share", "0.25")
    assert done.returncode == 0, done.stderr
    return path


def patch_means(pixels):
    return pixels.reshape(14, 16, 14, 16, 3).mean(axis=(1, 3, 4)).ravel()


def test_its_frames_go_from_a_device_through_the_emulator_to_the_server(server, offline, tmp_path):
    with running(GREY, "channel_emulator", "--upstream", server.grpc_address, "--ber", "0") as emulator:
        assert emulator.http.put("/v1/impairments", json={"default": {"type": "bsc", "ber": 0.05}}).is_success
        flags = ("--to", emulator.grpc_address, "--images", "chelsea", "--object-id", "grey", "--threads", "1")
        done = run("device", *flags, "--source", "grey", "--share", "0.5", "--pictures", tmp_path)
        assert done.returncode == 0, done.stderr
        assert emulator.http.get("/v1/impairments").json()["default"]["ber"] == 0.05
    report = json.loads(done.stdout)
    assert report["source"] == "grey"
    assert (report["header_bits"], report["payload_bits"]) == (8 * HEADER_BYTES, 8 * 98)
    assert report["impairment"] == "bsc"
    assert 0 < report["bits_flipped"] < 8 * 98
    assert 0 < report["top1"]["confidence"] <= 1
    assert report["vote"]["votes"] == 1
    with Image.open(report["picture"]) as picture:
        received = np.asarray(picture.convert("RGB"))[24:248, -232:-8].astype(float)
    sent = patch_means(PIXELS.astype(float))
    whole = received.reshape(14, 16, 14, 16, 3)
    assert (whole == whole[:, :1, :, :1, :1]).all()  # plain patches
    right, grey = np.abs(patch_means(received) - sent) <= 0.5, patch_means(received) == 128
    assert np.sum(~right & ~grey) <= report["bits_flipped"]  # of a byte each
    assert 98 - report["bits_flipped"] <= np.sum(~grey) <= 98


def test_a_frame_for_another_model_is_refused_while_it_is_decoded(server, tmp_path):
    done = run("semlink", "encode", "chelsea", tmp_path / "x.slf", "--source", "grey", "--share", "0")
    assert done.returncode == 0, done.stderr
    view = {"object_id": "foreign", "device_id": "a", "frame": (tmp_path / "x.slf").read_bytes()}
    for count in (1, 2):  # it is not counted as a view, so that it can come again
        with pytest.raises(grpc.RpcError) as caught:
            server.link.Classify(ClassifyRequest(**view), timeout=60)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "frame: the frame is for another model (grid)"
        assert server.metric('semlink_server_frames_rejected_total{reason="grid"}') == count
    view["frame"] = encode(PIXELS, np.ones(196)).frame.to_bytes()
    assert server.link.Classify(ClassifyRequest(**view), timeout=60).vote.votes == 1


def test_its_settings_are_flags_beside_it_alone(tmp_path):
    wrong = run("semlink", "encode", "chelsea", tmp_path / "x", "--share", "0.5")
    assert (wrong.returncode, "--share is for --source grey, not iaq" in wrong.stderr) == (2, True)
    wrong = run("semlink", "encode", "chelsea", tmp_path / "x", "--source", "grey", "--rho", "0.5")
    assert (wrong.returncode, "--rho is for --source iaq, not grey" in wrong.stderr) == (2, True)
    flags = ("--to", "nowhere:1", "--images", "chelsea", "--object-id", "grey", "--source", "grey")
    wrong = run("device", *flags, "--plan", "uniform")
    assert (wrong.returncode, "uniform chooses bits, which frames of --source grey" in wrong.stderr) == (
        2,
        True,
    )
    wrong = run("device", *flags, "--share", "2")
    assert (wrong.returncode, "--share (or SEMLINK_SHARE): must be at most 1" in wrong.stderr) == (2, True)


def test_a_frame_file_becomes_a_picture(grey_frame, tmp_path):
    done = run("semlink", "decode", grey_frame, tmp_path / "cat.png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "cat.png") as picture:
        means = patch_means(np.asarray(picture).astype(float))
    right = np.abs(means - patch_means(PIXELS.astype(float))) <= 0.5
    assert np.sum(right) >= 49
    assert np.sum(~right & (means != 128)) == 0


def test_without_its_models_a_server_refuses_its_frames_and_answers_others(offline, grey_frame):
    with running(GREY, "server", GREY_LACKS="1", **offline) as server:
        wait_until(lambda: server.is_ready)
        data = grey_frame.read_bytes()
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as caught:
                server.link.Classify(ClassifyRequest(frame=data), timeout=60)
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert "no decoder for frames of profile 255 (grey)" in caught.value.details()
            info = error_details_pb2.ErrorInfo()
            assert rpc_status.from_call(caught.value).details[0].Unpack(info)
            assert info.reason == "no_decoder"
        problem = server.http.post("/v1/classify", content=data, headers={"Content-Type": FRAME_TYPE})
        assert (problem.status_code, problem.json()["reason"]) == (422, "no_decoder")
        assert server.metric(REJECTED) == 3
        others = encode(PIXELS, np.ones(196)).frame.to_bytes()
        assert server.link.Classify(ClassifyRequest(frame=others), timeout=60).predictions
        degraded = server.http.get("/v2/health/ready").json()["degraded"]
        assert degraded == ["frames: no decoder for those of grey; the log says why"]
        assert server.logs.count("frames of a source coder are refused") == 1
        assert "no grey.safetensors" in server.logs
