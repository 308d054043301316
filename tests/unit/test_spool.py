"""The spool against a list, against the end of its process at any moment, and against damage."""

import contextlib
import json
import os
import random
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from structlog.testing import capture_logs

from device.capture import Capture, Encoded, to_row
from device.spool import FIXED_BYTES, MAX_UNSAVED, PAGE_BYTES, Spool, SpoolError, size_in_file, spool_contents

ROOT = Path(__file__).parents[2]
PLENTY = 64 << 20


def captured(number, size=100, pixels=None):
    original = None if pixels is None else np.frombuffer(pixels, np.uint8)
    view = Encoded(random.Random(number).randbytes(size), np.ones(1, np.float32), original, 0.5, 0.25)
    return Capture(number, f"cup/{number}", "left", 1, f"id-{number}", "cup.png", 3, view, 1e9 + number / 3)


def size_of(capture):
    return size_in_file(to_row(capture))


def rows(captures):
    """Captures as what can be compared."""
    return [capture and to_row(capture) for capture in captures]


@contextlib.contextmanager
def spooling(path, max_bytes=PLENTY):
    spool = Spool(path, max_bytes)
    try:
        yield spool
    finally:
        spool.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "views.spool"


def bytes_on_disk(path):
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


class SpoolAgainstAList(RuleBasedStateMachine):
    """What is put comes out in order until it is done, also of a copy of the files as a crash would leave them."""

    max_bytes = FIXED_BYTES + 12 * PAGE_BYTES

    @initialize(folder=st.builds(lambda: Path(os.environ["SPOOL_TEST_FOLDER"])))
    def start(self, folder):
        self.folder, self.opened = folder / str(time.monotonic_ns()), 0
        self.folder.mkdir()
        self.spool = Spool(self.folder / "0.spool", self.max_bytes)
        self.views, self.taken, self.next_number, self.dropped = [], -1, 0, 0

    @rule(gap=st.integers(0, 2), size=st.integers(1, 5 * PAGE_BYTES), pixels=st.none() | st.binary(max_size=9))
    def put(self, gap, size, pixels):
        view = captured(self.next_number + gap, size, pixels)
        self.next_number = view.number + 1
        self.spool.put(view)
        taken = [each for each in self.views if each.number <= self.taken]
        waiting = [each for each in self.views if each.number > self.taken] + [view]
        room = self.max_bytes - FIXED_BYTES - sum(map(size_of, taken))
        if size_of(view) > room:
            waiting.pop()
            self.dropped += 1
        while sum(map(size_of, waiting)) > room and view in waiting:
            waiting.pop(0)
            self.dropped += 1
        self.views = taken + waiting

    @rule()
    def take(self):
        expected = next((view for view in self.views if view.number > self.taken), None)
        assert rows([self.spool.take()]) == rows([expected])
        if expected is not None:
            self.taken = expected.number

    @precondition(lambda self: any(view.number <= self.taken for view in self.views))
    @rule(data=st.data())
    def done(self, data):
        view = data.draw(st.sampled_from([view for view in self.views if view.number <= self.taken]))
        self.spool.done(view.number)
        self.views = [each for each in self.views if each.number != view.number]

    @rule(crashed=st.booleans())
    def reopen(self, crashed):
        path = self.spool.path
        if crashed:  # the files as they lie there are all that is left
            self.opened += 1
            path = self.folder / f"{self.opened}.spool"
            for suffix in ("", "-journal"):
                if (there := Path(f"{self.spool.path}{suffix}")).exists():
                    shutil.copy(there, f"{path}{suffix}")
        self.spool.close()
        self.spool, self.taken = Spool(path, self.max_bytes), -1

    @invariant()
    def agrees(self):
        if hasattr(self, "spool"):
            now = self.spool.status
            assert (now.held, now.bytes) == (len(self.views), sum(map(size_of, self.views)))
            assert (now.next_number, now.dropped, now.faults) == (self.next_number, self.dropped, 0)
            assert bytes_on_disk(self.spool.path) <= self.max_bytes

    def teardown(self):
        if hasattr(self, "spool"):
            assert [line["frame_id"] for line in list(spool_contents(self.spool.path))[1:]] == [
                view.number for view in self.views
            ]
            self.spool.close()
            shutil.rmtree(self.folder)


def test_it_is_a_list_that_outlives_its_process(tmp_path, monkeypatch):
    monkeypatch.setenv("SPOOL_TEST_FOLDER", str(tmp_path))
    case = SpoolAgainstAList.TestCase
    case.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
    case().runTest()


