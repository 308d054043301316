"""Code rate table: measures the highest rates of 5G LDPC codes that bit error rates allow.

python -m experiments.code_rates

A rate of the ladder `RATES` is taken for a bit error rate μ and a length of code blocks where at most two of 2000
random blocks are not decoded, of half full blocks none of 1000: the block error rate is then below 3.2e-3 at a
confidence of 95 % (Clopper-Pearson). Every rate that is found is written at once, and an interrupted run goes on
behind it. `experiments.evaluation.ldpc.best_code` reads the table.
"""

import json
import math
import os
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from scipy.stats import beta

from experiments.evaluation.ldpc import RATES, TABLE, Code, error_rate, segment, transmit
from experiments.provenance import provenance
from semlink.access.hard_decisions import capacity
from semlink.channel.awgn import Awgn
from semlink.channel.base import Channel
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.channel.rayleigh import Rayleigh

BATCH = 10
CHECKED_BLOCKS, MOST_CHECKED_FAILURES = 200, 3
"""Of a check over QAM: at a block error rate of 3.2e-3, more than so many failures have a probability of 0.004."""
BIT_ERROR_RATES = (
    0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12, 0.14,
)  # fmt: skip
ORDERS: tuple[Literal[4, 16, 64, 256], ...] = (4, 16, 64, 256)
CHECKS = [
    *(Awgn(order=order, snr_db=snr_db) for order, snr_db in zip(ORDERS, (6.0, 12.0, 18.0, 22.0), strict=True)),
    *(
        Rayleigh(order=order, snr_db=snr_db)
        for order, snr_db in zip(ORDERS, (10.0, 15.0, 20.0, 25.0), strict=True)
    ),
]
"""Channels of hard decisions on which the rate for their mean bit error rate is tried."""


@dataclass(frozen=True)
class Lengths:
    """How long the code blocks are that rates are tried with.

    Attributes:
        name: in the table.
        trials: blocks that are tried.
        most_failures: how many of them may fail.
        information: bits of a block of base graph 1, for rates above 1/3, and of base graph 2.
        budget: bits on the air that are cut into blocks, instead.
    """

    name: str
    trials: int = 2000
    most_failures: int = 2
    information: tuple[int, int] = (0, 0)
    budget: int = 0

    def code(self, rate: Fraction) -> Code:
        """One block of a rate."""
        if self.budget:
            return replace(segment(self.budget, rate), blocks=1)
        k = self.information[rate <= Fraction(1, 3)]
        return Code(1, k, math.floor(k / rate))


NEARLY_FULL = Lengths("nearly full", information=(7700, 3500))
HALF_FULL = Lengths("half full", 1000, 0, information=(4224, 1912))


def failures(code: Code, channel: Channel, ber: float, trials: int, most: int, seed: int) -> tuple[int, int]:
    """How many random blocks of how many are not decoded; it ends early where more than `most` are not."""
    generator = np.random.default_rng(seed)
    failed = tried = 0
    while tried < trials and failed <= most:
        sent = generator.integers(0, 2, (BATCH, code.k), np.uint8)
        failed += int((transmit(sent, code, channel, ber, generator) != sent).any(axis=1).sum())
        tried += BATCH
    return failed, tried


def find_rate(
    ber: float, lengths: Lengths, highest: Fraction, seed: int, progress: Progress
) -> dict[str, Any] | None:
    """The entry of a bit error rate: the highest rate up to `highest` that meets the criterion, if any."""
    channel = BinarySymmetricChannel(ber=ber)
    task = progress.add_task(f"μ = {ber:g}", total=None)
    above = None
    try:
        for rate in reversed([rate for rate in RATES if rate <= highest]):
            code = lengths.code(rate)
            if code.k / code.n >= capacity(ber):
                continue
            progress.update(task, description=f"μ = {ber:g}, {code.k} bits a block, rate {float(rate):.2f}")
            failed, tried = failures(code, channel, ber, lengths.trials, lengths.most_failures, seed)
            if failed <= lengths.most_failures:
                return {
                    "ber": ber,
                    "percent": int(100 * rate),
                    "k": code.k,
                    "n": code.n,
                    "blocks": lengths.name,
                    "failures": failed,
                    "trials": tried,
                    "block_error_rate_below": float(f"{beta.ppf(0.95, failed + 1, tried - failed):.2g}"),
                    "next_rate": above,
                }
            above = {"percent": int(100 * rate), "failures": failed, "trials": tried}
        return None
    finally:
        progress.remove_task(task)


