"""The report of a load test as one HTML page: percentiles by status, memory over time, what was not kept."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .8rem 0 } th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd }
td { text-align: right; font-variant-numeric: tabular-nums } td:first-child, th:first-child { text-align: left }
.passed { color: #176b2c } .failed { color: #a61b1b } svg { background: #fafafa; border: 1px solid #ddd }
"""
COLUMNS = ("p50", "p90", "p95", "p99", "p99.9", "max")
COLOURS = ("#1f5fa8", "#b3541e", "#3b7d3b", "#7b3fa0")
WIDTH, HEIGHT = 720, 180


def write_report(path: Path, phases: Mapping[str, Mapping], about: Mapping[str, object] | None = None) -> None:
    """Writes the page.

    Args:
        path: of the page; what phases link to is beside it.
        phases: by name, what `Tally.summary` says, with `broken`, and `memory` where it was watched.
        about: what else is worth a line at the top.
    """
    failed = any(phase["broken"] for phase in phases.values())
    lines = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Semlink under load</title>",
        f"<style>{STYLE}</style><h1>Semlink under load: {_verdict(failed)}</h1>",
        _table(("", ""), about.items()) if about else "",
        *(_phase(name, phase) for name, phase in phases.items()),
        "</html>",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


def _verdict(failed: object) -> str:
    return "<span class=failed>not within the limits</span>" if failed else "<span class=passed>passed</span>"


def _phase(name: str, phase: Mapping) -> str:
    parts = [f"<h2>{escape(name)}: {_verdict(phase['broken'])}</h2>"]
    if phase["broken"]:
        parts.append(
            "<ul>" + "".join(f"<li class=failed>{escape(each)}</li>" for each in phase["broken"]) + "</ul>"
        )
    parts.append(
        f"<p>{phase['requests']} requests in {phase['seconds']:.0f} s: {phase['offered_per_second']:.2f} a second "
        f"came, {phase['answered_per_second']:.2f} were answered, {phase['refused_share']:.1%} were refused; "
        f"{sum(phase['wrong'].values())} wrong answers, {sum(phase['errors'].values())} errors. "
        f"Milliseconds, from when a request was due:</p>"
    )
    rows = [
        (each["kind"], each["status"], each["count"], *(f"{each[column]:.1f}" for column in COLUMNS))
        for each in phase["by_kind"]
    ]
    for what in ("answered", "refused", "late"):
        if times := phase[f"{what}_ms"]:
            label = "sent after it was due" if what == "late" else f"all {what}"
            rows.append((label, "", "", *(f"{times[column]:.1f}" for column in COLUMNS)))
    parts.append(_table(("request", "status", "count", *COLUMNS), rows))
    if locust := phase.get("locust_report"):
        parts.append(f'<p><a href="{escape(locust)}">Locust\'s own report</a></p>')
    if memory := phase.get("memory"):
        rows = [(one, f"{memory['slopes'][one]:+.2f}") for one in memory["slopes"]]
        parts += [_chart(memory["samples"]), _table(("process", "MiB a minute, once settled"), rows)]
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    def row(cells: Iterable[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + row(head, "th") + "".join(row(each, "td") for each in rows) + "</table>"


def _chart(samples: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Resident memory of each process over time, from 0 MiB."""
    seconds = max(each[-1][0] for each in samples.values()) or 1.0
    most = 1.1 * max(mib for each in samples.values() for _, mib in each)
    lines = []
    for colour, (name, each) in zip(COLOURS, samples.items(), strict=False):
        points = " ".join(f"{WIDTH * at / seconds:.1f},{HEIGHT * (1 - mib / most):.1f}" for at, mib in each)
        last = each[-1][1]
        label = f'<text x=8 y="{HEIGHT * (1 - last / most) - 5:.1f}" fill="{colour}">'
        lines.append(f'<polyline points="{points}" fill=none stroke="{colour}" stroke-width=1.5 />')
        lines.append(f"{label}{escape(name)}, {last:.0f} MiB</text>")
    return f'<svg width={WIDTH} height={HEIGHT} viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(lines)}</svg>'