WRITER = """
import os
import sys
from pathlib import Path
import numpy as np
from device.capture import Capture, Encoded
from device.spool import Spool

def say(word, number):
    os.write(1, f"{word} {number}\\n".encode())  # whole lines, whenever it is killed

spool = Spool(Path(sys.argv[1]), 64 << 20)
say("open", spool.status.next_number)
while True:
    number = spool.status.next_number
    view = Encoded(number.to_bytes(4) * 10_000, np.ones(1, np.float32), None, 0.5, 0.25)
    spool.put(Capture(number, "cup", "left", 1, "id", "cup.png", None, view))
    say("put", number)
    if number % 3:
        taken = spool.take().number
        spool.done(taken)
        say("done", taken)
"""


def test_killed_at_any_moment_it_has_kept_what_it_said_and_forgotten_what_was_done(path):
    chance, given, gone = random.Random(5), set(), set()
    for _ in range(7):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, path], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline().split() == ["open", str(len(given))]
            for _ in range(chance.randrange(9)):
                given_or_gone(process.stdout.readline(), given, gone)
            time.sleep(chance.uniform(0, 0.01))
            process.kill()
            for line in process.stdout:
                given_or_gone(line, given, gone)
        with spooling(path) as spool:
            held = []
            while (view := spool.take()) is not None:
                assert view.view.data == view.number.to_bytes(4) * 10_000
                held.append(view.number)
            given |= set(held)
            assert given == set(range(spool.status.next_number))
        assert held == sorted(held)
        assert not gone & set(held)
        unsaid = given - gone - set(held)
        assert len(unsaid) <= 1, "none but the one that was being removed"
        gone |= unsaid
    assert len(gone) > 10


def given_or_gone(line, given, gone):
    word, number = line.split()
    (given if word == "put" else gone).add(int(number))


def test_the_oldest_go_first_and_only_past_the_bound_and_are_counted_for_good(path):
    size = size_of(captured(0, 40_000))
    room = FIXED_BYTES + 10 * size
    with spooling(path, room) as spool, capture_logs() as logs:
        for number in range(10):
            spool.put(captured(number, 40_000))
        assert (spool.status.held, spool.status.dropped, logs) == (10, 0, [])
        assert spool.status.full
        assert spool.take().number == 0
        for number in range(10, 13):
            spool.put(captured(number, 40_000))
        assert [log["dropped_frame_id"] for log in logs] == [1, 2, 3], "the one under way stays"
        assert [log["dropped"] for log in logs] == [1, 2, 3]
        assert bytes_on_disk(path) <= room
    with spooling(path, FIXED_BYTES + 2 * size) as spool:
        assert (spool.status.held, spool.status.dropped) == (10, 3)
        spool.put(captured(13, 40_000))
        assert [spool.take().number, spool.take().number, spool.take()] == [12, 13, None]
        assert spool.status.dropped == 3 + 9


def test_what_cannot_be_written_waits_in_memory_and_is_stored_once_it_can_be(path):
    with spooling(path) as spool, capture_logs() as logs:
        for number in range(3):
            spool.put(captured(number, 40_000))
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, limit[1]))
        try:
            for number in range(3, 5):
                spool.put(captured(number, 40_000))
            assert spool.status.held == 5
            assert spool.status.full
            assert [log["event"] for log in logs] == ["a view cannot be stored and waits in memory"] * 2
            assert spool.status.faults == 2
            taken = [spool.take() for _ in range(4)]
            assert rows(taken) == rows(captured(number, 40_000) for number in range(4))
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
                assert file.execute("SELECT number FROM views").fetchall() == [(0,), (1,), (2,)]
                assert file.execute("SELECT next_number FROM counts").fetchall() == [(5,)]
            spool.done(0)
            assert spool.status.held == 4
            for number in (3, 1, 2):  # the first was never in the file; the others make room
                spool.done(number)
            spool.put(captured(5, 40_000))
            assert spool.status.held == 2
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        spool.put(captured(6, 40_000))
        assert not spool.status.full
    with spooling(path) as spool:
        assert [spool.take().number for _ in range(3)] == [4, 5, 6]
        assert spool.status.faults >= 2


def test_memory_is_bounded_too_and_what_is_lost_at_the_end_is_told(path):
    with spooling(path) as spool, capture_logs() as logs:
        spool.put(captured(0, 40_000))
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, limit[1]))
        try:
            for number in range(1, MAX_UNSAVED + 3):
                spool.put(captured(number, 40_000))
            assert [log["dropped_frame_id"] for log in logs if "dropped" in log] == [1, 2]
            assert spool.status.held == 1 + MAX_UNSAVED
            spool.close()
            assert (spool.status.held, spool.status.dropped) == (1, 2 + MAX_UNSAVED)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert logs[-1]["frame_ids"] == list(range(3, MAX_UNSAVED + 3))
    whole, *held = spool_contents(path)
    assert [line["frame_id"] for line in held] == [0]
    assert whole["dropped"] == logs[-1]["dropped"] == 2 + MAX_UNSAVED
    with spooling(path) as spool:
        assert (spool.status.dropped, spool.status.next_number) == (2 + MAX_UNSAVED, MAX_UNSAVED + 3)


