"""Table I of IA-QSMPA: subcarrier mappings under equal bits and powers, uncoded 64-QAM, ρ = 0.5."""

from experiments.accuracy import VIEWS
from experiments.evaluation.frame_cells import FrameCell
from experiments.evaluation.intervals import paired_gain, percent, samples_of
from experiments.evaluation.planned_cells import PlannedCell
from experiments.study import Measured
from experiments.tables import write_table
from semlink.access.mapping import SubcarrierMapping
from semlink.access.planner import PlanMethod
from semlink.channel.mimo_ofdm import MimoOfdm

SNRS_DB = (0.0, 10.0, 20.0, 30.0)
NAMES = {
    SubcarrierMapping.INVERSE: "inverse",
    SubcarrierMapping.RANDOM: "random",
    SubcarrierMapping.IMPORTANCE: "importance-aware (IASM)",
}


def cell(mapping: SubcarrierMapping, snr_db: float) -> PlannedCell:
    """A cell of the table."""
    return PlannedCell(MimoOfdm(snr_db=snr_db, coding="uncoded", order=64), PlanMethod.FIXED, 0.5, mapping)


def _accuracy(measured: dict) -> str:
    return "{:.1f} ({:.1f} to {:.1f})".format(*percent(measured))


def _gain(measured: dict | None) -> str:
    if measured is None:
        return ""
    return f"{100 * measured['difference']:+.1f} ({100 * measured['low']:+.1f} to {100 * measured['high']:+.1f})"


def _lines(head: str, rows: dict[str, list[str]]) -> list[str]:
    lines = ["", f"| {head} | {' | '.join(f'{snr_db:g} dB' for snr_db in SNRS_DB)} |"]
    lines.append("| --- " * (1 + len(SNRS_DB)) + "|")
    return lines + [f"| {name} | {' | '.join(values)} |" for name, values in rows.items()]


def main(data: Measured) -> None:
    """Measures what is missing, and writes ofdm-table1-NAME.md."""
    rows = data.accuracies([cell(mapping, snr_db) for snr_db in SNRS_DB for mapping in NAMES])
    clean = rows[FrameCell()]
    sent = {(mapping, snr_db): rows[cell(mapping, snr_db)] for snr_db in SNRS_DB for mapping in NAMES}
    run_of = data.run(prefix="ofdm-")
    samples, out, run = samples_of(run_of.images().examples), run_of.out.name, clean["run"]
    lines = [
        f"# Subcarrier mappings: {run['data']}, {run['only']}, {run['images']} images",
        "",
        "Uncoded 64-QAM with Gray labels, 4 bits for every value (ρ = 0.5), equal powers, N_s = 4. Every image",
        "meets a channel of its own, the same in every column and line. Accuracy in %, with its 95 % interval.",
        f"Server: {clean['models']['server']}, SHA-256 {run['server']['weights']}, {run['server']['precision']}.",
        f"Written by `python -m experiments ofdm-table1 {data.name}` from",
        f"[{out}]({out}), which has the command, versions and machine of each row.",
    ]
    for views, head in VIEWS.items():
        if clean[views]:
            lines += _lines(
                head,
                {
                    name: [_accuracy(sent[mapping, snr_db][views]) for snr_db in SNRS_DB]
                    for mapping, name in NAMES.items()
                }
                | {"no link": [_accuracy(clean[views])] * len(SNRS_DB)},
            )
    for views, head in VIEWS.items():
        ahead = {
            f"of {NAMES[mapping]}": [
                _gain(
                    paired_gain(sent[SubcarrierMapping.IMPORTANCE, snr_db], sent[mapping, snr_db], views, samples)
                )
                for snr_db in SNRS_DB
            ]
            for mapping in (SubcarrierMapping.RANDOM, SubcarrierMapping.INVERSE)
        }
        if any(any(values) for values in ahead.values()):
            lines += ["", f"By how many points the importance-aware mapping is ahead, {head}, answer by answer:"]
            lines += _lines("ahead", ahead)
    errors = {
        name: [f"{100 * sent[mapping, snr_db]['bit_errors']:.2f}" for snr_db in SNRS_DB]
        for mapping, name in NAMES.items()
    }
    lines += ["", "Bits that arrived inverted, in % of the payload:", *_lines("mapping", errors)]
    write_table(data.out / f"ofdm-table1-{data.name}.md", lines)
