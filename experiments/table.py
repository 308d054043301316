"""The measured rows as Markdown tables: accuracy in %, its 95 % interval, and the bits that were on the air.

python -m experiments.table DATA
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from experiments.accuracy import HELD_OUT, RESULTS
from semlink.learning.evaluation import Cell
from semlink.learning.image_sets import load_image_set
from semlink.learning.intervals import difference


def _pairs(rows: list[dict], things: list[str]) -> list[str]:
    """By how much incremental IAQ (γ = 1, not told μ) is ahead of everything else at the same ρ and μ."""
    lines = [
        "## Incremental IAQ, not told of the errors, beside everything else on the same photos",
        "",
        "Points of accuracy, with the 95 % interval of the paired difference.",
        "",
        "| beside | γ | ρ | μ | designed for | IAQ is ahead by | 95 % interval |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    by_cell = {json.dumps(row["cell"], sort_keys=True): row for row in rows}
    for row in sorted(rows, key=_order):
        cell = row["cell"]
        iaq = json.dumps(asdict(Cell("incremental", cell["rho"], ber=cell["ber"])), sort_keys=True)
        if iaq in by_cell and row is not by_cell[iaq]:
            gain = difference(_correct(by_cell[iaq], len(things)), _correct(row, len(things)), things)
            lines.append(
                f"| {_setting(cell)} | {100 * gain['difference']:+.1f} "
                f"| {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f} |"
            )
    return lines


def _correct(row: dict, count: int) -> list[bool]:
    return np.unpackbits(np.frombuffer(bytes.fromhex(row["correct"]), np.uint8), count=count).astype(bool).tolist()


def _setting(cell: dict) -> str:
    return " | ".join([cell["method"], *(f"{cell[name]:g}" for name in ("gamma", "rho", "ber", "design_ber"))])


def _order(row: dict) -> list:
    return [row["cell"][name] for name in ("ber", "rho", "method", "gamma", "design_ber")]


def main(data: Path) -> None:
    """Writes RESULTS/NAME.md."""
    out = RESULTS / f"{data.name}.jsonl"
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    run = rows[0]["run"]
    lines = [
        f"# {run['data']}, {run['only']}: {run['images']} images, one view each",
        "",
        f"Device: {run['device']}. Server: {run['server']}. Seed {run['seed']}.",
        f"Written by `python -m experiments.table {data.name}` from [{out.name}]({out.name}), which has the",
        "command, versions and machine of each row. A codec has as many bits in all as the frame of that ρ,",
        "all of them exposed to errors; of a frame only the payload is. Lost: files that could not be decoded.",
        "",
        "| method | γ | ρ | μ | designed for | accuracy | 95 % interval | bits on the air | lost |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in sorted(rows, key=_order):
        cell, single = row["cell"], row["single"]
        lines.append(
            f"| {_setting(cell)} | {100 * single['accuracy']:.1f} "
            f"| {100 * single['low']:.1f} to {100 * single['high']:.1f} "
            f"| {row['bits']:,.0f} | {100 * row['lost']:.1f} % |"
        )
    lines += ["", *_pairs(rows, [example.thing for example in load_image_set(data).where(HELD_OUT)[0].examples])]
    (RESULTS / f"{data.name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(RESULTS / f"{data.name}.md")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
