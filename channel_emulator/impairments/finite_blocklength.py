"""MIMO-OFDM with codewords of finite length, a few of which fail."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from channel_emulator.impairments.planned import Arrival, PlannedChannel, finite
from channel_emulator.planned_frame import PlannedFrame
from semlink.access.planner import TARGET_BLOCK_ERROR_RATE
from semlink.channel.bsc import flip_positions
from semlink.channel.rates import bit_error_rate, dispersion_penalty


class FiniteBlocklength(PlannedChannel):
    """MIMO-OFDM at the rates that finite block lengths allow (IA-QSMPA, Section IV, equations 27, 28 and 38)."""

    type: Literal["finite_blocklength"] = "finite_blocklength"
    target_bler: float = Field(
        TARGET_BLOCK_ERROR_RATE,
        gt=0,
        le=0.5,
        allow_inf_nan=False,
        description="block error rate μ̃ that the rates keep to",
    )
    errors: Literal["block-loss", "ber-rule"] = Field(
        "block-loss",
        description="block-loss: each block is lost with probability `target_bler`, and the frame goes on without "
        "it; ber-rule: every bit flips on its own, at the paper's rule of thumb for the bit error rate (41)",
    )

    @property
    def block_error_rate(self) -> float:
        """μ̃."""
        return self.target_bler

    def arrive(self, values: NDArray[np.uint8], frame: PlannedFrame, generator: np.random.Generator) -> Arrival:
        """See `PlannedChannel`."""
        latencies = finite(frame.latencies(dispersion_penalty(self.target_bler, frame.block_length)))
        if self.errors == "block-loss":
            lost = np.flatnonzero(generator.random(frame.bits.size) < self.target_bler)
            return Arrival(values, latencies, latencies, lost)
        arrived = values.copy()
        arrived[flip_positions(values.size, bit_error_rate(self.target_bler, frame.block_length), generator)] ^= 1
        return Arrival(arrived, latencies, latencies)
