"""Planned cell: images over a channel whose frames travel under a transmission plan, as in IA-QSMPA."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from experiments.data.prepared import Prepared
from experiments.evaluation.cells import SentCell, Tuning, channel_title
from experiments.evaluation.coders import Received, shares_of
from semlink.access.mapping import SubcarrierMapping
from semlink.access.planner import PlanMethod, QuantizingPlan, plan
from semlink.channel.fading import CHANNEL, MimoFadingState
from semlink.channel.ofdm import subchannel_gains
from semlink.channel.plan import MIN_BITS
from semlink.channel.planned import PlannedChannel
from semlink.source.iaq import coder as iaq
from semlink.source.iaq.importance import importance_weights

KEPT_CHANNELS = 1024
"""Gains that a process keeps, because all cells meet the same channels and their SVD takes as long as a plan."""


@dataclass(frozen=True)
class PlannedCell(SentCell):
    """One setting of the link over a planned channel. Every image meets a channel of its own.

    Attributes:
        method: how the frame is planned.
        rho: compression ratio ρ of the payload.
        mapping: which subchannels important patches get.

    Raises:
        ValueError: there is no such method or mapping, or a setting is out of its range.
    """

    channel: PlannedChannel
    method: PlanMethod
    rho: float = 0.25
    mapping: SubcarrierMapping = SubcarrierMapping.IMPORTANCE

    def __post_init__(self) -> None:
        """Refuses what no frame could be planned with."""
        object.__setattr__(self, "method", PlanMethod(self.method))
        object.__setattr__(self, "mapping", SubcarrierMapping(self.mapping))
        if not MIN_BITS / 8 <= self.rho <= 1:
            raise ValueError(f"rho must be within [{MIN_BITS / 8}, 1] for a plan, not {self.rho}")
        if not self.channel.takes_plan:
            raise ValueError(f"{self.channel.name} takes no plans")

    @property
    def title(self) -> str:
        """In words, for the progress bar."""
        return f"{self.method}, {self.mapping}, ρ = {self.rho:g}, {channel_title(self.channel)}"

    def shared(self, tuning: Tuning) -> None:
        """Nothing serves all images."""

    def plan(self, scores: ArrayLike, seed: int, image: int) -> QuantizingPlan:
        """The plan of an image for its channel, which all cells of one seed and number of streams share.

        Args:
            scores: (N,) importance.
            seed: of the channels.
            image: number of the image.
        """
        state, numerology = state_of(self.channel, seed, image), self.channel.numerology
        return plan(
            importance_weights(np.asarray(scores, np.float64)),
            subchannel_gains(state.estimate, numerology.streams) if state.csi_error else state.gains,
            self.channel.snr_met(state),
            method=self.method,
            numerology=numerology,
            rho=self.rho,
            mapping=self.mapping,
            generator=generators_of(seed, image)[1],
            block_error_rate=self.channel.block_error_rate,
        )

    def send(self, shared: None, prepared: Prepared, image: int, seed: int) -> Received:
        """An image as it arrives; a block that does not leaves a patch of mid-grey. The header is protected.

        `Received.more` has T_d in seconds (`t_d`, equation 25), how long the frame is on the air (`air`, which of
        uncoded frames is the time of their QAM symbols), the share of blocks that did not arrive (`lost_blocks`)
        and the share of payload bits that arrived inverted (`bit_errors`).
        """
        made = self.plan(prepared.attention[image], seed, image)
        frame = iaq.encode_with(prepared.pixels[image], made.bits)
        arrival = self.channel.transmit(
            frame, made, state_of(self.channel, seed, image), generators_of(seed, image)[2]
        )
        missing = arrival.missing
        return Received(
            iaq.decode(frame.with_payload(arrival.received(frame)).without(missing)),
            frame.header_bits + 8 * len(frame.payload),
            frame.segment_bits,
            lost=missing.size == made.bits.size,
            more={"t_d": made.t_d, "air": arrival.air_seconds, **shares_of(arrival, frame)},
        )

    def fields(self, shared: None, seen: Mapping[str, NDArray]) -> dict[str, Any]:
        """T_d and time on the air in ms, see `spread`; mean shares of lost blocks and of inverted bits."""
        return {
            "t_d_ms": spread(seen["t_d"] * 1e3),
            "air_ms": spread(seen["air"] * 1e3),
            "lost_blocks": float(seen["lost_blocks"].mean()),
            "bit_errors": float(seen["bit_errors"].mean()),
        }


def spread(values: NDArray[np.float64]) -> dict[str, float | None]:
    """Mean, standard deviation and median of values ≥ 0, and the share of the infinite ones (`infinite`).

    Mean and deviation are None where a value is infinite; so is an infinite median.
    """
    infinite = float(np.isinf(values).mean())
    median = float(np.median(values))
    return {
        "mean": None if infinite else float(values.mean()),
        "deviation": None if infinite else float(values.std()),
        "median": median if np.isfinite(median) else None,
        "infinite": infinite,
    }


def generators_of(seed: int, image: int) -> list[np.random.Generator]:
    """Of the channel that an image meets, of the random mapping, and of noise and errors."""
    return np.random.default_rng((seed, image)).spawn(3)


def state_of(channel: PlannedChannel, seed: int, image: int) -> MimoFadingState:
    """The state of a channel that an image meets, which all cells of one seed and number of streams share."""
    # Cells that differ in SNR alone share the channels, and with these their SVD.
    return _state(replace(channel, snr_db=0.0), seed, image)


@lru_cache(KEPT_CHANNELS)
def _state(channel: PlannedChannel, seed: int, image: int) -> MimoFadingState:
    def stream(*numbers: int) -> np.random.Generator:
        if numbers == (CHANNEL, 0):
            return generators_of(seed, image)[0]
        return np.random.default_rng((seed, image, 1, *numbers))

    return channel.draw_state(stream, frame=image)
