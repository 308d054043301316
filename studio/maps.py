"""Maps of patches: attention, weight, bits, gain, damage and error of each, by what was sent and what arrived."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from device.capture import Encoded
from device.sent import Layer
from semlink.frame import Frame
from semlink.source.iaq import IaqFrame
from semlink.source.iaq.coder import PATCH_SIZE
from semlink.source.iaq.distortion import one_error_bound
from semlink.source.iaq.importance import importance_weights
from semlink.source.patches import to_patches
from semlink.v1 import link_pb2 as pb


def maps(
    view: Encoded,
    layer: Layer,
    received: Frame,
    arrived: NDArray[np.float64] | None,
    gamma: float,
    design_ber: float,
) -> dict[str, list[float]]:
    """Numbers of the 14 × 14 patches in raster order, those that there are.

    Args:
        view: as it was looked at.
        layer: the last that was sent of it.
        received: its frame as it arrived.
        arrived: (224, 224, 3) pixels of that; None: it is no picture.
        gamma: shape of the weights (31).
        design_ber: bit error rate μ that the gain of a bit assumes.

    Returns:
        attention: a_i. weight: w_i of equation (31). bits: M_i of IAQ, else bits of the segment. bound: (21), on
        the squared error of a value. gain: by how much one more bit of each value lessens the patch's weighed
        bound. spent: by how much the last bit of each did; 0 where there is none. flips: bits that arrived
        inverted. lost: 1 where nothing arrived. error: mean squared error of what arrived. subchannels, power,
        air_ms: of the plan. Bounds, gains and errors are in squared grey levels, air_ms in milliseconds.
    """
    found: dict[str, ArrayLike] = {}
    if arrived is not None:
        found["error"] = np.mean(np.square(to_patches(arrived - view.pixels, PATCH_SIZE)), axis=1)
    if view.attention is not None:
        found |= _of_attention(view.attention, layer, received, gamma, design_ber)
    return {name: np.round(np.asarray(values, np.float64), 6).tolist() for name, values in found.items()}


def _of_attention(
    attention: NDArray[np.float32], layer: Layer, received: Frame, gamma: float, design_ber: float
) -> dict[str, ArrayLike]:
    frame = layer.view.frame
    found: dict[str, ArrayLike] = {"attention": attention}
    found["weight"] = weights = importance_weights(attention.astype(np.float64), gamma=gamma)
    if isinstance(frame, IaqFrame):
        bits = frame.bits.astype(np.float64)
        span, values = float(frame.high - frame.low), frame.geometry.values_per_patch
        less, bound, more = (
            one_error_bound(np.maximum(bits + step, 0), design_ber, value_range=span) for step in (-1, 0, 1)
        )
        gain = np.where(bits < frame.max_bits, weights * values * (bound - more), 0.0)
        found |= {"bits": bits, "bound": bound, "gain": gain, "spent": weights * values * (less - bound)}
    elif frame.segment_bits.size == attention.size:
        found["bits"] = frame.segment_bits
    if "bits" in found:
        found |= _damage(frame, received, layer.response.channel)
        if layer.planned is not None:
            found |= _spent(layer, frame)
    return found


def _damage(frame: Frame, received: Frame, channel: pb.ChannelReport) -> dict[str, NDArray[Any]]:
    """Inverted bits and losses of each segment."""
    sizes, arrived = frame.segment_bits, received.segment_bits
    lost = np.zeros(sizes.size)
    lost[[number for number in channel.lost_blocks if number < sizes.size]] = 1
    if arrived.size != sizes.size or np.any((arrived != sizes) & (arrived != 0)):
        return {"lost": lost}
    lost[(arrived == 0) & (sizes > 0)] = 1
    kept = np.repeat(arrived == sizes, sizes)
    wrong = _values(frame)[kept] != _values(received)
    return {"flips": np.bincount(np.repeat(np.arange(sizes.size), arrived), wrong, sizes.size), "lost": lost}


def _values(frame: Frame) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(frame.payload, np.uint8), count=frame.payload_bits)


def _spent(layer: Layer, frame: Frame) -> dict[str, NDArray[Any]]:
    """What the plan gave to each segment: blocks are the segments that have bits, in their order."""
    assert layer.planned is not None
    plan, has_bits = layer.planned.plan, np.flatnonzero(frame.segment_bits)
    blocks, air = plan.block_of_subchannel.ravel(), np.array(layer.response.channel.block_air_ms)

    def spread(values: NDArray[Any]) -> NDArray[np.float64]:
        out = np.zeros(frame.segment_bits.size)
        if values.size == has_bits.size:
            out[has_bits] = np.where(np.isfinite(values), values, 0.0)
        return out

    number = np.bincount(blocks, minlength=has_bits.size)
    return {"subchannels": spread(number), "power": spread(np.asarray(plan.power)), "air_ms": spread(air)}
