"""Opinion and stills on a device: one forward for attention and logits, and an AV1 still beside a forward.

python -m benchmarks.opinion. All on one thread, in turns.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.tables import medians, show
from benchmarks.timing import take_turns
from semlink.decision.belief import Belief
from semlink.source.codec.coder import encode, encode_look
from semlink.source.opinion import opinion_frame
from semlink.vision.engines import load_engine
from semlink.vision.images import model_pixels, open_image
from semlink.vision.photos import find_photos
from semlink.vision.vit import load_vit, normalise
from semlink.vision.weights import DEVICE_MODEL

ROUNDS = 12
MOST_SHARE = 1.03
"""Of attention's time, that attention and logits together may take."""
PHOTOS = ("chelsea", "coffee", "astronaut", "rocket", "motorcycle_left", "hubble_deep_field", "retina")
"""Of scikit-image: stills of different pictures take different numbers of files."""
RUNGS = ((112, 376), (112, 753), (160, 753), (160, 1505), (160, 3010), (224, 3010), (224, 6020), (224, 12040))
"""Sides of stills in pixels, and budgets in bytes."""
LOOKS = ((160, 1505), (224, 15053))
"""Of stills that a server asks for, of no more quality than is enough for a look."""
ATTENTION, OPINION, FRAME = "attention alone", "attention and logits", "the opinion's frame"


def run(rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Times a device's forward passes, the opinion's frame, and stills; prints a table.

    Args:
        rounds: of each way, and of each photograph's still.

    Returns:
        `milliseconds` (medians; of stills the mean of each photograph's) and `ratios` to the attention's forward,
        by what is done.
    """
    model = load_vit(DEVICE_MODEL)
    views = {path.stem: model_pixels(open_image(path)) for path in find_photos(PHOTOS)}
    images = normalise(model, next(iter(views.values()))[None])
    belief = Belief.of(np.random.default_rng(0).dirichlet(np.full(1000, 0.01)) + 1e-12)
    ways: dict[str, Callable[[], object]] = {
        ATTENTION: partial(load_engine("openvino", model, "attention", threads=1, batch=1), images),
        OPINION: partial(load_engine("openvino", model, "opinion", threads=1, batch=1), images),
        FRAME: lambda: opinion_frame(belief).to_bytes(),
    }
    stills: dict[str, Callable[[], object]] = {
        f"{side} px, {budget} bytes: {name}": partial(encode, view, side=side, budget_bytes=budget)
        for side, budget in RUNGS
        for name, view in views.items()
    }
    looks: dict[str, Callable[[], object]] = {
        f"look, {side} px, {budget} bytes: {name}": partial(
            encode_look, view, codec="avif", side=side, budget_bytes=budget
        )
        for side, budget in LOOKS
        for name, view in views.items()
    }
    each = medians(take_turns(ways | stills | looks, rounds))
    milliseconds = {name: each[name] for name in ways}
    for rung in dict.fromkeys(name.partition(":")[0] for name in stills | looks):
        milliseconds[rung] = float(np.mean([each[f"{rung}: {name}"] for name in views]))
    ratios = {name: value / milliseconds[ATTENTION] for name, value in milliseconds.items()}
    show(
        f"{DEVICE_MODEL} by OpenVINO, and AV1 stills of {len(views)} photographs, one thread",
        ("ms", "× attention alone"),
        [(name, f"{value:.2f}", f"{ratios[name]:.3f}") for name, value in milliseconds.items()],
        f"bar: {OPINION} at most {MOST_SHARE}",
    )
    return {"milliseconds": milliseconds, "ratios": ratios}


if __name__ == "__main__":
    run()
