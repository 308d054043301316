"""Coded modulation table: measures the best order and code rate for short pictures over AWGN and Rayleigh fading.

python -m experiments.coded_modulation

For each channel, SNR and number of channel uses: of the orders of QAM and of the rates of 5G LDPC codes in steps
of 0.02, the pair that carries the most information bits while at most one of a hundred blocks is lost, measured.
A lost block shows one colour instead of a picture, so higher rates with more losses do not pay: from one rate to
the next a picture gains some 0.2 dB, and a lost block costs some 10 dB. Every pair that is found is written at
once, and an interrupted run goes on behind it. `experiments.evaluation.coded_link.best_code` reads the table.
"""

import json
import math
import os
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from scipy.stats import beta, norm

from experiments.evaluation.coded_link import (
    BEST_CODES,
    CHANNEL_USES,
    KINDS,
    SNRS_DB,
    Kind,
    air,
    arrives,
    capacity_bits,
)
from experiments.provenance import provenance
from semlink.access.ldpc import HIGHEST_RATE, SHORTEST_BLOCK, Ldpc
from semlink.channel.qam import ORDERS, bits_per_symbol

TRIALS, MOST_LOST = 400, 4
"""Random blocks that a pair is tried with, and how many of them may be lost."""
BATCH = 50
RATE_STEP = 0.02


def lost(code: Ldpc, order: int, kind: Kind, snr_db: float, seed: int) -> tuple[int, int]:
    """How many random blocks of how many do not arrive; it ends early where more than `MOST_LOST` do not."""
    uses = code.n // bits_per_symbol(order)
    failed = tried = 0
    while tried < TRIALS and failed <= MOST_LOST:
        generator = np.random.default_rng((seed, tried))
        sent = generator.integers(0, 2, (BATCH, code.k), np.uint8)
        met = air(kind, snr_db, BATCH, uses, int(generator.integers(2**31)))
        failed += int((~arrives(sent, code, order, met)).sum())
        tried += BATCH
    return failed, tried


def most_hoped_for(kind: Kind, snr_db: float, uses: int) -> int:
    """Information bits that no pair is tried above: the normal approximation of the best block code there is.

    L·C - sqrt(L·V)·Q⁻¹(ε) + log2(L)/2 for the complex AWGN channel (Polyanskiy, Poor and Verdú, IEEE Transactions
    on Information Theory 56(5), 2010, equation 282, twice per complex use); over fading L·C alone.
    """
    bits = capacity_bits(kind, snr_db, uses)
    if kind == "rayleigh":
        return bits
    snr = 10 ** (snr_db / 10)
    dispersion = snr * (snr + 2) / (snr + 1) ** 2 * math.log2(math.e) ** 2
    return math.floor(bits - math.sqrt(uses * dispersion) * norm.isf(MOST_LOST / TRIALS) + math.log2(uses) / 2)


def find_code(kind: Kind, snr_db: float, cbr: str, seed: int) -> dict[str, Any] | None:
    """The entry of a channel, an SNR and a CBR: the pair with the most information bits, if any meets the target.

    Of an order only rates are tried that carry more than the best pair before it.
    """
    uses = CHANNEL_USES[cbr]
    hoped = most_hoped_for(kind, snr_db, uses)
    # The order whose symbols have about two bits more than they can carry is most often the best: it comes first.
    orders = sorted(ORDERS, key=lambda order: abs(bits_per_symbol(order) - hoped / uses - 1.5))
    best: dict[str, Any] | None = None
    for order in orders:
        n = uses * bits_per_symbol(order)
        rates = np.arange(HIGHEST_RATE - 0.01, 0.2, -RATE_STEP)
        for rate in rates:
            k = math.floor(n * float(rate))
            if k > hoped or k < SHORTEST_BLOCK:
                continue
            if best is not None and k <= best["k"]:
                break
            code = Ldpc(k, n)
            failed, tried = lost(code, order, kind, snr_db, seed)
            if failed <= MOST_LOST:
                bound = float(beta.ppf(0.95, failed + 1, tried - failed))
                best = {
                    "channel": kind, "snr_db": snr_db, "cbr": cbr, "order": order, "k": k, "n": n,
                    "rate": round(code.rate, 4), "lost": failed, "trials": tried,
                    "block_error_rate_below": float(f"{bound:.2g}"),
                }  # fmt: skip
                break
    return best


def main(
    out: Annotated[Path, typer.Option(help="The table; what it holds is not measured again.")] = BEST_CODES,
    seed: Annotated[int, typer.Option(min=0, help="Seed of blocks and noise.")] = 0,
) -> None:
    """Measures the pairs that are missing; some 15 minutes on one core for all of them."""
    entries = json.loads(out.read_text(encoding="utf-8"))["codes"] if out.is_file() else []
    known = {(entry["channel"], entry["snr_db"], entry["cbr"]) for entry in entries}
    wanted = [(kind, snr_db, cbr) for cbr in CHANNEL_USES for kind in KINDS for snr_db in SNRS_DB]
    with Progress(console=Console(stderr=True)) as progress:
        for kind, snr_db, cbr in progress.track(wanted, description="coded modulation"):
            if (kind, snr_db, cbr) in known:
                continue
            started = time.perf_counter()
            found = find_code(kind, snr_db, cbr, seed)
            if found is None:
                progress.console.print(f"{kind}, {snr_db:g} dB, CBR {cbr}: no pair meets the target")
                continue
            seconds = round(time.perf_counter() - started, 1)
            entries.append(found | {"seconds": seconds, "seed": seed, **provenance()})
            _write(entries, out)
    print(out)


def _write(entries: list[dict[str, Any]], out: Path) -> None:
    """One entry a line, replaced as a whole, so that an interrupted run leaves a table."""
    part = out.with_suffix(".part")
    lines = ",\n".join(json.dumps(entry, allow_nan=False) for entry in entries)
    part.write_text('{\n"codes": [\n' + lines + "\n]\n}\n", encoding="utf-8")
    os.replace(part, out)


if __name__ == "__main__":
    typer.run(main)
