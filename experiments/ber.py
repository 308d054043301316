"""Bit error rate of every QAM over AWGN and Rayleigh fading, uncoded, beside the closed forms."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from experiments.accuracy import save
from experiments.evaluation.intervals import wilson
from experiments.evaluation.measurement import progress_bar
from experiments.evaluation.rows import append_row, rows_of
from experiments.provenance import provenance
from semlink.channel.awgn import Awgn
from semlink.channel.base import RawBits
from semlink.channel.qam import awgn_bit_error_rate, bits_per_symbol, rayleigh_bit_error_rate
from semlink.channel.rayleigh import Rayleigh

ORDERS: tuple[Literal[4, 16, 64, 256], ...] = (4, 16, 64, 256)
SNRS_DB: dict[type[Awgn | Rayleigh], range] = {Awgn: range(-4, 33, 2), Rayleigh: range(-5, 51, 5)}
CLOSED_FORMS: dict[type[Awgn | Rayleigh], Callable[..., NDArray[np.float64]]] = {
    Awgn: awgn_bit_error_rate,
    Rayleigh: rayleigh_bit_error_rate,
}
TITLES: dict[type[Awgn | Rayleigh], str] = {Awgn: "AWGN", Rayleigh: "Rayleigh fading known to the receiver"}
LEAST_RATE = 1e-5
"""Points of lower rates are left out: too few errors would be seen."""
FRAMES, FRAME_BITS = 12, 360_000
"""Random payloads of a point, and the bits of each: whole symbols of every order."""

Point = Awgn | Rayleigh


def points() -> list[Point]:
    """The channels of the figure."""
    kinds: tuple[type[Point], ...] = (Awgn, Rayleigh)
    every: list[Point] = [
        kind(order=order, snr_db=float(snr_db)) for kind in kinds for order in ORDERS for snr_db in SNRS_DB[kind]
    ]
    return [channel for channel in every if closed_form(channel) >= LEAST_RATE]


def closed_form(channel: Point) -> float:
    """Exact mean bit error rate of a channel."""
    return float(CLOSED_FORMS[type(channel)](channel.order, 10 ** (channel.snr_db / 10)))


def measure(channel: Point, seed: int, frames: int = FRAMES) -> dict[str, float]:
    """Sends random payloads with the function that the channel emulator sends frames with, and counts.

    Bits of one symbol share a fade and err together. The interval is therefore Wilson's (1927) of the bits divided
    by their design effect (Kish, Survey Sampling, 1965, 8.2): by how much the variance of a symbol's errors is
    larger than that of as many independent bits. Where it is smaller, as over AWGN, it is taken as 1.

    Args:
        channel: the modulation and its noise.
        seed: of payloads and noise.
        frames: how many payloads of `FRAME_BITS` bits.

    Returns:
        `bits`, `errors`, `ber`, `low` and `high` of its 95 % interval, `design_effect`, `closed_form`.
    """
    width = bits_per_symbol(channel.order)
    generator = np.random.default_rng((seed, channel.order, round(channel.snr_db) + 100, len(channel.name)))
    by_symbol = []
    for _ in range(frames):
        payload = RawBits(generator.bytes(FRAME_BITS // 8))
        flips = channel.transmit(payload, None, None, generator).flips
        by_symbol.append(np.bincount(flips // width, minlength=FRAME_BITS // width))
    errors_of_symbols = np.concatenate(by_symbol)
    bits, errors = frames * FRAME_BITS, int(errors_of_symbols.sum())
    rate = errors / bits
    independent = width * rate * (1 - rate)
    effect = max(float(errors_of_symbols.var()) / independent, 1.0) if independent else 1.0
    low, high = wilson(round(errors / effect), round(bits / effect))
    return {
        "bits": bits, "errors": errors, "ber": rate, "low": low, "high": high,
        "design_effect": effect, "closed_form": closed_form(channel),
    }  # fmt: skip


def main(out: Path, known: Sequence[Path], seed: int) -> None:
    """Measures what is missing, and draws.

    Args:
        out: folder of the rows and the picture.
        known: other files of rows, which are not measured again.
        seed: of payloads and noise.
    """
    rows_file = out / "ber.jsonl"
    found = _existing([*known, rows_file], seed)
    if missing := [channel for channel in points() if _key(channel, seed) not in found]:
        with progress_bar() as progress:
            for channel in progress.track(missing, description="bit error rates"):
                measured = measure(channel, seed)
                append_row(rows_file, {"channel": _settings(channel), "seed": seed, **measured} | provenance())
        found = _existing([*known, rows_file], seed)
    rows = {channel: found[_key(channel, seed)] for channel in points()}
    figure, panels = plt.subplots(1, 2, figsize=(13, 5.5), sharey=True)
    for axes, (kind, title) in zip(panels, TITLES.items(), strict=True):
        _draw(axes, {channel: row for channel, row in rows.items() if type(channel) is kind})
        axes.set_title(title)
    panels[0].set_ylabel("bit error rate")
    panels[0].legend(fontsize=8)
    inside = sum(row["low"] <= row["closed_form"] <= row["high"] for row in rows.values())
    figure.suptitle(
        f"uncoded, hard decisions, {FRAMES * FRAME_BITS:,} bits a point; lines: closed forms; points: measured, "
        f"with 95 % intervals, of which {inside} of {len(rows)} contain the line"
    )
    save(figure, out / "ber.png")


def _draw(axes: Axes, rows: dict[Point, dict[str, Any]]) -> None:
    axes.set_prop_cycle(color=plt.get_cmap("tab10")(range(10)))
    for order in ORDERS:
        own = sorted((channel for channel in rows if channel.order == order), key=lambda channel: channel.snr_db)
        snrs_db = np.array([channel.snr_db for channel in own])
        fine = np.linspace(snrs_db.min(), snrs_db.max(), 200)
        (line,) = axes.plot(fine, CLOSED_FORMS[type(own[0])](order, 10 ** (fine / 10)), label=f"{order}-QAM")
        middle, low, high = (np.array([rows[channel][name] for channel in own]) for name in ("ber", "low", "high"))
        bars = np.maximum([middle - low, high - middle], 0)  # of 0 where rounding left the middle just outside
        axes.errorbar(snrs_db, middle, bars, fmt="o", color=line.get_color(), markersize=4, capsize=3)
    axes.set_yscale("log")
    axes.set_xlabel("$E_s/N_0$, dB")
    axes.grid(visible=True, which="both", alpha=0.3)


def _settings(channel: Point) -> dict[str, Any]:
    return {"type": channel.name, "order": channel.order, "snr_db": channel.snr_db}


def _key(channel: Point, seed: int) -> tuple[Any, ...]:
    return (*_settings(channel).values(), seed, FRAMES * FRAME_BITS)


def _existing(paths: Sequence[Path], seed: int) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {
        (*row["channel"].values(), row["seed"], row["bits"]): row
        for path in paths
        for row in rows_of(path)
        if row["seed"] == seed
    }
