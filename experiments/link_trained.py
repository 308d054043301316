"""Link-trained weights beside the weights as they came, at equal bits.

python -m experiments.link_trained DATA
"""

import sys
from pathlib import Path

from experiments.accuracy import measure
from semlink.vision.weights import DEVICE_MODEL, PRETRAINED, SERVER_MODEL

LINK_TRAINED = PRETRAINED / "link-trained"
RHO, BERS = 0.125, (0.0, 0.05)


def main(data: Path) -> None:
    """Measures what is missing; `python -m experiments.table` tells it."""
    for server_model in (DEVICE_MODEL, SERVER_MODEL):
        for weights in (None, LINK_TRAINED):
            measure(data, ["incremental"], [RHO], BERS, server_model=server_model, server_weights=weights)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
