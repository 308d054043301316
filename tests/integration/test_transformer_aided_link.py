"""Tokens from a device through the emulator to a server, and through files, with a decoder of random weights."""

import json
import os
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
from token_decoders import write_decoder

from semlink.source.registry import read_frame
from semlink.v1.link_pb2 import ClassifyRequest
from semlink.vision.weights import DEVICE_MODEL, find_weights

pytestmark = pytest.mark.slow

SEMLINK = ("-c", "from cli.main import main; main()")
HEADER_BYTES = 4 + 11 + 25 + 4
TOKEN_BITS = 192 * 5
CODING = ("--source", "transformer-aided", "--ratio", "0.25", "--alpha", "0.5", "--token-bits", "5")


@pytest.fixture(scope="module")
def environment(offline, tmp_path_factory):
    folder = write_decoder(tmp_path_factory.mktemp("with-tokens"))
    (folder / f"{DEVICE_MODEL}.safetensors").symlink_to(find_weights(DEVICE_MODEL).path)
    return offline | {"SEMLINK_WEIGHTS": str(folder)}


@pytest.fixture(scope="module")
def run(environment):
    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=200,
            env=os.environ | environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def server(environment):
    with running("-m", "server", **environment) as process:
        wait_until(lambda: process.is_ready)
        yield process


@pytest.fixture(scope="module")
def frame_file(run, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("frames") / "cat.slf"
    assert f"{8 * HEADER_BYTES} header bits, {49 * TOKEN_BITS} payload bits" in run(
        *SEMLINK, "encode", "chelsea", path, *CODING
    )
    return path


def grey(pixels: np.ndarray) -> np.ndarray:
    """(196,) which patches are plain mid-grey."""
    patches = pixels.reshape(14, 16, 14, 16, 3).swapaxes(1, 2).reshape(196, -1)
    return (patches == 128).all(axis=1)


def test_a_frame_file_becomes_a_picture(run, frame_file, tmp_path):
    frame = read_frame(frame_file.read_bytes())
    run(*SEMLINK, "decode", frame_file, tmp_path / "cat.png")
    with Image.open(tmp_path / "cat.png") as picture:
        pixels = np.asarray(picture)
    np.testing.assert_array_equal(grey(pixels), ~frame.sent)
    assert frame.sent.sum() == 49


def test_from_a_device_through_the_emulator_to_the_server(run, server, tmp_path):
    with running("-m", "channel_emulator", "--upstream", server.grpc_address) as emulator:
        change = {"default": {"type": "packet_loss", "loss": 0.2}}
        assert emulator.http.put("/v1/impairments", json=change).is_success
        flags = ("--to", emulator.grpc_address, "--images", "chelsea", "--object-id", "tokens")
        report = json.loads(run("-m", "device", *flags, *CODING, "--pictures", tmp_path))
    assert report["source"] == "transformer-aided"
    assert (report["header_bits"], report["payload_bits"]) == (8 * HEADER_BYTES, 49 * TOKEN_BITS)
    assert report["impairment"] == "packet_loss"
    assert report["vote"]["votes"] == 1
    assert 0 < report["top1"]["confidence"] <= 1
    with Image.open(report["picture"]) as picture:
        received = np.asarray(picture.convert("RGB"))[24:248, -232:-8]
    assert 0 < np.sum(~grey(received)) <= 49


@pytest.mark.parametrize("over", ["grpc", "http"])
def test_tokens_for_another_decoder_are_refused(server, frame_file, over, tmp_path):
    frame = read_frame(frame_file.read_bytes())
    data = type(frame)(frame.geometry, frame.dimension, frame.bits, b"else", frame.sent, frame.payload).to_bytes()
    counted = 'semlink_server_frames_rejected_total{reason="decoder"}'
    before = server.metric(counted)
    if over == "http":
        fields = {"Content-Type": "application/vnd.semlink.frame"}
        problem = server.http.post("/v1/classify", content=data, headers=fields)
        assert (problem.status_code, problem.json()["reason"]) == (400, "decoder")
        assert "the tokens are for decoder 656c7365; here is" in problem.json()["detail"]
    else:
        with pytest.raises(grpc.RpcError) as caught:
            server.link.Classify(ClassifyRequest(frame=data), timeout=60)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        info = error_details_pb2.ErrorInfo()
        assert rpc_status.from_call(caught.value).details[0].Unpack(info)
        assert info.reason == "decoder"
    assert server.metric(counted) == before + 1
