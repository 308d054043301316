"""MIMO-OFDM as IA-QSMPA has it (arXiv 2508.07696): the channel, what it does to bits, and its planning."""

from semlink.ofdm.channel import Numerology
from semlink.ofdm.planner import PlanMethod, plan
from semlink.ofdm.transmission_plan import Plan

__all__ = ["Numerology", "Plan", "PlanMethod", "plan"]
