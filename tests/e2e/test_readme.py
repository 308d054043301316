"""Commands of the README and of the documentation: their bash blocks are run as they stand."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from docs_examples import blocks
from processes import skip_without

pytestmark = pytest.mark.slow

UNCODED = {"access": "none", "design_ber": None}
REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
BLOCKS = [block.lstrip("\n") for page in PAGES for block in blocks(page, "bash")]


def block_with(text: str) -> str:
    found = [block for block in BLOCKS if text in block]
    assert len(found) == 1, f"README and docs must have one bash block with {text!r}"
    return found[0]


def run(script: str, seconds: float = 240) -> str:
    """Runs a block as a person would who has followed `make setup`; returns its standard output."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for name in ("MAKEFLAGS", "ARGS"):  # else a make within the script takes those of the make around the tests
        environment.pop(name, None)
    # The environment is set up already, and where that is differs: activating .venv is what PATH does here.
    script = script.replace("source .venv/bin/activate\n", "")
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    finally:
        # Whatever a failed block left behind goes too.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors[-3000:]
    return output


def json_documents(text: str) -> list[dict]:
    """Every JSON object in a text, whatever stands between."""
    decoder, found, at = json.JSONDecoder(), [], text.find("{")
    while at >= 0:
        try:
            document, end = decoder.raw_decode(text, at)
            found.append(document)
        except json.JSONDecodeError:
            end = at + 1
        at = text.find("{", end)
    return found


def test_every_block_is_tested_here():
    assert len(BLOCKS) == 12


