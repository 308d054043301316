"""Finite blocklength channel: MIMO-OFDM with codewords of finite length, a few of which fail.

IA-QSMPA, Section IV, equations 27, 28 and 38.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Interval

from semlink.channel.base import Arrival, register
from semlink.channel.bsc import flip_positions
from semlink.channel.planned import Link, PlannedChannel
from semlink.channel.rates import TARGET_BLOCK_ERROR_RATE, bit_error_rate, dispersion_penalty
from semlink.parameters import Notation, Option


@register
@dataclass(frozen=True, kw_only=True)
class FiniteBlocklength(PlannedChannel):
    """MIMO-OFDM over 784 subcarriers of 15 kHz, or a measured H, at the rates that finite block lengths allow."""

    name = "finite_blocklength"

    target_bler: Annotated[
        float,
        Interval(gt=0, le=0.5),
        Option("block error rate μ̃ that the rates keep to"),
        Notation(
            "μ̃",
            "",
            "R = max(log_2(1 + γ) - (Q^-1(μ̃) √(U(γ)))/(ln 2 √L_c), 0), U(γ) = 1 - 1/(1 + γ)^2",
            "IA-QSMPA, equations (27) and (38): bit/s/Hz of a subchannel with SNR γ, in blocks of L_c symbols",
        ),
    ] = TARGET_BLOCK_ERROR_RATE
    errors: Annotated[
        Literal["block-loss", "ber-rule"],
        Option(
            "block-loss: each block is lost with probability `target_bler`, and the frame goes on without it; "
            "ber-rule: every bit flips on its own, at the paper's rule of thumb for the bit error rate (41)"
        ),
        Notation(equation="BER = 10 (1 - (1 - μ̃)^(1/L_c))", source="of ber-rule: IA-QSMPA, equation (41)"),
    ] = "block-loss"

    @property
    def block_error_rate(self) -> float:
        """μ̃."""
        return self.target_bler

    def carry(self, link: Link, generator: np.random.Generator) -> Arrival:
        """See `PlannedChannel`."""
        plan = link.plan
        rates = self.target_bler if plan.error_rates is None else plan.error_rates
        if np.max(rates) > self.target_bler:
            raise ValueError(f"plan must have error rates of at most {self.target_bler}, not {np.max(rates)}")
        latencies = link.latencies(dispersion_penalty(rates, plan.block_length))
        flips = lost = np.empty(0, np.int64)
        if self.errors == "block-loss":
            lost = np.flatnonzero(generator.random(plan.load.size) < rates)
        else:
            highest = bit_error_rate(float(np.max(rates)), plan.block_length)
            flips = flip_positions(link.frame.payload_bits, highest, generator)
            if plan.error_rates is not None:
                own = np.array([bit_error_rate(rate, plan.block_length) for rate in plan.error_rates])
                block = np.searchsorted(np.cumsum(plan.load), flips, side="right")
                flips = flips[generator.random(flips.size) * highest < own[block]]
        return Arrival(flips, lost, seconds=latencies, latencies=latencies)
