"""What does not depend on the server, and what does: IAQ beside the other allocations, with the larger server.

python -m experiments.servers DATA
"""

import sys
from pathlib import Path

from experiments.accuracy import measure
from semlink.vision.weights import SERVER_MODEL

METHODS = ("incremental", "fixed", "top-k", "attention-threshold", "attention-sum-threshold")
RHO, BERS = 0.125, (0.0, 0.05)


def main(data: Path) -> None:
    """Measures what is missing; `python -m experiments.table` tells it."""
    measure(data, METHODS, [RHO], BERS, server_model=SERVER_MODEL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
