"""Transmission plan from the command line: `semlink plan`, as a table or as JSON."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from pydantic import Field
from rich.console import Console
from rich.table import Table

from cli.from_settings import Settings, explained, takes
from semlink.access.mapping import SubcarrierMapping
from semlink.access.planner import (
    UNIT_VARIANCE_RANGE,
    PlanMethod,
    QuantizingPlan,
    draw_gains,
    draw_importance,
    plan,
    unit_variance_range,
)
from semlink.channel.mimo_ofdm import MimoOfdm
from semlink.channel.ofdm import Numerology
from semlink.channel.rates import TARGET_BLOCK_ERROR_RATE
from semlink.channel.recording_files import read_recording
from semlink.channel.recordings import ChannelMatrices
from semlink.parameters import Only
from semlink.service.applicability import Applicable
from semlink.source.iaq.importance import importance_weights
from semlink.vision.weights import DEVICE_MODEL, WeightsError

PATCHES = 196
THEOREM_2_METHODS = (PlanMethod.IA_QSMPA, PlanMethod.IA_QSMPA_LC, PlanMethod.UNIFORM)
"""Methods whose powers are Theorem 2's for a finite block length."""
EARLY = 0.9
"""Share of T_d before which a block that is done is said to wait."""


@dataclass(frozen=True)
class Met:
    """The channel that the plan is for."""

    numerology: Numerology
    gains: NDArray[np.float64]
    """(F, N_s) singular values."""
    snr_db: float
    about: dict[str, Any]
    """For JSON: where it was measured."""


class PlanSettings(Applicable):
    """What `semlink plan` plans for."""

    method: PlanMethod = Field(
        PlanMethod.IA_QSMPA,
        description="ia-qsmpa: Theorem 1. ia-qsmpa-lc: Top-β bits, then power. fixed: equal bits and power. "
        "fixed-b-wf: equal bits, capacity water-filling. fixed-p-iaq, fixed-p-top-beta: equal power. uniform: "
        "equal importance. exact: the joint optimum",
    )
    snr: float = Field(
        20.0, allow_inf_nan=False, description="SNR in dB: unit mean power of a subchannel over noise"
    )
    streams: int = Field(4, ge=1, le=64, description="spatial streams N_s, antennas on either side")
    rho: float = Field(0.25, ge=0.125, le=1, description="compression ratio of the payload to the 8-bit image")
    mapping: SubcarrierMapping = Field(
        SubcarrierMapping.IMPORTANCE,
        description="which subchannels important patches get: the best, any, the worst",
    )
    finite_blocklength: bool = Field(False, description="count what a finite block length costs (Section IV)")
    target_bler: Annotated[float, Only("finite_blocklength")] = Field(
        TARGET_BLOCK_ERROR_RATE, gt=0, le=0.5, description="block error rate that --finite-blocklength keeps to"
    )
    latency_weight: Annotated[float, Only("method", (PlanMethod.EXACT,))] = Field(
        1.0,
        ge=0,
        description="for exact: what a second costs in units of the weighted squared error. From 1e5 to 1e8 it "
        "trades one for the other; the paper adds them as they are",
    )
    image: str | None = Field(
        None, description="importance is a DeiT-Tiny's attention on this photo: a file, or a name (chelsea, ...)"
    )
    importance: Annotated[Path | None, Only("image", (None,))] = Field(
        None, description="importance is 196 numbers in this file: .npy, or text"
    )
    weights: Annotated[Path | None, Only("image")] = Field(
        None, description="folder with NAME.safetensors, looked into first"
    )
    channel_file: str | None = Field(
        None,
        description="measured channel: H or taps (.npy, .npz) instead of a drawn one, or an SNR trace (.csv). "
        "Streams are at most what H carries",
    )
    frame: Annotated[int, Only("channel_file")] = Field(
        0, ge=0, description="which frame of --channel-file is met, counted from 0"
    )
    seed: int = Field(0, ge=0, description="seed of the channel and, if nothing else gives them, of the scores")


PLAN = Settings(PlanSettings, tuple(PlanSettings.model_fields), "Plan")


@takes(settings=PLAN)
def plan_command(
    *,
    settings: PlanSettings,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, with every block.")] = False,
) -> None:
    """Plan one frame over MIMO-OFDM: bits, subcarriers and power for each patch, and how long it will take.

    The channel is Rayleigh fading, drawn from --seed, 784 subcarriers of 15 kHz; or that of --channel-file.
    Important patches get more bits and better subchannels; power is shared so that no block keeps the others
    waiting. T_d is when all are done. Compare "semlink plan --method fixed" with "semlink plan --method ia-qsmpa",
    then both at another --snr.
    """
    seed = settings.seed
    with explained(ValueError, OSError, WeightsError):
        met = _met(settings)
        segments, value_range = _importance(settings)
        made = plan(
            segments,
            met.gains,
            met.snr_db,
            method=settings.method,
            numerology=met.numerology,
            rho=settings.rho,
            mapping=settings.mapping,
            generator=np.random.default_rng(seed),
            block_error_rate=settings.target_bler if settings.finite_blocklength else None,
            latency_weight=settings.latency_weight,
            value_range=value_range,
        )
    if as_json:
        of_channel = {"subcarriers": met.numerology.subcarriers, "ofdm_symbols": _symbols(made, met), **met.about}
        made_document = document(made, subcarrier_mapping=str(settings.mapping), seed=seed, **of_channel)
        typer.echo(json.dumps(made_document, ensure_ascii=False, allow_nan=False))
    else:
        console = Console()
        show(made, console)
        show_channel(made, met, console)


