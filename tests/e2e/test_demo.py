"""`semlink demo` as people run it: six real processes, real sockets; and that nothing of it stays behind."""

import collections
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from PIL import Image

from channel_emulator.randomness import FrameRandomness
from semlink.channel.bsc import flip_positions
from semlink.vision.photos import find_photos

SEMLINK = Path(sys.executable).with_name("semlink")
PROC = Path("/proc")
VALUES = 224 * 224 * 3
DEMO_SECONDS = 280
PLANNED = (
    "--channel", "mimo-ofdm", "--snr", "10", "--plan", "ia-qsmpa", "--coding", "uncoded", "--order", "16",
    "--pace", "--rho", "0.125", "--seed", "7",
)  # fmt: skip

pytestmark = pytest.mark.skipif(not PROC.is_dir(), reason="looks for processes in /proc")


class Demo:
    """One run of the demo; what it starts is known by a mark in its environment."""

    def __init__(self, folder, *arguments):
        self.out, self.mark, self.started = folder / "out", uuid.uuid4().hex, time.monotonic()
        # A folder of the user's may hold anything by the processes' names.
        for name in ("server", "device", "channel_emulator", "semlink"):
            (folder / f"{name}.py").write_text(f"raise SystemExit('not this {name}')\n")
        self.process = subprocess.Popen(
            [SEMLINK, "demo", "--out", "out", *map(str, arguments)],
            cwd=folder,
            env=os.environ | {"DEMO_MARK": self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Tests that run in the background, or under nohup, would hand on that these are ignored.
            preexec_fn=lambda: [
                signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)
            ],
        )

    def end(self):
        """Waits for its end, however it comes."""
        try:
            self.stdout, self.stderr = self.process.communicate(timeout=DEMO_SECONDS)
        finally:
            self.left_running = self.running()
            for process in self.left_running:
                os.kill(process, signal.SIGKILL)
        self.status, self.seconds = self.process.returncode, time.monotonic() - self.started
        return self

    def running(self, module=""):
        """Process ids of all that carries the mark, or of those that run a module."""
        mark, found = f"DEMO_MARK={self.mark}".encode(), []
        for entry in PROC.iterdir():
            try:
                environment, command = (
                    (entry / name).read_bytes().split(b"\0") for name in ("environ", "cmdline")
                )
            except OSError:
                continue  # no process, another user's, or one that has just ended
            if mark in environment and (not module or module.encode() in command):
                found.append(int(entry.name))
        return found

    def started_by_itself(self, module):
        """Process id of the module that the demo itself started.

        What that process starts has its command too, until it becomes another program.
        """
        (found,) = (process for process in self.running(module) if parent_of(process) == self.process.pid)
        return found

    def log(self, name):
        path = self.out / "logs" / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def wait_until(self, condition, seconds=120):
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)

    @property
    def summary(self):
        return json.loads((self.out / "summary.json").read_text())


