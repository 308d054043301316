"""Every answer, counted by what was asked and how it was answered, and what of it is within the limits."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

ANSWERED = frozenset({"200", "OK"})
REFUSED = frozenset({"429", "RESOURCE_EXHAUSTED"})
PERCENTILES = (50, 90, 95, 99, 99.9)


@dataclass
class Tally:
    """Milliseconds from the time that each request was due, by kind and status; and what was wrong."""

    milliseconds: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: Counter = field(default_factory=Counter)
    late: list[float] = field(default_factory=list)
    """Milliseconds by which requests were sent after they were due: how far the load itself lagged."""

    def note(self, kind: str, status: str, milliseconds: float, problem: str | None) -> None:
        """One request is over; `problem`: what is wrong with its answer."""
        self.milliseconds[kind, status].append(milliseconds)
        if problem:
            self.wrong[problem] += 1

    def of(self, statuses: Iterable[str]) -> np.ndarray:
        """Milliseconds of all requests with one of these statuses."""
        wanted = set(statuses)
        return np.array([value for (_, status), values in self.milliseconds.items() if status in wanted
                         for value in values])  # fmt: skip

    @property
    def statuses(self) -> Counter:
        """Requests by status."""
        counts: Counter = Counter()
        for (_, status), values in self.milliseconds.items():
            counts[status] += len(values)
        return counts

    def summary(self, seconds: float) -> dict:
        """As JSON takes it. `seconds`: how long requests were sent."""
        answered, refused, total = self.of(ANSWERED), self.of(REFUSED), sum(self.statuses.values())
        return {
            "seconds": seconds,
            "requests": total,
            "offered_per_second": total / seconds,
            "answered_per_second": answered.size / seconds,
            "refused_share": refused.size / total if total else 0.0,
            "answered_ms": percentiles(answered),
            "refused_ms": percentiles(refused),
            "late_ms": percentiles(np.array(self.late)),
            "errors": {
                status: count for status, count in self.statuses.items() if status not in ANSWERED | REFUSED
            },
            "wrong": dict(self.wrong.most_common()),
            "by_kind": [
                {"kind": kind, "status": status, "count": len(values), **percentiles(np.array(values))}
                for (kind, status), values in sorted(self.milliseconds.items())
            ],
        }


def percentiles(values: np.ndarray) -> dict[str, float]:
    """p50 and so on, mean and largest; nothing of nothing."""
    if not values.size:
        return {}
    return {
        **{f"p{each:g}": float(np.percentile(values, each, method="higher")) for each in PERCENTILES},
        "mean": float(values.mean()),
        "max": float(values.max()),
    }


@dataclass(frozen=True)
class Limits:
    """What a run must keep to; wrong answers and errors are never within them."""

    max_refused: float = 1.0
    max_p99_ms: float = float("inf")
    max_refusal_ms: float = float("inf")


def broken(summary: Mapping, limits: Limits) -> list[str]:
    """What of a summary is not within the limits, in words."""
    problems = [f"{count} × {what}" for what, count in summary["wrong"].items()]
    problems += [f"{count} × {status}" for status, count in summary["errors"].items()]
    if not summary["answered_ms"]:
        problems.append("nothing was answered")
    if summary["refused_share"] > limits.max_refused:
        problems.append(f"{summary['refused_share']:.1%} refused, more than {limits.max_refused:.1%}")
    for what, kind, most in (
        ("answered", "answered_ms", limits.max_p99_ms),
        ("refused", "refused_ms", limits.max_refusal_ms),
    ):
        if (p99 := summary[kind].get("p99", 0.0)) > most:
            problems.append(f"p99 of those {what} {p99:.0f} ms, more than {most:.0f} ms")
    return problems