def document(made: QuantizingPlan, **more: Any) -> dict[str, Any]:
    """The plan for JSON; `more` is put in front of the blocks. An infinite latency is None.

    `mapping` is the block of each subchannel, subcarrier by subcarrier; of several OFDM symbols that are taken as
    one (`ofdm_symbols`), one symbol after the other.
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
        "theorem_2_waiting": theorem_2_waiting(made) or None,
        "bits": made.bits.tolist(),
        "power": made.power.tolist(),
        "mean_gain": made.mean_gains.tolist(),
        "latency_ms": [_milliseconds(latency) for latency in made.latencies],
        "mapping": made.block_of_subchannel.tolist(),
    }


def show(made: QuantizingPlan, console: Console) -> None:
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
    if waiting := theorem_2_waiting(made):
        console.print(waiting, soft_wrap=True, highlight=False)
    if math.isinf(made.t_d):
        idle = np.count_nonzero(np.isinf(made.latencies))
        console.print(f"{idle} of {made.bits.size} blocks get nothing through: this method fails at this SNR.")
    elif made.exceeds_coherence:
        console.print(
            f"Longer than the {made.coherence_seconds * 1e3:.3g} ms for which the channel would stay as it is."
        )


def theorem_2_waiting(made: QuantizingPlan) -> str:
    """Where the powers of IA-QSMPA's Theorem 2 leave blocks waiting, in words; empty where they are not by it.

    The theorem shares power by a rate that is linear in the SNR (31), and by the mean gain of a block; by the true
    rate (38) blocks are then done at different times.
    """
    if made.block_error_rate is None or made.method not in THEOREM_2_METHODS:
        return ""
    if np.isinf(made.latencies).all():
        return (
            "Theorem 2 as printed finds no powers for these bits at this SNR: its linear rate meets the budget at "
            "no latency. --method exact is by the true rate."
        )
    first, half, last = np.quantile(made.latencies[np.isfinite(made.latencies)], (0, 0.5, 1)) * 1e3
    early = np.count_nonzero(made.latencies < EARLY * made.t_d)
    return (
        f"Theorem 2 as printed leaves blocks waiting: the first is done after {first:.4g} ms, half of them after "
        f"{half:.4g} ms, the last after {last:.4g} ms; {early} of {made.bits.size} are done before {EARLY:.0%} of "
        "T_d. It takes the rate as linear in the SNR; --method exact is by the true rate, and all end at once."
    )


def show_channel(made: QuantizingPlan, met: Met, console: Console) -> None:
    """Prints where the channel was measured, and that blocks share subchannels by turns."""
    if met.about:
        level = met.about.get("measured_power_db")
        console.print(
            f"Channel: {met.about['channel_file']}, frame {met.about['frame']} of {met.about['frames']}, "
            f"{met.numerology.subcarriers} subcarriers of {met.numerology.spacing_hz / 1e3:g} kHz"
            + ("" if level is None else f"; its mean power of {level:.1f} dB is set to 0 dB"),
            soft_wrap=True,
        )
    if (symbols := _symbols(made, met)) > 1:
        console.print(
            f"{made.bits.size} blocks over {met.numerology.subchannels} subchannels: {symbols} OFDM symbols are "
            "taken as one.",
            soft_wrap=True,
        )


def _symbols(made: QuantizingPlan, met: Met) -> int:
    """OFDM symbols that are taken as one, so that every block has a subchannel."""
    return made.numerology.subcarriers // met.numerology.subcarriers


def _met(settings: PlanSettings) -> Met:
    """The channel of a frame, drawn or measured."""
    streams, seed = settings.streams, settings.seed
    drawn = Numerology(streams=streams)
    if settings.channel_file is None:
        return Met(drawn, draw_gains(drawn, seed), settings.snr, {})
    channel = MimoOfdm(snr_db=settings.snr, streams=streams, channel_file=settings.channel_file)
    if "snr" in settings.model_fields_set and (why := channel.idle.get("snr_db")):
        raise ValueError(f"--snr has no effect {why}")
    recording = read_recording(Path(settings.channel_file))
    state = channel.draw_state(lambda *_: np.random.default_rng(seed), frame=settings.frame)
    about = {
        "channel_file": settings.channel_file,
        "frame": settings.frame % recording.frames,
        "frames": recording.frames,
    }
    if isinstance(recording, ChannelMatrices):
        about["measured_power_db"] = recording.mean_power_db
    return Met(channel.numerology, state.gains, channel.snr_met(state), about)


def _milliseconds(seconds: float) -> float | None:
    return float(seconds) * 1e3 if math.isfinite(seconds) else None


def _importance(settings: PlanSettings) -> tuple[NDArray[np.float64], float]:
    """(196,) importance weights, and the range of the image at zero mean and unit variance."""
    if settings.importance is not None:
        return importance_weights(_read_scores(settings.importance)), UNIT_VARIANCE_RANGE
    if settings.image is None:
        return draw_importance(settings.seed, segments=PATCHES), UNIT_VARIANCE_RANGE
    from semlink.vision.images import model_pixels, open_image
    from semlink.vision.photos import find_photos
    from semlink.vision.vit import class_attention, load_vit, normalise

    pixels = model_pixels(open_image(find_photos([settings.image])[0]))
    model = load_vit(DEVICE_MODEL, weights=settings.weights)
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
