"""Table I of IA-QSMPA: subcarrier mappings under equal bits and powers, uncoded 64-QAM, ρ = 0.5.

python -m experiments.ofdm_table1 DATA
"""

import typer

from experiments.accuracy import RESULTS, VIEWS, Data
from experiments.evaluation.intervals import paired_gain, percent, samples_of
from experiments.evaluation.ofdm_cells import Coding, OfdmCell
from experiments.ofdm import measure_accuracy, ofdm_run
from semlink.access.mapping import SubcarrierMapping
from semlink.access.planner import PlanMethod

SNRS_DB = (0.0, 10.0, 20.0, 30.0)
NAMES = {
    SubcarrierMapping.INVERSE: "inverse",
    SubcarrierMapping.RANDOM: "random",
    SubcarrierMapping.IMPORTANCE: "importance-aware (IASM)",
}


def cell(mapping: SubcarrierMapping, snr_db: float) -> OfdmCell:
    """A cell of the table."""
    return OfdmCell(PlanMethod.FIXED, snr_db, 0.5, mapping=mapping, coding=Coding.UNCODED, order=64)


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


def main(data: Data) -> None:
    """Measures what is missing, and writes RESULTS/ofdm-table1-NAME.md."""
    rows = measure_accuracy(data, [cell(mapping, snr_db) for snr_db in SNRS_DB for mapping in NAMES])
    (clean,) = (row for row in rows if row["cell"]["method"] == "clean")
    sent = {(row["cell"]["mapping"], row["cell"]["snr_db"]): row for row in rows if row is not clean}
    samples, out, run = samples_of(ofdm_run(data).images().examples), ofdm_run(data).out.name, clean["run"]
    lines = [
        f"# Subcarrier mappings: {run['data']}, {run['only']}, {run['images']} images",
        "",
        "Uncoded 64-QAM with Gray labels, 4 bits for every value (ρ = 0.5), equal powers, N_s = 4. Every image",
        "meets a channel of its own, the same in every column and line. Accuracy in %, with its 95 % interval.",
        f"Server: {clean['models']['server']}, SHA-256 {run['server']['weights']}, {run['server']['precision']}.",
        f"Written by `python -m experiments.ofdm_table1 {data.name}` from",
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
    table = RESULTS / f"ofdm-table1-{data.name}.md"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    typer.run(main)
