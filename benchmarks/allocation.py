"""Bit allocation: the optimum by selection, beside the loop that the paper prints and beside water-filling.

python -m benchmarks.allocation
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import medians, show
from benchmarks.timing import take_turns
from semlink.source.iaq.allocation import incremental, water_filling
from semlink.source.iaq.distortion import one_error_bound
from semlink.source.iaq.importance import importance_weights

PATCHES, MAX_BITS, SEED = 196, 8, 0
RHOS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
RATES = (0.0, 0.01, 0.05, 0.1)
ROUNDS = 5


def printed_loop(weights: NDArray[np.float64], steps: int, rate: float) -> NDArray[np.int64]:
    """IAQ, Section III-B: one bit at a time where the objective falls most; it is computed anew in every step."""
    bits = np.zeros(weights.size, np.int64)
    for _ in range(steps):
        now = weights * one_error_bound(bits, rate)
        with_one_more = weights * one_error_bound(bits + 1, rate)
        objectives = np.where(bits < MAX_BITS, now.sum() - now + with_one_more, np.inf)
        bits[objectives.argmin()] += 1
    return bits


def run(rounds: int = ROUNDS) -> list[dict[str, float]]:
    """Times the three for every ρ and μ, and prints a table.

    Returns:
        For each: `rho`, `ber`, milliseconds of each method (medians), `loop_ratio` and `water_filling_ratio` to
        the selection's time, and `loop_objective` and `water_filling_objective` over the selection's.
    """
    scores = np.random.default_rng(SEED).dirichlet([0.5] * PATCHES)
    weights = importance_weights(scores)
    measured = []
    for rho in RHOS:
        for rate in RATES:
            steps = int(MAX_BITS * PATCHES * rho)
            ways = {
                "selection": partial(incremental, weights, steps, bit_error_rate=rate),
                "water_filling": partial(water_filling, weights, steps, bit_error_rate=rate),
                "loop": partial(printed_loop, weights, steps, rate),
            }
            quick = take_turns({name: ways[name] for name in ("selection", "water_filling")}, 40 * rounds)
            slow = take_turns({"loop": ways["loop"]}, 1)
            time = medians(quick | slow)
            objective = {name: float(weights @ one_error_bound(way(), rate)) for name, way in ways.items()}
            for name in ("loop", "water_filling"):
                if objective["selection"] > objective[name] * (1 + 1e-12):
                    raise AssertionError(f"{name} does better at ρ = {rho}, μ = {rate}")
            measured.append(
                {"rho": rho, "ber": rate}
                | {f"{name}_ms": value for name, value in time.items()}
                | {f"{name}_ratio": time[name] / time["selection"] for name in ("loop", "water_filling")}
                | {
                    f"{name}_objective": objective[name] / objective["selection"]
                    for name in ("loop", "water_filling")
                }
            )
    show(
        f"Allocation of {PATCHES} patches; times and objectives over the selection's",
        ("selection, ms", "loop, ×", "water-filling, ×", "its objective, ×"),
        (
            (
                f"ρ = {row['rho']:g}, μ = {row['ber']:g}",
                f"{row['selection_ms']:.3f}",
                f"{row['loop_ratio']:.0f}",
                f"{row['water_filling_ratio']:.1f}",
                f"{row['water_filling_objective']:.4f}",
            )
            for row in measured
        ),
    )
    return measured


if __name__ == "__main__":
    run()