def main(
    out: Annotated[Path, typer.Option(help="The table; what it holds is not measured again.")] = TABLE,
    ber: Annotated[
        list[float] | None, typer.Option(help="Bit error rates to add.  [default: those listed]")
    ] = None,
    budget: Annotated[
        int, typer.Option(min=0, help="Try the blocks of just so many bits on the air, not those of all budgets.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of blocks and errors.")] = 0,
) -> None:
    """Measures the code rates that are missing; some 20 minutes on one core for all of them."""
    table = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {"rates": [], "checks": []}
    wanted = sorted(ber or BIT_ERROR_RATES)
    if budget:
        points = [(each, Lengths(f"of {budget} bits", budget=budget)) for each in wanted]
    else:
        points = [(each, NEARLY_FULL) for each in wanted]
        points += [(each, HALF_FULL) for each in (wanted if ber else wanted[1::2])]
    channels = [] if ber or budget else CHECKS
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("code rates", total=len(points) + len(channels))
        for each, lengths in points:
            _add_rate(table, each, lengths, seed, out, progress)
            progress.advance(task)
        for channel in channels:
            _add_check(table, channel, seed, out, progress)
            progress.advance(task)
    print(out)


def _add_rate(
    table: dict[str, Any], ber: float, lengths: Lengths, seed: int, out: Path, progress: Progress
) -> None:
    entries = table["rates"]
    if any((entry["ber"], entry["blocks"]) == (ber, lengths.name) for entry in entries):
        return
    # Fewer errors, or longer blocks, allow at least as high a rate: that bounds the search.
    better = [
        entry["percent"]
        for entry in entries
        if not lengths.budget and entry["ber"] <= ber and entry["blocks"] in (lengths.name, NEARLY_FULL.name)
    ]
    started = time.perf_counter()
    found = find_rate(ber, lengths, Fraction(min(better, default=int(100 * RATES[-1])), 100), seed, progress)
    if found is None:
        progress.console.print(f"μ = {ber:g}: no rate meets the criterion, not even {float(RATES[0]):.2f}")
        return
    entries.append(found | {"seconds": round(time.perf_counter() - started, 1)} | _described(seed))
    entries.sort(key=lambda entry: (-entry["k"], entry["ber"]))
    _write(table, out)


def _add_check(table: dict[str, Any], channel: Channel, seed: int, out: Path, progress: Progress) -> None:
    """Whether the rate for the mean bit error rate of hard-decided QAM meets the target there too."""
    assert isinstance(channel, Awgn | Rayleigh)
    described = {"channel": channel.name, "order": channel.order, "snr_db": channel.snr_db}
    if any(described.items() <= check.items() for check in table["checks"]):
        return
    ber = error_rate(channel)
    assert ber is not None
    rates = [entry for entry in table["rates"] if entry["ber"] >= ber and entry["blocks"] == NEARLY_FULL.name]
    entry = min(rates, key=lambda entry: entry["ber"])
    task = progress.add_task(f"{channel}, {entry['k']} bits a block", total=None)
    code = Code(1, entry["k"], entry["n"])
    failed, tried = failures(code, channel, ber, CHECKED_BLOCKS, MOST_CHECKED_FAILURES, seed)
    progress.remove_task(task)
    found = {"ber": ber, "percent": entry["percent"], "k": code.k, "failures": failed, "trials": tried}
    table["checks"].append(described | found | _described(seed))
    _write(table, out)


def _described(seed: int) -> dict[str, Any]:
    return {"seed": seed, **provenance()}


def _write(table: dict[str, Any], out: Path) -> None:
    """One entry a line, replaced as a whole, so that an interrupted run leaves a table."""
    lines = [
        f'"{name}": [\n' + ",\n".join(json.dumps(entry, allow_nan=False) for entry in entries) + "\n]"
        for name, entries in table.items()
    ]
    part = out.with_suffix(".part")
    part.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    os.replace(part, out)


if __name__ == "__main__":
    typer.run(main)
