"""Uncoded or ideal transmission over MIMO-OFDM."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from channel_emulator.impairments.planned import Arrival, PlannedChannel, finite
from channel_emulator.planned_frame import PlannedFrame
from semlink.channel.chain import transmit, transmit_redrawn
from semlink.channel.layout import BlockLayout


class MimoOfdm(PlannedChannel):
    """MIMO-OFDM; what arrives, and when, is up to `coding`."""

    type: Literal["mimo_ofdm"] = "mimo_ofdm"
    coding: Literal["ideal", "uncoded"] = Field(
        "ideal",
        description="ideal: nothing is damaged, and every block takes the time of Shannon's rate (IA-QSMPA, "
        "24-25); uncoded: bits as QAM symbols, decided one by one, in the time that these take",
    )
    order: Literal[4, 16, 64, 256] = Field(64, description="number of points of the QAM of `uncoded`")

    def arrive(self, values: NDArray[np.uint8], frame: PlannedFrame, generator: np.random.Generator) -> Arrival:
        """See `PlannedChannel`. A block of `uncoded` that has no power arrives as noise."""
        latencies = frame.latencies()
        if self.coding == "ideal":
            return Arrival(values, finite(latencies), latencies)
        held = frame.held
        layout = BlockLayout(frame.block_of_subchannel, frame.load, self.order)
        powers, interval = frame.power_of_subchannel, held.numerology.coherence_symbols
        if held.is_known:
            arrived = transmit(values, layout, held.gains, powers, held.noise_power, generator)
        else:
            arrived = transmit_redrawn(
                values, layout, held.at, held.estimate, powers, held.noise_power, generator, interval=interval
            )
        return Arrival(arrived, layout.ofdm_symbols / held.numerology.spacing_hz, latencies)
