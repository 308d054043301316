"""Transmission plan, from the channel to bits, mapping and power, beside the device's forward pass.

python -m benchmarks.plan
"""

from collections.abc import Callable

import numpy as np
import timm
import torch

from benchmarks.tables import medians, show
from benchmarks.timing import take_turns
from semlink.access.planner import PlanMethod, PredictedPlan, draw_importance, plan
from semlink.channel.ofdm import Numerology, draw_channel, subchannel_gains
from semlink.vision.weights import DEVICE_MODEL

SEED = 0
SNR_DB = 20.0
BLOCK_ERROR_RATE = 1e-3
LATENCY_WEIGHT = 1e7
"""Per second: where latency and error really compete."""
ROUNDS = 40
FORWARD = "DeiT-Tiny, one image"


def run(rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Times all on as many threads as torch takes by itself, and prints a table.

    Returns:
        `milliseconds` (medians) by way, and `ratios` to the forward pass.
    """
    channel = draw_channel(Numerology(), np.random.default_rng(SEED))
    importance = draw_importance(SEED)

    def whole(
        method: PlanMethod, block_error_rate: float | None = None, latency_weight: float = 1.0
    ) -> Callable[[], PredictedPlan]:
        return lambda: plan(
            importance,
            subchannel_gains(channel),
            SNR_DB,
            method=method,
            block_error_rate=block_error_rate,
            latency_weight=latency_weight,
        )

    model = timm.create_model(DEVICE_MODEL).eval()  # untrained: as fast as trained
    image = torch.zeros(1, 3, 224, 224)

    def forward() -> None:
        with torch.inference_mode():
            model(image)

    exact = PlanMethod.EXACT
    seconds = take_turns(
        {
            "singular values of 784 matrices": lambda: subchannel_gains(channel),
            "ia-qsmpa": whole(PlanMethod.IA_QSMPA),
            "exact": whole(exact),
            "exact, finite blocklength": whole(exact, block_error_rate=BLOCK_ERROR_RATE),
            f"exact, {LATENCY_WEIGHT:g} per second": whole(exact, latency_weight=LATENCY_WEIGHT),
            FORWARD: forward,
        },
        rounds,
    )
    milliseconds = medians(seconds)
    ratios = {name: value / milliseconds[FORWARD] for name, value in milliseconds.items() if name != FORWARD}
    show(
        f"A plan for one frame, 784 subcarriers x 4 streams, {SNR_DB:g} dB, median of {rounds}",
        ("ms", "of the forward pass"),
        [
            (name, f"{value:.2f}", f"{ratios[name]:.2f}" if name in ratios else "")
            for name, value in milliseconds.items()
        ],
    )
    return {"milliseconds": milliseconds, "ratios": ratios}


if __name__ == "__main__":
    run()