def test_make_test_is_the_suite_that_runs_this():
    assert block_with("make test") == "make test\n"
    dry = subprocess.run(["make", "--dry-run", "test"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "-m pytest" in dry.stdout


def test_make_demo():
    assert block_with("make demo\n") == "make demo\n"
    if subprocess.run(["make", "--question", ".venv/installed"], cwd=REPOSITORY, check=False).returncode:
        skip_without("make demo would install anew: run make setup first")
    assert "Vote: " in run("make demo")


def test_demo_arguments_are_understood():
    arguments = re.search(r'ARGS="(.*)"', block_with("make demo ARGS"))
    assert arguments is not None
    # The settings themselves are what tests/e2e/test_demo.py sends through the whole link.
    assert "--help" in run(f"semlink demo {arguments[1]} --help >/dev/null && echo --help")


def test_compare():
    assert "AVIF + LDPC" in run(block_with("semlink compare chelsea"))
    assert (REPOSITORY / "runs" / "compare.webp").is_file()


@pytest.mark.timeout(400)
def test_the_processes():
    if shutil.which("curl") is None:
        skip_without("the README's commands need curl")
    documents = json_documents(run(block_with("grep semlink_channel_bits"), 380))
    answers = [document for document in documents if document.get("event") == "answer"]
    assert [answer["object_id"] for answer in answers] == ["cat", "kitchen/0", "kitchen/1", "kitchen/2"]
    assert all(answer["bits_flipped"] > 0 for answer in answers)
    assert (
        sum(1 for document in documents if "predictions" in document) == 2
    )  # the frame and the picture over REST
    assert {"vote", "missing_views", "wish"} in [document.keys() for document in documents]
    assert documents[-1] == {"default": {"type": "bsc", "ber": 0.01, **UNCODED}, "devices": {}}


def test_own_cameras():
    if shutil.which("curl") is None:
        skip_without("the page's commands need curl")
    # A round that is due while a camera is busy is skipped: on a busy machine, a few seconds are not enough.
    script = block_with("--clock-rounds").replace("--every 2 ", "--every 6 ").replace("seconds 3", "seconds 60")
    documents = json_documents(run(script))
    answers = [document for document in documents if document.get("event") == "answer"]
    porch, hall, door = (
        [answer for answer in answers if answer["object_id"].startswith(name)]
        for name in ("porch", "hall", "door")
    )
    assert sorted(Path(answer["photo"]).name for answer in porch) == ["chelsea.png", "coffee.png"]
    assert [answer["photo"] for answer in hall] == ["standard input 0", "standard input 1"]
    assert [answer["vote"]["views"] for answer in door] == [2, 2]
    assert len(answers) == 6


def test_the_channel_changes_while_it_runs():
    if shutil.which("curl") is None:
        skip_without("the page's commands need curl")
    documents = json_documents(run(block_with("semlink-channel --upstream 127.0.0.1:50051 --preset clear")))
    settings = [document for document in documents if "default" in document and "devices" in document]
    whole, patched, sought, reset = settings
    assert whole["default"] == {**patched["default"], "snr_db": 20.0}
    assert (patched["default"]["streams"], patched["default"]["coding"]) == (8, "uncoded")
    assert (sought["default"], sought["devices"]["camera-2"]["type"]) == (
        {"type": "bsc", "ber": 0.05, **UNCODED},
        "burst",
    )
    assert reset == {"default": {"type": "none", **UNCODED}, "devices": {}}
    states = [document for document in documents if "position" in document and "steps" in document]
    assert [(state["playing"], state["loop"], state["step"]) for state in states] == [
        (True, False, 1), (False, True, 3)
    ]  # fmt: skip
    (events,) = [document["events"] for document in documents if "events" in document]
    assert {event["kind"] for event in events} == {"settings", "scenario"}


def test_a_plan_over_a_measured_channel():
    output = run(block_with("runs/own-channel/taps.npz"))
    assert "frame 0 of 20, 52 subcarriers of 312.5 kHz; its mean power of" in output
    assert "196 blocks over 104 subchannels: 2 OFDM symbols are taken as one." in output
    plan = json.loads((REPOSITORY / "runs/own-channel/plan.json").read_text())
    assert (plan["frame"], plan["streams"], plan["subcarriers"], plan["ofdm_symbols"]) == (7, 1, 52, 4)


def test_own_pictures():
    shutil.rmtree(REPOSITORY / "runs" / "own", ignore_errors=True)
    run(block_with('Path("runs/own/photos"'))
    command = block_with("semlink train runs/own/photos")
    # The last layer alone and few steps: plain colours need no more, and the minutes are for photos.
    shorter = "semlink train --frozen-blocks 12 --learning-rate 0.01 --min-steps 20 "
    output = run(command.replace("semlink train ", shorter))
    assert output.startswith(
        "runs/own/weights/deit_tiny_patch16_224.safetensors: 100.0% of 6 images, held out and undamaged, right "
        "(95 % interval 61.0% to 100.0%)\n"
    )
    assert re.search(r"photos/red/0\.png │ +(0\.9..|1\.000) │ +2 │ red", output)
    card = json.loads((REPOSITORY / "runs/own/weights/deit_tiny_patch16_224.json").read_text())
    assert (card["trained_on"], card["stopped_by"]["images"], card["held_out"]["images"]) == (18, 6, 6)


def test_accuracy_over_snr():
    output = run(block_with("semlink evaluate runs/fruit"))
    assert "fruit, 12 images, accuracy in % with 95 % intervals" in output
    with (REPOSITORY / "runs/fruit/table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["clean", *["incremental"] * 4, *["top-k"] * 4]
    assert [row["snr_db"] for row in rows] == ["", *["0.0", "6.0", "12.0", "18.0"] * 2]
    assert float(rows[0]["single_accuracy"]) > 0.5, "the drawn fruits are known"
    errors = [float(row["bit_errors"]) for row in rows[1:5]]
    assert errors == sorted(errors, reverse=True)
    assert (REPOSITORY / "runs/fruit/snr.png").stat().st_size > 1000


def test_one_frame_step_by_step():
    output = run(block_with("semlink encode chelsea runs/frame/sent.slk"))
    assert "runs/frame/arrived.slk: awgn, 8,500 of 301,056 bits flipped (2.82 %), 0 blocks lost" in output
    (report,) = json_documents(output)
    assert report["impairment"] == "packet_loss"
    assert report["lost_blocks"]
    assert output.count("Egyptian cat") >= 3
