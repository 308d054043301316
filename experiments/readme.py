"""README and results tables: the numbers that README.md and docs/results.md show, from the committed rows."""

from fractions import Fraction

from experiments.evaluation.cells import Cell
from experiments.evaluation.frame_cells import FrameCell
from experiments.evaluation.grid import cell_of
from experiments.evaluation.measurement import Rows
from experiments.evaluation.rows import rows_of
from experiments.study import RESULTS
from semlink.channel.bsc import BinarySymmetricChannel

RHOS, BERS = (1 / 16, 1 / 8, 1 / 4, 1 / 2), (0.01, 0.02, 0.05, 0.1)
METHODS = ("incremental", "water-filling", "fixed", "top-k", "jpeg", "webp", "avif")


def main() -> None:
    """Prints both pages' tables as Markdown."""
    for page, lines in tables().items():
        print(f"<!-- {page} -->", *lines, "", sep="\n")


def tables() -> dict[str, list[str]]:
    """Lines of the tables by the page that shows them: accuracies in % of one view, DeiT-Tiny at both ends."""
    rows = _rows()
    return {
        "README.md": [
            _line(
                "ρ = 1/8, no errors",
                rows,
                [_cell(name, 1 / 8) for name in ("incremental", "fixed", "top-k", "avif")],
            )
            + " |",
            _line(
                "ρ = 1/4, no errors",
                rows,
                [_cell(name, 1 / 4) for name in ("incremental", "fixed", "top-k", "avif")],
            )
            + " |",
            _line(
                "ρ = 1/8, μ = 0.05", rows, [_cell(name, 1 / 8, 0.05) for name in ("incremental", "fixed", "top-k")]
            )
            + f" | {_percent(rows, _cell('avif-ldpc', 1 / 8, 0.05))} |",
        ],
        "docs/results.md": [
            *(_line(str(Fraction(rho)), rows, [_cell(name, rho) for name in METHODS]) for rho in RHOS),
            *(_over_bit_errors(ber, rows) for ber in BERS),
        ],
    }


def _over_bit_errors(ber: float, rows: Rows) -> str:
    channel = BinarySymmetricChannel(ber=ber)
    plain = [_cell("incremental", 1 / 8, ber), FrameCell(channel, "incremental", 1 / 8, design_ber=ber)]
    plain += [_cell(name, 1 / 8, ber) for name in ("fixed", "top-k", "jpeg")]
    protected = " / ".join(_percent(rows, _cell(f"{name}-ldpc", 1 / 8, ber)) for name in ("jpeg", "webp", "avif"))
    return f"{_line(f'{ber:g}', rows, plain)} {protected} |"


def _cell(method: str, rho: float, ber: float = 0.0) -> FrameCell:
    return FrameCell(BinarySymmetricChannel(ber=ber), method, rho)


def _line(head: str, rows: Rows, cells: list[FrameCell]) -> str:
    return f"| {head} | {' | '.join(_percent(rows, cell) for cell in cells)} |"


def _percent(rows: Rows, cell: Cell) -> str:
    return f"{100 * rows[cell]['single']['accuracy']:.1f}"


def _rows() -> Rows:
    """Rows whose server is the device's model, as it came."""
    found: Rows = {}
    for row in rows_of(RESULTS / "imagenet-sample-1000.jsonl"):
        device, server = row["run"]["device"], row["run"]["server"]
        is_device = (server["model"], server["weights"]) == (device["model"], device["weights"])
        if is_device and (cell := cell_of(row)) is not None:
            found.setdefault(cell, row)
    return found
