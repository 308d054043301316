"""MIMO-OFDM: cells of an evaluation whose images cross it under a transmission plan, as in IA-QSMPA."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from experiments.data.prepared import Prepared
from experiments.evaluation.coders import Received
from semlink.access.mapping import SubcarrierMapping
from semlink.access.planner import PlanMethod, PredictedPlan, plan
from semlink.channel.fading import MimoFadingState
from semlink.channel.finite_blocklength import FiniteBlocklength
from semlink.channel.mimo_ofdm import MimoOfdm
from semlink.channel.ofdm import Numerology
from semlink.channel.planned import PlannedChannel
from semlink.source.iaq import coder as iaq
from semlink.source.iaq.importance import importance_weights

KEPT_CHANNELS = 1024
"""Gains that a process keeps, because all cells meet the same channels and their SVD takes as long as a plan."""


class Coding(StrEnum):
    """What becomes of the bits of a block that has a rate; one without never arrives, whatever the coding.

    `IDEAL`: they all arrive. `UNCODED`: they go as QAM symbols, decided one by one. For a finite block length,
    `BER_RULE`: every bit flips on its own, at the rule of thumb (41) of IA-QSMPA; `BLOCK_LOSS`: the block is lost
    as a whole with the probability that its rate was chosen for.
    """

    IDEAL = "ideal"
    UNCODED = "uncoded"
    BER_RULE = "ber-rule"
    BLOCK_LOSS = "block-loss"


@dataclass(frozen=True)
class OfdmCell:
    """One setting of the link over MIMO-OFDM. Every image meets a Rayleigh fading channel of its own.

    Attributes:
        method: how the frame is planned.
        snr_db: SNR in dB.
        rho: compression ratio ρ of the payload.
        streams: N_s, antennas on either side.
        mapping: which subchannels important patches get.
        coding: what becomes of the bits.
        order: points of the QAM, where uncoded.
        block_error_rate: target μ̃ of the finite block length; None for the two codings that have none.

    Raises:
        ValueError: coding and block error rate do not go together.
    """

    method: PlanMethod
    snr_db: float
    rho: float = 0.25
    streams: int = 4
    mapping: SubcarrierMapping = SubcarrierMapping.IMPORTANCE
    coding: Coding = Coding.IDEAL
    order: int = 64
    block_error_rate: float | None = None

    def __post_init__(self) -> None:
        """Refuses a coding without its block error rate, and the other way round."""
        if (self.coding in (Coding.BER_RULE, Coding.BLOCK_LOSS)) != (self.block_error_rate is not None):
            raise ValueError(
                "block_error_rate must be given for ber-rule and block-loss, and only there, "
                f"not {self.block_error_rate} for {self.coding}"
            )

    @property
    def channel(self) -> PlannedChannel:
        """The channel, whose state both ends know."""
        link: dict[str, Any] = {"snr_db": self.snr_db, "streams": self.streams}
        if self.block_error_rate is None:
            link |= {"coding": self.coding.value, "order": self.order}
            return MimoOfdm(**link)
        link |= {"target_bler": self.block_error_rate, "errors": self.coding.value}
        return FiniteBlocklength(**link)

    @property
    def title(self) -> str:
        """In words, for the progress bar."""
        return f"{self.method}, {self.mapping}, {self.coding}, ρ = {self.rho:g}, {self.snr_db:g} dB"

    def shared(self) -> None:
        """Nothing serves all images."""

    def plan(self, scores: ArrayLike, seed: int, image: int) -> PredictedPlan:
        """The plan of an image for its channel, which all cells of one seed and number of streams share.

        Args:
            scores: (N,) importance.
            seed: of the channels.
            image: number of the image.
        """
        return plan(
            importance_weights(np.asarray(scores, np.float64)),
            _state(self.streams, seed, image).gains,
            self.snr_db,
            method=self.method,
            numerology=Numerology(streams=self.streams),
            rho=self.rho,
            mapping=self.mapping,
            generator=_generators(seed, image)[1],
            block_error_rate=self.block_error_rate,
        )

    def send(self, shared: None, prepared: Prepared, image: int, seed: int) -> Received:
        """An image as it arrives; a block that does not leaves a patch of mid-grey. The header is protected.

        `Received.more` has T_d in seconds (`t_d`, equation 25), how long the frame is on the air (`air`, which of
        uncoded frames is the time of their QAM symbols), the share of blocks that did not arrive (`lost_blocks`)
        and the share of payload bits that arrived inverted (`bit_errors`).
        """
        made = self.plan(prepared.attention[image], seed, image)
        frame = iaq.encode_with(prepared.pixels[image], made.bits)
        state, generator = _state(self.streams, seed, image), _generators(seed, image)[2]
        arrival = self.channel.transmit(frame, made, state, generator)
        missing = arrival.missing
        return Received(
            iaq.decode(frame.with_payload(arrival.received(frame)).without(missing)),
            frame.header_bits + 8 * len(frame.payload),
            frame.segment_bits,
            lost=missing.size == made.bits.size,
            more={
                "t_d": made.t_d,
                "air": arrival.air_seconds,
                "lost_blocks": missing.size / made.bits.size,
                "bit_errors": arrival.flips.size / frame.payload_bits,
            },
        )

    def fields(self, shared: None, seen: Mapping[str, NDArray]) -> dict:
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


def _generators(seed: int, image: int) -> list[np.random.Generator]:
    """Of the channel, of the random mapping, and of noise and errors."""
    return np.random.default_rng((seed, image)).spawn(3)


@lru_cache(KEPT_CHANNELS)
def _state(streams: int, seed: int, image: int) -> MimoFadingState:
    return MimoOfdm(streams=streams).draw_state(lambda *_: _generators(seed, image)[0])
