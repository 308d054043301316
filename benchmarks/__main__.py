"""Benchmark runner: `python -m benchmarks [NAME ...]` writes benchmarks/results.json; without a name it runs all.

What was measured before stays, unless it is measured again; each result says when, by what command and where.
"""

import importlib
import json
import sys
from pathlib import Path

from experiments.provenance import provenance

RESULTS = Path(__file__).with_name("results.json")
NAMES = (
    *("link", "inference", "bsc", "allocation", "ofdm", "plan", "evaluation"),
    *("decoders", "emulator", "server", "overload", "opinion", "dialogue", "studio"),
)


def main(names: list[str]) -> None:
    """Runs the benchmarks of these names, or every one; a name is that of a module here."""
    if unknown := sorted(set(names) - set(NAMES)):
        sys.exit(f"benchmarks: no {', '.join(unknown)}; there are {', '.join(NAMES)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        results[name] = {
            "result": module.run(),
            "measured": {"seed": getattr(module, "SEED", None), **provenance()},
        }
        RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
