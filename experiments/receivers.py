"""Better receivers at equal bits: posterior means, dropped patches, a link-trained server, alone and together.

python -m experiments.receivers DATA
"""

import sys
from pathlib import Path

from experiments.accuracy import measure
from experiments.evaluation.bsc_cells import Receiver
from semlink.vision.weights import DEVICE_MODEL, REPOSITORY, SERVER_MODEL

LINK_TRAINED = REPOSITORY / "models" / "link-trained"
RHO, BERS = 0.125, (0.0, 0.05)


def main(data: Path) -> None:
    """Measures what is missing; `python -m experiments.table` tells it."""
    for server_model, receivers in ((DEVICE_MODEL, list(Receiver)), (SERVER_MODEL, [Receiver.PLAIN])):
        for weights in (None, LINK_TRAINED):
            measure(
                data, ["incremental"], [RHO], BERS, receivers=receivers, server_model=server_model,
                server_weights=weights,
            )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
