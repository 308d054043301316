"""The measured rows as Markdown tables: accuracy in %, its 95 % interval, and the bits that were on the air.

python -m experiments.table DATA
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from experiments.accuracy import RESULTS, run_of
from experiments.evaluation.bsc_cells import BscCell, Receiver
from experiments.pairs import Things, paired_gain, things_of
from experiments.training.link_training import KIND

Rows = dict[BscCell, dict]
"""Rows of one run, by cell."""
SETTING = "| {method} | {gamma:g} | {rho:g} | {ber:g} | {design_ber:g} | {receiver} "
SETTING_HEAD = "| method | γ | ρ | μ | designed for | receiver "


def _accuracies(rows: Rows) -> list[str]:
    views = ["single", "four_view"] if any(row["four_view"] for row in rows.values()) else ["single"]
    heads = "".join(f"| {name} | 95 % interval " for name in ("one view", "four views")[: len(views)])
    lines = [f"{SETTING_HEAD}{heads}| bits on the air | lost |", "| --- " * (8 + 2 * len(views)) + "|"]
    for cell in sorted(rows, key=_order):
        row = rows[cell]
        accuracies = "".join(
            f"| {100 * row[view]['accuracy']:.1f} | {100 * row[view]['low']:.1f} to {100 * row[view]['high']:.1f} "
            for view in views
        )
        code = f" (LDPC, rate {row['code']['rate']:.2f})" if row.get("code") else ""
        lines.append(
            f"{SETTING.format(**asdict(cell))}{accuracies}| {row['bits']:,.0f}{code} | {100 * row['lost']:.1f} % |"
        )
    return lines


def _differences(pairs: list[tuple[BscCell, dict, dict]], things: Things, ahead: str) -> list[str]:
    """One line for each pair of rows about the same images: the first one's accuracy less the second one's."""
    gains = [
        (cell, [paired_gain(first, second, views, things) for views in things]) for cell, first, second in pairs
    ]
    told = 2 if any(votes for _, (_, votes) in gains) else 1
    heads = "".join(f"| {head} | 95 % interval " for head in (ahead, f"{ahead}, four views")[:told])
    lines = [f"{SETTING_HEAD}{heads}|", "| --- " * (6 + 2 * told) + "|"]
    for cell, by_views in gains:
        values = "".join(
            f"| {100 * gain['difference']:+.1f} | {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f} "
            if gain
            else "| | "
            for gain in by_views[:told]
        )
        lines.append(f"{SETTING.format(**asdict(cell))}{values}|")
    return lines


def _beside_iaq(rows: Rows) -> list[tuple[BscCell, dict, dict]]:
    pairs = []
    for cell in sorted(rows, key=_order):
        iaq = BscCell("incremental", cell.rho, ber=cell.ber)
        if iaq in rows and cell != iaq and cell.receiver == Receiver.PLAIN:
            pairs.append((cell, rows[iaq], rows[cell]))
    return pairs


def _beside_plain(rows: Rows, plain: Rows) -> list[tuple[BscCell, dict, dict]]:
    """Every cell whose plain receiver was measured with the server of `plain`."""
    pairs = []
    for cell in sorted(rows, key=_order):
        reference = plain.get(replace(cell, receiver=Receiver.PLAIN))
        if reference is not None and reference is not rows[cell]:
            pairs.append((cell, rows[cell], reference))
    return pairs


def _model(server: str) -> str:
    """timm name of the server's model."""
    return server.removeprefix(f"{KIND} ").partition(" ")[0]


def _order(cell: BscCell) -> tuple:
    return cell.ber, cell.rho, cell.method, cell.gamma, cell.design_ber, cell.receiver


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", title, "", *lines] if len(lines) > 2 else []


def main(data: Path) -> None:
    """Writes RESULTS/NAME.md."""
    out = RESULTS / f"{data.name}.jsonl"
    things = things_of(run_of(data, data.name))
    servers: dict[str, Rows] = {}
    for line in out.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        servers.setdefault(row["run"]["server"], {})[BscCell(**row["cell"])] = row
    run = next(iter(next(iter(servers.values())).values()))["run"]
    lines = [
        f"# {run['data']}, {run['only']}: {run['images']} images",
        "",
        f"Device: {run['device']}. Seed {run['seed']}.",
        f"Written by `python -m experiments.table {data.name}` from [{out.name}]({out.name}), which has the",
        "command, versions and machine of each row. A codec has as many bits in all as the frame of that ρ,",
        "all of them exposed to errors; of a frame only the payload is. Lost: files that could not be decoded.",
        "Differences are in points of accuracy, on the same images, with their 95 % interval.",
    ]
    plain = {_model(server): rows for server, rows in servers.items() if not server.startswith(KIND)}
    for server, rows in servers.items():
        lines += ["", f"## Server: {server}", "", *_accuracies(rows)]
        beside = _differences(_beside_iaq(rows), things, "IAQ is ahead by")
        lines += _section("### Incremental IAQ, not told of the errors, beside everything else", beside)
        better = _differences(_beside_plain(rows, plain[_model(server)]), things, "ahead by")
        lines += _section("### Beside the plain receiver of the same model as it came, at equal bits", better)
    (RESULTS / f"{data.name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(RESULTS / f"{data.name}.md")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
