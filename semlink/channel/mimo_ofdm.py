"""MIMO-OFDM channel: ideal transmission at Shannon's rate, or uncoded QAM symbols decided one by one."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import numpy as np

from semlink.channel.arrived_symbols import ArrivedSymbols
from semlink.channel.base import Arrival, Modulated, payload_values, register
from semlink.channel.layout import BlockLayout
from semlink.channel.planned import Link, PlannedChannel
from semlink.channel.uncoded import send_over_matrices, send_over_subchannels
from semlink.parameters import Notation, Option


@register
@dataclass(frozen=True, kw_only=True)
class MimoOfdm(Modulated, PlannedChannel):
    """MIMO-OFDM over 784 subcarriers of 15 kHz with Rayleigh fading or measured; `coding` says what arrives."""

    name = "mimo_ofdm"

    coding: Annotated[
        Literal["ideal", "uncoded"],
        Option(
            "ideal: nothing is damaged, and every block takes the time of Shannon's rate (IA-QSMPA, 24-25); "
            "uncoded: bits as QAM symbols, decided one by one, in the time that these take"
        ),
        Notation(
            "T_d",
            "",
            "T_d = max_i (D B_i)/R_i, R_i = ∑_f Δf_0 log_2(1 + (P_i λ_f^2)/σ^2)",
            "of ideal: IA-QSMPA, equations (24) and (25)",
        ),
    ] = "ideal"

    @property
    def idle(self) -> Mapping[str, str]:
        """Also the order, where nothing is modulated."""
        order = {"order": "with --coding ideal, only with uncoded"} if self.coding == "ideal" else {}
        return {**super().idle, **order}

    def carry(self, link: Link, generator: np.random.Generator) -> Arrival:
        """See `PlannedChannel`. A block of `uncoded` that has no power arrives as noise."""
        latencies = link.latencies()
        if self.coding == "ideal":
            return Arrival(np.empty(0, np.int64), seconds=latencies, latencies=latencies)
        numerology, powers = link.plan.numerology, link.plan.power_of_subchannel
        layout = BlockLayout(link.plan.block_of_subchannel, link.plan.load, self.order)
        sent = payload_values(link.frame)
        if link.is_known:
            symbols = send_over_subchannels(sent, layout, link.gains, powers, link.noise_power, generator)
        else:
            interval = numerology.coherence_symbols
            symbols = send_over_matrices(
                sent, layout, link.at, link.estimate, powers, link.noise_power, generator, interval=interval
            )
        seconds = layout.ofdm_symbols.astype(np.float64) * numerology.symbol_seconds
        return Arrival(
            np.flatnonzero(layout.demodulate(symbols) != sent),
            seconds=seconds,
            latencies=latencies,
            symbols=ArrivedSymbols(self.order, symbols, partial(layout.modulate, sent)),
        )
