"""Table of the learned interface: PSNR and accuracy of every point, and leads with their 95 % intervals."""

from pathlib import Path
from typing import Any

from experiments.evaluation.coded_link import CHANNEL_USES, KINDS, SNRS_DB
from experiments.learned_interface import CODED, VARIANTS
from experiments.learned_interface_figures import CHANNELS, NAMES
from experiments.tables import write_table

Row = dict[str, Any]
LDPC_CODED = [method for method, (_, carrier) in CODED.items() if carrier == "ldpc"]
BARS = [("split", "awgn", cbr, snr_db) for cbr in ("1/24", "1/8") for snr_db in (5.0, 10.0, 20.0)] + [
    ("no-ian", "rayleigh", "1/24", snr_db) for snr_db in SNRS_DB
]
"""Comparisons that were set beforehand: method, channel, ratio and SNR where the learned interface should lead."""


def write_page(rows: list[Row], path: Path, source: str) -> None:
    """Writes the page.

    Args:
        rows: as `experiments.learned_interface.rows` gives them.
        path: of the page.
        source: name of the file of the rows.
    """
    first = rows[0]
    lines = [
        f"# Learned interface: {first['data']}",
        "",
        f"Written by `{first['command']}` from [{source}]({source}),",
        f"which has versions and machine. {first['images']} pictures, seed {first['seed']} of the channel: all",
        "methods get the same pictures and the same draws. PSNR in dB is the mean of the pictures' own; accuracy",
        "is that of a small convolutional network that has seen clean pictures only. Intervals of 95 % are those",
        "of means over pictures; leads are paired, picture by picture.",
        "",
        *_trained(rows),
        *_bars(rows),
    ]
    for channel in KINDS:
        for quantity, unit in (("psnr", "PSNR, dB"), ("accuracy", "accuracy, %")):
            if any(row[quantity] for row in rows if row["channel"] == channel):
                lines += ["", f"## {CHANNELS[channel]}: {unit}", "", *_values(rows, channel, quantity)]
    lines += ["", "## Leads of the learned interface, dB", "", *_leads(rows)]
    lines += ["", "## What WebP and AVIF could send", "", *_messages(rows)]
    write_table(path, lines)


def _trained(rows: list[Row]) -> list[str]:
    lines = [
        "| networks | channel | interface | source: size, pictures, passes "
        "| channel networks: size, pictures, passes, seed |",
        "| --- " * 5 + "|",
    ]
    for method in VARIANTS:
        for channel in KINDS:
            found = [row["networks"] for row in rows if (row["method"], row["channel"]) == (method, channel)]
            if found:
                source, access = found[0]["source"], found[0]["access"]
                lines.append(
                    f"| {NAMES[method]} | {CHANNELS[channel]} | {source['interface']}, {found[0]['interface']} "
                    f"| {source['size']}, {source['images']}, {source['passes']} "
                    f"| {access['size']}, {access['images']}, {access['passes']}, {access['seed']} |"
                )
    return lines if len(lines) > 2 else ["No networks were there to measure."]


def _bars(rows: list[Row]) -> list[str]:
    """The comparisons that were set beforehand, and whether the interval is above 0."""
    by_point = {(row["method"], row["channel"], row["cbr"], row["snr_db"]): row for row in rows}
    lines = []
    for bar in BARS:
        row = by_point.get(bar)
        if row is not None and "ahead" in row:
            method, channel, cbr, snr_db = bar
            lead = row["ahead"]["psnr"]
            lines.append(
                f"| {NAMES[method]} | {CHANNELS[channel]} | {cbr} | {snr_db:g} | {_signed(lead)} "
                f"| {'yes' if lead['low'] > 0 else 'no'} |"
            )
    if not lines:
        return []
    head = ["| learned interface against | channel | CBR | SNR, dB | ahead by, dB | by more than the interval |"]
    return ["", "## What was to be shown", "", *head, "| --- " * 6 + "|", *lines]


def _values(rows: list[Row], channel: str, quantity: str) -> list[str]:
    scale, digits = (100, 1) if quantity == "accuracy" else (1, 2)
    lines = [
        f"| CBR | method {''.join(f'| {snr_db:g} dB ' for snr_db in SNRS_DB)}|",
        "| --- " * (2 + len(SNRS_DB)) + "|",
    ]
    for cbr in CHANNEL_USES:
        for method in (*VARIANTS, *CODED):
            line = _line(rows, method, channel, cbr)
            if line and all(row[quantity] for row in line):
                cells = [f"{scale * row[quantity]['mean']:.{digits}f}" for row in line]
                lines.append(f"| {cbr} | {NAMES[method]} | {' | '.join(cells)} |")
    return lines


def _leads(rows: list[Row]) -> list[str]:
    head = "".join(f"| {snr_db:g} dB " for snr_db in SNRS_DB)
    lines = [f"| channel | CBR | against {head}|", "| --- " * (3 + len(SNRS_DB)) + "|"]
    for channel in KINDS:
        for cbr in CHANNEL_USES:
            for method in (*VARIANTS, *CODED):
                line = _line(rows, method, channel, cbr)
                if line and all("ahead" in row for row in line):
                    cells = [_signed(row["ahead"]["psnr"]) for row in line]
                    lines.append(f"| {CHANNELS[channel]} | {cbr} | {NAMES[method]} | {' | '.join(cells)} |")
    return lines


def _messages(rows: list[Row]) -> list[str]:
    """Bits of a message and what fitted into it, for the methods behind a code."""
    heads = "".join(f"| {NAMES[codec].partition(',')[0]}: whole, smaller, one colour, % " for codec in LDPC_CODED)
    lines = [f"| channel | CBR | SNR, dB | QAM, rate | bits | blocks lost, % {heads}|", "| --- " * 8 + "|"]
    by_point = {(row["channel"], row["cbr"], row["snr_db"], row["method"]): row for row in rows}
    for channel, cbr, snr_db in dict.fromkeys(point[:3] for point in by_point if point[3] in LDPC_CODED):
        sent = [by_point[channel, cbr, snr_db, method] for method in LDPC_CODED]
        first = sent[0]
        lines.append(
            f"| {CHANNELS[channel]} | {cbr} | {snr_db:g} | {first['order']}, {first['rate']:.2f} "
            f"| {first['message_bits']} | {100 * first['lost']:.1f} | {' | '.join(map(_fitted, sent))} |"
        )
    return lines


def _fitted(row: Row) -> str:
    """Shares of pictures that were sent whole, scaled down, and as one colour, in percent."""
    whole = row["sides"].get("32", 0.0)
    shares = (whole, sum(row["sides"].values()) - whole, row["one_colour"])
    return ", ".join(f"{100 * share:.1f}" for share in shares)


def _line(rows: list[Row], method: str, channel: str, cbr: str) -> list[Row]:
    """Rows of a method at every SNR; none if one is missing."""
    own = {
        row["snr_db"]: row for row in rows if (row["method"], row["channel"], row["cbr"]) == (method, channel, cbr)
    }
    return [own[snr_db] for snr_db in SNRS_DB] if set(own) == set(SNRS_DB) else []


def _signed(interval: dict[str, float]) -> str:
    return f"{interval['mean']:+.2f} ({interval['low']:+.2f} to {interval['high']:+.2f})"
