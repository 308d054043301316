"""Learned bits from a device through the emulator to a server, with networks that were never trained."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from processes import running, wait_until

from experiments.training.learned_source import LearnedSource, LearnedSourceOptions, save_source
from semlink.source.learned.frame import LearnedFrame
from semlink.source.learned.interface import load_interface
from semlink.vision.weights import DEVICE_MODEL, find_weights

pytestmark = pytest.mark.slow

BITS = 49 * 6144
HEADER_BYTES = 4 + 8 + 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("untrained")
    torch.manual_seed(1)
    options = LearnedSourceOptions("source", "small", "prescribed", 0.0, 0.01, 0.2, 1, 1, 1e-3, 0)
    save_source(LearnedSource(options), "small", folder)
    (folder / f"{DEVICE_MODEL}.safetensors").symlink_to(find_weights(DEVICE_MODEL).path)
    return folder


@pytest.fixture(scope="module")
def environment(offline, folder):
    return offline | {"SEMLINK_WEIGHTS": str(folder)}


@pytest.fixture(scope="module")
def server(environment):
    with running("-m", "server", **environment) as process:
        wait_until(lambda: process.is_ready)
        yield process


def test_from_a_device_through_the_emulator_to_the_server(environment, server, folder, tmp_path):
    """Over a channel that flips bits: the server shows what the networks make of those that arrived."""
    with running("-m", "channel_emulator", "--upstream", server.grpc_address) as emulator:
        change = {"default": {"type": "bsc", "ber": 0.1}}
        assert emulator.http.put("/v1/impairments", json=change).is_success
        flags = ("--to", emulator.grpc_address, "--images", "chelsea", "--object-id", "bits")
        done = subprocess.run(
            [sys.executable, "-m", "device", *flags, "--source", "learned", "--pictures", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=200,
            env=os.environ | environment,
        )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["source"] == "learned"
    assert (report["header_bits"], report["payload_bits"]) == (8 * HEADER_BYTES, BITS)
    assert abs(report["bits_flipped"] - 0.1 * BITS) < 6 * np.sqrt(BITS * 0.1 * 0.9)
    assert report["vote"]["votes"] == 1
    with Image.open(report["picture"]) as picture:
        received = np.asarray(picture.convert("RGB"))[24:248, -232:-8]
    # Of untrained networks it is no cat, but it is a picture: tiles differ, as bits do.
    assert np.ptp(received.reshape(7, 32, 7, 32, 3).mean(axis=(1, 3, 4))) > 0


def test_bits_of_another_training_are_refused(server, folder):
    interface = load_interface(folder)
    frame = LearnedFrame.from_bits(np.zeros((49, 64, 96), bool), (7, 7), interface)
    fields = {"Content-Type": "application/vnd.semlink.frame"}
    assert server.http.post("/v1/classify", content=frame.to_bytes(), headers=fields).is_success
    other = LearnedFrame((7, 7), b"else", frame.present, frame.payload)
    problem = server.http.post("/v1/classify", content=other.to_bytes(), headers=fields)
    assert (problem.status_code, problem.json()["reason"]) == (400, "interface")
    assert "interface 656c7365" in problem.json()["detail"]
