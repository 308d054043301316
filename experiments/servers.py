"""Server models: IAQ beside the other allocations with the larger server, and with link-trained weights."""

from experiments.study import Measured
from semlink.vision.weights import DEVICE_MODEL, PRETRAINED, SERVER_MODEL

LINK_TRAINED = PRETRAINED / "link-trained"
METHODS = ("incremental", "fixed", "top-k", "attention-threshold", "attention-sum-threshold")
RHO, BERS = 0.125, (0.0, 0.05)


def main(data: Measured) -> None:
    """Measures what is missing; `python -m experiments tables` makes a table of it."""
    data.over_bsc(METHODS, [RHO], BERS, server_model=SERVER_MODEL)
    data.over_bsc(["incremental"], [RHO], BERS)
    if data.name == "imagenet-sample-1000":  # the link-trained weights are for its classes
        for model in (DEVICE_MODEL, SERVER_MODEL):
            data.over_bsc(["incremental"], [RHO], BERS, server_model=model, server_weights=LINK_TRAINED)