def test_how_it_stands_can_be_read_while_the_disk_is_written(path, monkeypatch):
    writing, goes_on = threading.Event(), threading.Event()

    insert = Spool._insert

    def insert_slowly(*arguments):
        writing.set()
        assert goes_on.wait(60)
        insert(*arguments)

    with spooling(path) as spool, ThreadPoolExecutor() as others:
        spool.put(captured(0))
        before = spool.status
        monkeypatch.setattr(Spool, "_insert", insert_slowly)
        put = others.submit(spool.put, captured(1))
        try:
            assert writing.wait(60)
            assert others.submit(lambda: spool.status).result(10) == before
        finally:
            goes_on.set()
        put.result(60)
        assert (spool.status.held, spool.status.next_number) == (2, 2)


def test_a_flipped_byte_is_found_or_does_no_harm(path, tmp_path):
    views = [captured(number, 3000, b"pixels" * 900) for number in range(5)]
    with spooling(path) as spool:
        for view in views:
            spool.put(view)
    whole, chance, found = path.read_bytes(), random.Random(8), 0
    for number in range(150):
        damaged = tmp_path / f"{number}.spool"
        at = chance.randrange(len(whole)) if number > 30 else number * 3
        damaged.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
        try:
            spool = Spool(damaged, PLENTY)
        except SpoolError:
            found += 1
            continue
        assert rows(spool.take() for _ in range(6)) == rows([*views, None])
        assert spool.status.next_number == 5
        spool.close()
    assert found > 75


@pytest.mark.parametrize("kept", [1, 100, PAGE_BYTES, 5 * PAGE_BYTES])
def test_a_truncated_spool_is_refused(path, kept):
    with spooling(path) as spool:
        for number in range(5):
            spool.put(captured(number, 10_000))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SpoolError, match="spool"):
        Spool(path, PLENTY)


def test_foreign_files_are_refused_and_left_alone(path):
    path.write_text("a diary, and a long one: " * 100)
    with pytest.raises(SpoolError, match="cannot be used: file is not a database"):
        Spool(path, PLENTY)
    assert path.read_text().startswith("a diary")
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE songs (name)")
    before = path.read_bytes()
    for refuse in (lambda: Spool(path, PLENTY), lambda: list(spool_contents(path))):
        with pytest.raises(SpoolError, match="no spool, but another SQLite file: choose another --spool"):
            refuse()
    assert path.read_bytes() == before


def test_another_version_a_missing_folder_and_no_spool_are_explained(path, tmp_path):
    with spooling(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 2")
    with pytest.raises(SpoolError, match="has version 2, and this device knows version 1 only"):
        Spool(path, PLENTY)
    with pytest.raises(SpoolError, match=r"gone/a\.spool cannot be used: No such file or directory"):
        Spool(tmp_path / "gone" / "a.spool", PLENTY)
    with pytest.raises(SpoolError, match="there is no spool"):
        list(spool_contents(tmp_path / "none"))


def test_it_belongs_to_one_device_and_to_one_user(path):
    with spooling(path) as spool:
        spool.put(captured(0))
        with pytest.raises(SpoolError, match="another device uses the spool"):
            Spool(path, PLENTY)
        spool.put(captured(1))
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
        whole, *views = spool_contents(path)
        assert (whole["held"], whole["bytes"], whole["next_frame_id"]) == (2, spool.status.bytes, 2)
        assert whole["oldest_taken_at"] == views[0]["taken_at"] == captured(0).taken_at
        assert [view["object_id"] for view in views] == ["cup/0", "cup/1"]
    with spooling(path) as spool:
        assert rows([spool.take()]) == rows([captured(0)])


def test_what_leads_to_a_view_is_counted_in_its_size():
    assert size_of(captured(0, 1)) == 3 * PAGE_BYTES
    assert size_of(captured(0, 1, bytes(PAGE_BYTES))) == 4 * PAGE_BYTES


def test_it_is_shown_without_a_camera_and_without_torch(path):
    def show(*arguments):
        code = (
            "import runpy, sys; sys.argv[0] = 'device'; "
            "runpy.run_module('device', run_name='__main__'); assert 'torch' not in sys.modules"
        )
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
        )

    with spooling(path) as spool:
        spool.put(captured(0))
        shown = show("--to", "there:1", "--images", "a", "b", "--spool", path, "--show-spool")
        assert shown.returncode == 0, shown.stderr
    assert [json.loads(line)["event"] for line in shown.stdout.splitlines()] == ["spool", "held"]
    missing = show("--spool", path.with_name("none"), "--show-spool")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert f"device: there is no spool {path.with_name('none')}" in missing.stderr
