"""python -m benchmarks: all of them, one after the other; writes benchmarks/results.json."""

import json
from pathlib import Path

from benchmarks import allocation, bsc, emulator, evaluation, inference, link, ofdm, overload, plan, server
from semlink.provenance import provenance

RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    """Runs every benchmark and writes what was measured, with command, versions and machine."""
    results = {
        "link": link.run(),
        "inference": inference.run(),
        "bsc": bsc.run(),
        "allocation": allocation.run(),
        "ofdm": ofdm.run(),
        "plan": plan.run(),
        "evaluation": evaluation.run(),
        "emulator": emulator.run(),
        "server": server.run(),
        "overload": overload.run(),
        "seed": bsc.SEED,
        **provenance(),
    }
    RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
