"""Transmission plan from the command line: `semlink plan`, as a table or as JSON."""

import json
import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from cli.from_settings import WeightsFolder, explained
from semlink.access.mapping import SubcarrierMapping
from semlink.access.planner import (
    UNIT_VARIANCE_RANGE,
    PlanMethod,
    PredictedPlan,
    draw_gains,
    draw_importance,
    plan,
    unit_variance_range,
)
from semlink.channel.ofdm import Numerology
from semlink.channel.rates import TARGET_BLOCK_ERROR_RATE
from semlink.source.iaq.importance import importance_weights
from semlink.vision.weights import DEVICE_MODEL, WeightsError

PATCHES = 196


def plan_command(
    method: Annotated[
        PlanMethod,
        typer.Option(
            help="ia-qsmpa: Theorem 1. ia-qsmpa-lc: Top-β bits, then power. fixed: equal bits and power. "
            "fixed-b-wf: equal bits, capacity water-filling. fixed-p-iaq, fixed-p-top-beta: equal power. uniform: "
            "equal importance. exact: the joint optimum."
        ),
    ] = PlanMethod.IA_QSMPA,
    snr: Annotated[float, typer.Option(help="SNR in dB: unit mean power of a subchannel over noise.")] = 20.0,
    streams: Annotated[int, typer.Option(min=1, max=64, help="Spatial streams N_s, antennas on either side.")] = 4,
    rho: Annotated[
        float, typer.Option(min=0.125, max=1, help="Compression ratio of the payload to the 8-bit image.")
    ] = 0.25,
    mapping: Annotated[
        SubcarrierMapping, typer.Option(help="Which subchannels important patches get: the best, any, the worst.")
    ] = SubcarrierMapping.IMPORTANCE,
    finite_blocklength: Annotated[
        bool, typer.Option("--finite-blocklength", help="Count what a finite block length costs (Section IV).")
    ] = False,
    target_bler: Annotated[
        float, typer.Option(min=0, max=0.5, help="Block error rate that --finite-blocklength keeps to, above 0.")
    ] = TARGET_BLOCK_ERROR_RATE,
    latency_weight: Annotated[
        float,
        typer.Option(
            min=0,
            help="For exact: what a second costs in units of the weighted squared error. From 1e5 to 1e8 it "
            "trades one for the other; the paper adds them as they are.",
        ),
    ] = 1.0,
    image: Annotated[
        str | None,
        typer.Option(
            help="Importance is a DeiT-Tiny's attention on this photo: a file, or a name (chelsea, ...)."
        ),
    ] = None,
    importance: Annotated[
        Path | None, typer.Option(help="Importance is 196 numbers in this file: .npy, or text.")
    ] = None,
    weights: WeightsFolder = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the channel and, if nothing else gives them, of the scores.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, with every block.")] = False,
) -> None:
    """Plan one frame over MIMO-OFDM: bits, subcarriers and power for each patch, and how long it will take.

    The channel is Rayleigh fading, drawn from --seed: 784 subcarriers of 15 kHz. Important patches get more bits
    and better subchannels; power is shared so that no block keeps the others waiting. T_d is when all are done.
    Compare "semlink plan --method fixed" with "semlink plan --method ia-qsmpa", then both at another --snr.
    """
    numerology = Numerology(streams=streams)
    with explained(ValueError, OSError, WeightsError):
        segments, value_range = _importance(image, importance, weights, seed)
        made = plan(
            segments,
            draw_gains(numerology, seed),
            snr,
            method=method,
            numerology=numerology,
            rho=rho,
            mapping=mapping,
            generator=np.random.default_rng(seed),
            block_error_rate=target_bler if finite_blocklength else None,
            latency_weight=latency_weight,
            value_range=value_range,
        )
    if as_json:
        made_document = document(made, subcarrier_mapping=str(mapping), seed=seed)
        typer.echo(json.dumps(made_document, ensure_ascii=False, allow_nan=False))
    else:
        show(made, Console())