def parent_of(process):
    """Process id of a process's parent (proc(5), the fourth field of stat, behind the name in brackets)."""
    return int((PROC / str(process) / "stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture(scope="module")
def four_photos(tmp_path_factory):
    """Four photos of one's own, of four sizes and three formats, in a folder with a comma in its name."""
    folder = tmp_path_factory.mktemp("photos") / "my cat, at home"
    folder.mkdir()
    with Image.open(find_photos(["chelsea"])[0]) as cat:
        cat.save(folder / "a.png")
        cat.crop((60, 0, 360, 300)).save(folder / "b.jpg")
        cat.resize((900, 600)).save(folder / "c.webp")
        cat.crop((20, 10, 440, 290)).rotate(5).save(folder / "d.jpeg")
    return folder


@pytest.fixture(scope="module")
def at_once(tmp_path_factory, four_photos):
    """The default, and one's own photos over uncoded MIMO-OFDM at the pace of the air; both at the same time."""
    return [
        demo.end()
        for demo in [
            Demo(tmp_path_factory.mktemp("default")),
            Demo(tmp_path_factory.mktemp("own"), "--images", four_photos, *PLANNED),
        ]
    ]


@pytest.fixture(scope="module")
def default(at_once):
    return at_once[0]


@pytest.fixture(scope="module")
def own(at_once):
    return at_once[1]


@pytest.mark.parametrize("which", [0, 1], ids=["default", "own"])
class TestEitherDemo:
    @pytest.fixture
    def demo(self, at_once, which):
        return at_once[which]

    def test_it_ends_well_and_leaves_nothing_running(self, demo):
        assert demo.status == 0, demo.stderr + demo.stdout
        assert demo.left_running == []

    def test_it_shows_a_table_and_the_vote(self, demo, which):
        summary = demo.summary
        table: dict[str, list[str]] = {}
        for line in demo.stdout.splitlines():
            name, *cells = [cell.strip() for cell in line.strip("│").split("│")]
            if name and len(cells) == 4:
                table[name] = cells
        views = summary["views"]
        assert table["photo"] == [Path(view["photo"]).name for view in views]
        assert table["header bits"] == ["904"] * 4
        assert table["payload bits"] == [f"{view['payload_bits']:,}" for view in views]
        assert table["ρ"] == [f"{view['rho']:.4f}" for view in views]
        assert table["true ratio"] == [f"{view['true_ratio']:.4f}" for view in views]
        assert table["bits flipped"] == [f"{view['bits_flipped']:,}" for view in views]
        assert table["flips in %"] == [
            f"{100 * view['bits_flipped'] / view['payload_bits']:#.3g}" for view in views
        ]
        assert table["its confidence"] == [f"{view['undamaged']['confidence']:.3f}" for view in views]
        settings = ["Four views over bsc, ber 0.01, seed 0", "Four views over mimo-ofdm, snr 10.0"][which]
        assert settings in " ".join(demo.stdout.split())
        assert table["confidence"] == [f"{view['top1']['confidence']:.3f}" for view in views]
        for view, cell in zip(views, table["top-1"], strict=True):
            assert view["top1"]["name"].startswith(cell)  # a long name goes on in the next line
        for step in ("attention", "encode", "channel", "server"):
            assert table[f"{step} ms"] == [f"{view['timings_ms'][step]:.1f}" for view in views]
        assert max(map(len, demo.stdout.splitlines())) <= 80
        vote = summary["vote"]
        assert f"Vote: {vote['name']} (class {vote['label']}), {vote['votes']} of 4 views" in demo.stdout
        assert "grown from" not in summary["views"][0]["model"] or "grown from" in " ".join(demo.stdout.split())

    def test_the_summary_holds_every_view(self, demo, which):
        views = demo.summary["views"]
        assert [view["device_id"] for view in views] == [f"device-{number}" for number in (1, 2, 3, 4)]
        for view in views:
            bits = 16 * 16 * 3 * [2 * 196, 196][which]
            assert (view["header_bits"], view["payload_bits"]) == (904, bits)
            assert view["rho"] == bits / (8 * VALUES)
            assert view["true_ratio"] == (bits + 904) / (8 * VALUES)
            assert view["impairment"] == ["bsc", "mimo_ofdm"][which]
            top = view["top1"]
            assert 0 <= top["label"] < 1000
            assert top["name"]
            assert 0 < top["confidence"] <= 1
            assert all(0 < view["timings_ms"][name] < 60_000 for name in ("attention", "encode", "channel"))
            assert 0 < view["timings_ms"]["server"] < view["timings_ms"]["round_trip"] < 60_000
        assert len({view["bits_flipped"] for view in views}) > 1

    def test_the_summary_says_how_it_came_about(self, demo, which):
        summary = demo.summary
        assert summary["command"].startswith("semlink demo --out out")
        assert {"python", "numpy", "torch", "semlink"} <= set(summary["versions"])
        assert summary["plan"] == [None, "ia-qsmpa"][which]
        assert summary["encoder"] == [
            {
                "source": "iaq", "method": "incremental", "rho": 0.25, "total_bits": None, "gamma": 1,
                "design_ber": 0,
            },
            {"source": "iaq", "rho": 0.125, "total_bits": None},  # the plan has the bits
        ][which]  # fmt: skip
        assert summary["channel"] == [
            {"impairment": "bsc", "ber": 0.01, "access": None, "seed": 0},
            {
                "impairment": "mimo-ofdm", "snr": 10, "streams": 4, "csi_error": 0, "pace": True, "order": 16,
                "coding": "uncoded", "redraw_every_coherence": False, "channel_file": None, "seed": 7,
            },
        ][which]  # fmt: skip

    def test_the_vote_is_the_views_own(self, demo):
        tops = [view["top1"] for view in demo.summary["views"]]
        count, confidence = collections.Counter(), collections.Counter()
        for top in tops:
            count[top["label"]] += 1
            confidence[top["label"]] += top["confidence"]
        winner = min(count, key=lambda label: (-count[label], -confidence[label], label))
        name = next(top["name"] for top in tops if top["label"] == winner)
        vote = demo.summary["vote"]
        assert (vote["label"], vote["name"], vote["votes"]) == (winner, name, count[winner])

    def test_a_picture_of_every_view(self, demo):
        for number, view in enumerate(demo.summary["views"], start=1):
            path = demo.out / f"view-{number}.png"
            assert view["picture"] == f"out/view-{number}.png"
            with Image.open(path) as picture:
                assert picture.format == "PNG"
                assert picture.size == (4 * 224 + 5 * 8, 224 + 24 + 8)
        assert sorted(entry.name for entry in demo.out.iterdir()) == [
            "logs", "summary.json", "view-1.png", "view-2.png", "view-3.png", "view-4.png"
        ]  # fmt: skip

    def test_every_process_ended_in_order(self, demo):
        for name in ("server", "channel"):
            assert "stopped" in demo.log(name)
        for name in ("server", "channel", *(f"device-{number}" for number in range(1, 5))):
            assert "Traceback" not in demo.log(name)
            assert '"level": "error"' not in demo.log(name)


def test_the_cat_is_a_cat(default):
    views = default.summary["views"]
    assert [view["view"] for view in views] == [1, 2, 3, 4]
    assert {Path(view["photo"]).name for view in views} == {"chelsea.png"}
    assert default.summary["vote"]["name"] in ("tabby", "tiger cat", "Egyptian cat", "lynx")
    assert default.summary["vote"]["votes"] >= 2
    assert views[0]["undamaged"]["name"] in ("tabby", "tiger cat", "Egyptian cat", "lynx")


def test_four_photos_are_seen_as_they_are_in_the_order_of_their_names(own):
    views = own.summary["views"]
    assert [Path(view["photo"]).name for view in views] == ["a.png", "b.jpg", "c.webp", "d.jpeg"]
    assert {view["view"] for view in views} == {None}


def test_the_bits_that_flip_are_those_of_the_seed_the_device_and_the_frame(default):
    """So that the same command gives the same flips; how many there are is as the error rate says."""
    for view in default.summary["views"]:
        bits, ber = view["payload_bits"], 0.01
        assert abs(view["bits_flipped"] - ber * bits) < 6 * (bits * ber * (1 - ber)) ** 0.5
        stream = FrameRandomness(0, view["device_id"], 0).stream()
        assert view["bits_flipped"] == len(flip_positions(bits, ber, stream))


def test_a_server_that_fails_ends_the_demo_with_the_reason_and_removes_the_last_summary(tmp_path):
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "deit_small_patch16_224.safetensors").write_bytes(bytes(100))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.json").write_text("of the last run")
    failed = Demo(tmp_path, "--weights", weights).end()
    assert failed.status == 1
    assert failed.left_running == []
    assert failed.seconds < 100, "it noticed only when the devices gave up"
    assert "server ended early; its log (out/logs/server.log) ends with:" in failed.stderr
    assert "deit_small_patch16_224.safetensors holds no weights for deit_small_patch16_224" in failed.stderr
    assert not (failed.out / "summary.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_interrupted_while_starting_it_stops_all(tmp_path, number):
    demo = Demo(tmp_path)
    demo.wait_until(lambda: demo.running("server"))
    demo.process.send_signal(number)
    demo.end()
    assert demo.status == 130, demo.stderr
    assert demo.left_running == []
    assert demo.stderr.strip() == "semlink: interrupted; everything it started is stopped"


def test_a_device_that_fails_ends_all_even_what_hangs(tmp_path, four_photos):
    """With the reason; and no Ctrl-C cuts the end short."""
    bad = tmp_path / "bad.png"
    photos = sorted(four_photos.iterdir())[:3]
    bad.write_bytes(photos[0].read_bytes()[:1000])
    demo = Demo(tmp_path, "--images", *photos, bad)
    demo.wait_until(lambda: demo.running("device"))  # before one of them can fail: they take longer to start
    server = demo.started_by_itself("server")
    os.kill(server, signal.SIGSTOP)  # frames stay without an answer, and the server cannot be told to stop
    demo.wait_until(lambda: "stopped" in demo.log("channel"))
    assert demo.running("server")
    demo.process.send_signal(signal.SIGINT)
    demo.end()
    assert demo.status == 1, demo.stderr
    assert demo.left_running == []
    assert "semlink: device-4 ended early; its log (out/logs/device-4.log) ends with:" in demo.stderr
    assert "bad.png can't be read as JPEG, PNG, WEBP" in demo.stderr
    assert "Traceback" not in demo.stderr
    assert not (demo.out / "summary.json").exists()


def test_over_mimo_ofdm_power_and_latency_stand_beside_the_bits(own):
    views = own.summary["views"]
    sent = [view["transmission"] for view in views]
    for view, transmission in zip(views, sent, strict=True):
        assert view["bits_flipped"] > 0
        # 768 bits a patch, 4 a symbol, 16 subchannels a patch: 12 OFDM symbols for all, since each gets 1 bit.
        assert transmission["air_ms"] == pytest.approx(12 / 15)
        assert 0 < transmission["t_d_ms"] == pytest.approx(transmission["planned_t_d_ms"])
        assert transmission["power"] == pytest.approx(3136)
        assert view["timings_ms"]["round_trip"] > transmission["air_ms"]
    assert len({transmission["t_d_ms"] for transmission in sent}) == 4  # each device has a channel of its own
    rows = {line.strip("│").split("│")[0].strip(): line for line in own.stdout.splitlines()}
    for transmission in sent:
        assert f"{transmission['t_d_ms']:.3f}" in rows["T_d ms"]
        assert "3,136.0" in rows["power"]
        assert "0.800" in rows["on air ms"]
