"""The load test itself: arrivals, limits, votes, memory; short runs, of an honest server and of one that lies."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from arrivals import poisson
from expected import Ballot, Objects, Top, ballot
from memory import slope
from PIL import Image
from processes import running, wait_until
from scipy import stats
from stub_server import STUB
from tally import Limits, Tally, broken
from workload import CONTENTS, VIEWS

from semlink.source.iaq.coder import encode

HERE = Path(__file__).parent
LIAR = STUB.replace(
    "server.__main__.main()",
    """
honest = Stub.predict

def lie(self, images):
    result = honest(self, images)
    if (folder / "lie").exists():
        wrong = [(Prediction(each[0].label + 1, "no", 1.0),) for each in result.predictions]
        result = BatchResult(wrong, 0.0, 0.0)
    elif len((folder / "batches").read_text().splitlines()) >= 16:  # what is expected has been asked for
        (folder / "lie").touch()
    return result

Stub.predict = lie
server.__main__.main()
""",
)


class TestArrivals:
    def test_gaps_are_exponential_and_independent(self):
        arrivals = poisson(7.0, np.random.default_rng(1))
        gaps = np.diff([0.0, *(next(arrivals) for _ in range(20_000))])
        assert stats.kstest(gaps, stats.expon(scale=1 / 7).cdf).pvalue > 1e-3
        assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 4 / np.sqrt(gaps.size)

    def test_counts_are_as_spread_as_they_are_many(self):
        arrivals = poisson(5.0, np.random.default_rng(2))
        times = np.array([next(arrivals) for _ in range(20_000)])
        counts = np.bincount(times.astype(int))[:-1]
        assert counts.mean() == pytest.approx(5, rel=0.03)
        assert counts.var() == pytest.approx(5, rel=0.08)


def tally_of(*notes: tuple[str, float, str | None]) -> Tally:
    tally = Tally()
    for status, milliseconds, problem in notes:
        tally.note("REST frame", status, milliseconds, problem)
    return tally


class TestLimits:
    def test_percentiles_and_counts(self):
        summary = tally_of(*(("200", float(ms), None) for ms in range(1, 101)), ("429", 3, None)).summary(50)
        assert (summary["requests"], summary["offered_per_second"], summary["answered_per_second"]) == (
            101,
            2.02,
            2,
        )
        assert (summary["answered_ms"]["p50"], summary["answered_ms"]["p99"]) == (51, 100)
        assert summary["refused_ms"]["max"] == 3
        assert summary["refused_share"] == 1 / 101
        assert broken(summary, Limits()) == []

    @pytest.mark.parametrize(
        ("note", "limits", "words"),
        [
            (("200", 5, "class 3 instead of 4"), Limits(), "1 × class 3 instead of 4"),
            (("500", 5, None), Limits(), "1 × 500"),
            (("UNAVAILABLE", 5, None), Limits(), "1 × UNAVAILABLE"),
            (("DEADLINE_EXCEEDED", 5, None), Limits(), "1 × DEADLINE_EXCEEDED"),
            (("RESOURCE_EXHAUSTED", 5, None), Limits(max_refused=0.4), "50.0% refused, more than 40.0%"),
            (("OK", 900, None), Limits(max_p99_ms=800), "p99 of those answered 900 ms, more than 800 ms"),
            (("429", 60, None), Limits(max_refusal_ms=50), "p99 of those refused 60 ms, more than 50 ms"),
        ],
    )
    def test_what_is_broken_is_named(self, note, limits, words):
        assert broken(tally_of(("200", 1, None), note).summary(1), limits) == [words]

    def test_no_answer_at_all_is_no_success(self):
        assert broken(tally_of(("429", 1, None)).summary(1), Limits()) == ["nothing was answered"]


class TestVotes:
    VOTE = Ballot(label=7, votes=2, views=3)

    def test_a_majority_or_the_surer_view(self):
        assert ballot([Top(1, 0.9), Top(7, 0.2), Top(7, 0.3)]) == self.VOTE
        assert ballot([Top(1, 0.4), Top(7, 0.5)]) == Ballot(7, 1, 2)

    def end(self, *ends: tuple[Ballot | None, bool]) -> tuple[list[str | None], int]:
        objects = Objects({"cat": self.VOTE})
        return [
            objects.end("one", "cat", vote, answered=answered, views=len(ends)) for vote, answered in ends
        ], objects.complete

    def test_the_vote_may_come_with_any_of_the_answers_but_must_come(self):
        assert self.end((None, True), (self.VOTE, True), (None, True)) == ([None] * 3, 1)
        assert self.end((None, True), (None, True), (None, True)) == (
            [None, None, "no vote with the last of 3 views"],
            1,
        )

    def test_without_all_views_there_is_none(self):
        assert self.end((None, True), (None, False), (None, True)) == ([None] * 3, 0)

    def test_another_vote_is_wrong(self):
        (*_, problem), _ = self.end((None, True), (None, True), (Ballot(7, 3, 3), True))
        assert problem.startswith("vote Ballot(label=7, votes=3, views=3) instead of")


def test_an_answer_is_compared_by_class_and_confidence():
    top = Top(3, 0.5)
    assert top.problem(Top(3, 0.505)) is None
    assert top.problem(Top(3, 0.52)) == "confidence 0.5200 instead of 0.5000"
    assert top.problem(Top(4, 0.5)) == "class 4 instead of 3"


@pytest.mark.parametrize(
    ("mib", "per_minute"),
    [
        (lambda second: 100 + min(second, 140), 0),  # only at first
        (lambda second: 100 + 5 * (second > 270), 0),  # one step
        (lambda second: 100 + second / 20, 3),
        (lambda second: 100 + second // 10, 6),  # many steps
    ],
)
def test_memory_that_goes_on_growing_has_a_slope(mib, per_minute):
    samples = [(second, mib(second)) for second in range(300)]
    assert slope(samples) == pytest.approx(per_minute, rel=0.05, abs=1e-9)
    with pytest.raises(ValueError, match="too few samples"):
        slope(samples[:3])


@pytest.fixture(scope="module")
def workload(tmp_path_factory) -> Path:
    """Views that need no torch: the stub says of each how bright its corner is."""
    folder, entries = tmp_path_factory.mktemp("workload"), []
    for photo, grey in (("dim", 40), ("bright", 200)):
        for number in range(1, VIEWS + 1):
            name, pixels = f"{photo}-{number}", np.full((224, 224, 3), grey + number // 3, np.uint8)
            (folder / f"{name}.slf").write_bytes(encode(pixels, np.ones(196), rho=0.1).frame.to_bytes())
            jpeg = io.BytesIO()
            Image.fromarray(pixels).save(jpeg, "JPEG")
            (folder / f"{name}.jpg").write_bytes(jpeg.getvalue())
            entries.append({"name": name, "photo": photo, "viewpoint": number})
    (folder / CONTENTS).write_text(json.dumps(entries))
    return folder


def locust(stub: str, workload: Path, folder: Path) -> tuple[int, dict, str]:
    """Exit code, summary and page of a short run against a stub."""
    (folder / "loaded").touch()
    (folder / "gate").touch()
    summary = folder / "summary.json"
    with running("-c", stub, folder) as server:
        wait_until(lambda: server.is_ready)
        done = subprocess.run(
            [sys.executable, "-m", "locust", "-f", HERE / "locustfile.py", "--headless", "--skip-log",
             "--host", f"http://{server.http_address}", "--link", server.grpc_address, "--rate", "30",
             "--run-time", "3s", "--workload", workload, "--summary", summary],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert summary.exists(), done.stdout + done.stderr
    return done.returncode, json.loads(summary.read_text()), summary.with_suffix(".html").read_text()


@pytest.mark.slow
def test_an_honest_server_passes(workload, tmp_path):
    code, summary, page = locust(STUB, workload, tmp_path)
    assert (code, summary["broken"]) == (0, [])
    kinds = {(each["kind"], each["status"]): each["count"] for each in summary["by_kind"]}
    assert kinds.keys() == {("REST frame", "200"), ("REST picture", "200"), ("gRPC frame", "OK")}
    assert summary["complete_objects"] in (
        kinds["gRPC frame", "OK"] // VIEWS,
        kinds["gRPC frame", "OK"] // VIEWS - 1,
    )
    assert "passed" in page
    assert "p99.9" in page


@pytest.mark.slow
def test_a_server_that_lies_under_load_does_not(workload, tmp_path):
    code, summary, page = locust(LIAR, workload, tmp_path)
    assert code == 1
    assert sum(summary["wrong"].values()) > 0
    assert "not within the limits" in page


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_with_a_real_server_and_an_emulator(tmp_path):
    """No times are judged: the limits that follow from them are those of the phases that are left out."""
    done = subprocess.run(
        [sys.executable, HERE, "soak", "--soak-seconds", "4", "--measure-seconds", "1", "--rate", "4",
         "--max-half-refused", "1", "--max-slope", "1e9", "--out", tmp_path,
         "--server-flag=--model=deit_tiny_patch16_224",
         "--server-flag=--weights=semlink/vision/pretrained/link-trained"],
        capture_output=True, text=True, timeout=560, cwd=HERE.parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (soak,) = json.loads((tmp_path / "report.json").read_text())["phases"].values()
    assert soak["broken"] == []
    assert soak["memory"]["slopes"].keys() == {"server", "channel_emulator"}
    assert (tmp_path / "report.html").read_text().count("<svg") == 1
    assert (tmp_path / "soak-locust.html").exists()
