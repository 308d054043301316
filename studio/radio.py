"""Radio report: what the studio shows of a frame on the air, its plan and the symbols that arrived."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from device.planning import channel_of
from device.sent import Layer
from semlink.channel.arrived_symbols import spread
from semlink.channel.ofdm import subchannel_gains
from semlink.channel.qam import ORDERS, bits_per_symbol, part_of_constellation
from semlink.v1 import link_pb2 as pb

SYMBOLS = 1024
"""That a camera asks for: what a picture of some 300 pixels still shows one by one."""


def radio_report(layer: Layer, state: pb.ChannelState | None) -> dict[str, Any]:
    """The radio view of a frame.

    Args:
        layer: as it was sent.
        state: of the channel that it met, if that takes plans.

    Returns:
        plan: see `plan_report`; constellation: see `constellation_report`. None where there is none.
    """
    return {
        "plan": None if layer.planned is None or state is None else plan_report(layer, state),
        "constellation": constellation_report(layer),
    }


def plan_report(layer: Layer, state: pb.ChannelState) -> dict[str, Any]:
    """A plan: subchannels, what each is worth, and which block it carries.

    Args:
        layer: as it was sent, under a plan.
        state: of the channel that it met.

    Returns:
        subcarriers (of all OFDM symbols that are taken as one), streams; gains, singular values, and block, of
        each subchannel in the order f·N_s + r; power and air_ms of each block; patch, the segment that it carries;
        attention on it; t_d_ms, planned_t_d_ms; snr_db; method.
    """
    assert layer.planned is not None
    plan, channel, frame = layer.planned.plan, layer.response.channel, layer.view.frame
    numerology, matrices = channel_of(state)
    gains = subchannel_gains(matrices, numerology.streams)
    gains = np.tile(gains, (plan.numerology.subcarriers // len(gains), 1))
    patches = np.flatnonzero(frame.segment_bits)
    attention = layer.view.attention
    is_known = attention is not None and attention.size == frame.segment_bits.size
    importance = attention if is_known else frame.importance
    return {
        "subcarriers": plan.numerology.subcarriers,
        "streams": plan.numerology.streams,
        "gains": _numbers(gains.ravel(), 4),
        "block": plan.block_of_subchannel.ravel().tolist(),
        "power": _numbers(plan.power, 5),
        "air_ms": _numbers(channel.block_air_ms, 5),
        "patch": patches.tolist(),
        "attention": _numbers(np.asarray(importance)[patches], 6),
        "t_d_ms": _finite(channel.t_d_ms),
        "planned_t_d_ms": _finite(1e3 * plan.t_d),
        "snr_db": plan.snr_db,
        "method": plan.method,
    }


def constellation_report(layer: Layer) -> dict[str, Any] | None:
    """A constellation: symbols as they arrived, beside the points of their grid.

    Args:
        layer: as it was sent.

    Returns:
        order, of the QAM, 0 for none; amplitudes, of either part of its points; total, symbols of the frame;
        snr_db; in_phase and quadrature of each symbol that is shown, in roots of the mean energy of one that is
        sent; wrong, places of those that are nearest to another point than was sent; patch of each, known under a
        plan alone. None where the channel showed no symbols, or none that make sense.
    """
    shown = layer.response.channel.constellation
    count = len(shown.symbols) // 8
    if not 0 < count <= min(SYMBOLS, shown.total) or len(shown.symbols) % 8 or shown.order not in (0, *ORDERS):
        return None
    symbols = np.frombuffer(shown.symbols, "<c8").astype(np.complex128)
    return {
        "order": shown.order,
        "amplitudes": _numbers(np.sort(part_of_constellation(shown.order)[0]), 4) if shown.order else [],
        "total": shown.total,
        "snr_db": _finite(shown.snr_db),
        "in_phase": _numbers(symbols.real, 3),
        "quadrature": _numbers(symbols.imag, 3),
        "wrong": sorted({place for place in shown.wrong if place < count}),
        "patch": _patches(layer, count),
    }


def _patches(layer: Layer, shown: int) -> list[int] | None:
    """The segment that each of the symbols is of: a frame under a plan is sent block after block."""
    constellation = layer.response.channel.constellation
    if layer.planned is None or not constellation.order:
        return None
    ends = np.cumsum(-(-layer.view.frame.segment_bits // bits_per_symbol(constellation.order)))
    if ends[-1] != constellation.total:
        return None
    found: list[int] = np.searchsorted(ends, spread(shown, constellation.total), side="right").tolist()
    return found


def _numbers(values: ArrayLike, digits: int) -> list[float | None]:
    values = np.asarray(values, np.float64)
    rounded: list[float] = values.round(digits).tolist()
    return [*rounded] if np.isfinite(values).all() else [_finite(value) for value in rounded]


def _finite(value: float) -> float | None:
    """For JSON, which has no other numbers."""
    return value if np.isfinite(value) else None