def document(made: PredictedPlan, **more: Any) -> dict[str, Any]:
    """The plan for JSON; `more` is put in front of the blocks. An infinite latency is None.

    `mapping` is the block of each subchannel, subcarrier by subcarrier.
    """
    return {
        "method": made.method,
        "snr_db": made.snr_db,
        "subcarriers": made.numerology.subcarriers,
        "streams": made.numerology.streams,
        "rho": made.rho,
        "target_bler": made.block_error_rate,
        **more,
        "t_d_ms": _milliseconds(made.t_d),
        "coherence_ms": _milliseconds(made.coherence_seconds),
        "exceeds_coherence": made.exceeds_coherence,
        "weighted_error": made.weighted_error,
        "blocks_without_rate": int(np.isinf(made.latencies).sum()),
        "bits": made.bits.tolist(),
        "power": made.power.tolist(),
        "mean_gain": made.mean_gains.tolist(),
        "latency_ms": [_milliseconds(latency) for latency in made.latencies],
        "mapping": made.block_of_subchannel.tolist(),
    }


def show(made: PredictedPlan, console: Console) -> None:
    """Prints the plan, one line for all blocks that have the same bits."""
    table = Table(title=f"{made.method}, {made.snr_db:g} dB, {made.numerology.streams} streams, ρ = {made.rho:g}")
    for name in ("bits", "blocks", "mean gain", "mean power", "latency ms"):
        table.add_column(name, justify="right")
    for bits in np.unique(made.bits)[::-1]:
        same = made.bits == bits
        latencies = made.latencies[same] * 1e3
        table.add_row(
            str(bits),
            str(np.count_nonzero(same)),
            f"{made.mean_gains[same].mean():.3f}",
            f"{made.power[same].mean():.4g}",
            f"{latencies.min():.4g} to {latencies.max():.4g}",
        )
    console.print(table)
    console.print(f"T_d = {made.t_d * 1e3:.4g} ms, weighted error E_Q = {made.weighted_error:.4g}")
    if math.isinf(made.t_d):
        idle = np.count_nonzero(np.isinf(made.latencies))
        console.print(f"{idle} of {made.bits.size} blocks get nothing through: this method fails at this SNR.")
    elif made.exceeds_coherence:
        console.print(
            f"Longer than the {made.coherence_seconds * 1e3:.3g} ms for which the channel would stay as it is."
        )


def _milliseconds(seconds: float) -> float | None:
    return float(seconds) * 1e3 if math.isfinite(seconds) else None


def _importance(
    image: str | None, importance: Path | None, weights: Path | None, seed: int
) -> tuple[NDArray[np.float64], float]:
    """(196,) importance weights, and the range of the image at zero mean and unit variance."""
    if image is not None and importance is not None:
        raise ValueError("--image and --importance exclude each other")
    if importance is not None:
        return importance_weights(_read_scores(importance)), UNIT_VARIANCE_RANGE
    if image is None:
        return draw_importance(seed, segments=PATCHES), UNIT_VARIANCE_RANGE
    from semlink.vision.images import model_pixels, open_image
    from semlink.vision.photos import find_photos
    from semlink.vision.vit import class_attention, load_vit, normalise

    pixels = model_pixels(open_image(find_photos([image])[0]))
    model = load_vit(DEVICE_MODEL, weights=weights)
    attention = class_attention(model, normalise(model, pixels[None]))[0].numpy()
    return importance_weights(attention.astype(np.float64)), unit_variance_range(pixels)


def _read_scores(path: Path) -> NDArray[np.float64]:
    try:
        if path.suffix == ".npy":
            scores = np.asarray(np.load(path, allow_pickle=False), dtype=np.float64).ravel()
        else:
            scores = np.array(path.read_text().replace(",", " ").split(), dtype=np.float64)
    except (TypeError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: no importance scores: {error}") from None
    if scores.size != PATCHES:
        raise ValueError(f"{path}: it must hold {PATCHES} numbers, not {scores.size}")
    return scores
