"""python tests/load: a server and a channel emulator under load, every answer checked, with a report."""

import json
import subprocess
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from link import StartError, link
from phases import Phase, PhaseError, run_phase, unloaded
from report import write_report
from rich.console import Console
from rich.table import Table
from workload import views

from experiments.provenance import provenance

OUT = Path("runs/load")


class Name(StrEnum):
    """Phases, in this order."""

    HALF = "half"
    OVERLOAD = "overload"
    SOAK = "soak"


def main(
    phases: Annotated[
        list[Name] | None,
        typer.Argument(
            help="Of these: half the capacity, (almost) nothing may be refused; overload, twice the capacity, "
            "those admitted must be answered soon and the others refused at once; soak, half the capacity for "
            "long, memory must be flat. Without: all.",
            show_default=False,
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="length of half and overload")] = 30,
    soak_seconds: Annotated[float, typer.Option(min=3, help="length of the soak")] = 300,
    measure_seconds: Annotated[
        float, typer.Option(min=1, help="how long the unloaded latency and the capacity are each measured")
    ] = 10,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="requests a second that half and soak take for half the capacity; else measured"
        ),
    ] = None,
    max_half_refused: Annotated[float, typer.Option(min=0, max=1, help="share that half may refuse")] = 0.01,
    max_slope: Annotated[
        float, typer.Option(help="MiB a minute by which the memory of a process may grow in the soak")
    ] = 2.0,
    server_flag: Annotated[
        list[str] | None, typer.Option(help="flag for the server, such as --server-flag=--max-batch=4; repeatable")
    ] = None,
    seed: Annotated[int, typer.Option(help="of the arrivals and of what is sent")] = 0,
    out: Annotated[
        Path, typer.Option(help="folder for report.html, report.json, Locust's reports and logs")
    ] = OUT,
) -> None:
    """Puts load on a server, half of the devices through a channel emulator that does no harm.

    Requests arrive at random at a set rate, however long answers take. Every answer and vote is checked against
    the answers without load. Ends with 1 where a phase does not keep to its limits.
    """
    console, wanted, out = Console(), phases or list(Name), out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with console.status("making frames, starting server and channel emulator"):
            requests = views(out / "workload")
        with link(out, server_flag or []) as (server, emulator):
            with console.status(f"measuring without load, 2 × {measure_seconds:.0f} s"):
                alone, capacity = unloaded(server, requests, measure_seconds)
            about = {
                "unloaded, p50 / p99": f"{alone['p50']:.0f} / {alone['p99']:.0f} ms",
                "capacity": f"{capacity:.2f} answers a second",
            }
            console.print(*(f"{name}: {value}." for name, value in about.items()))
            half = rate or capacity / 2
            planned = {
                Name.HALF: Phase("half", half, seconds, {"max-refused": max_half_refused}),
                Name.OVERLOAD: Phase(
                    "overload",
                    4 * half,
                    seconds,
                    {
                        "max-p99-ms": 3 * alone["p99"] + 8e3 / capacity,
                        "max-refusal-ms": alone["p99"],
                    },
                ),
                Name.SOAK: Phase(
                    "soak", half, soak_seconds, {"max-refused": max_half_refused}, max_slope=max_slope
                ),
            }
            results = {}
            for name in Name:
                if name in wanted:
                    phase, began = planned[name], time.monotonic()
                    with console.status(f"{name}: {phase.rate:.2f} requests a second for {phase.seconds:.0f} s"):
                        results[str(name)] = run_phase(phase, server, emulator, out / "workload", out, seed)
                    _show(console, name, results[str(name)], time.monotonic() - began)
    except (StartError, PhaseError, subprocess.SubprocessError) as error:
        console.print(f"[red]{error}[/]")
        raise typer.Exit(2) from None
    write_report(out / "report.html", results, about)
    measured = {"unloaded_ms": alone, "capacity_per_second": capacity, "phases": results}
    report = measured | {"seed": seed, **provenance()}
    (out / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    console.print(f"Report: {out / 'report.html'}")
    if any(result["broken"] for result in results.values()):
        raise typer.Exit(1)


def _show(console: Console, name: str, result: dict, seconds: float) -> None:
    verdict = "[red]not within the limits[/]" if result["broken"] else "[green]passed[/]"
    table = Table(
        title=f"{name}, {result['rate']:.2f} requests a second: {verdict}", caption=f"{seconds:.0f} s in all"
    )
    for column in ("request", "status", "count", "p50 ms", "p95 ms", "p99 ms", "max ms"):
        table.add_column(column, justify="left" if column in ("request", "status") else "right")
    for each in result["by_kind"]:
        times = (f"{each[column]:.0f}" for column in ("p50", "p95", "p99", "max"))
        table.add_row(each["kind"], each["status"], str(each["count"]), *times)
    console.print(table)
    for process, growth in result.get("memory", {}).get("slopes", {}).items():
        console.print(f"{process}: {growth:+.2f} MiB a minute")
    for problem in result["broken"]:
        console.print(f"[red]{problem}[/]")


if __name__ == "__main__":
    typer.run(main)
