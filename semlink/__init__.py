"""Semlink: a semantic image link. Mathematics first; the processes live beside this package, not in it.

The public names of all rooms, flat: `import semlink as sl`. Each is imported where it is first used, so that this
loads neither torch nor gRPC by itself.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers see; `_HOMES` is the same for the interpreter, and a test compares them
    from semlink.access.planner import plan as plan
    from semlink.channel.base import channel_type as channel_type
    from semlink.channel.base import channels as channels
    from semlink.channel.base import invert_bits as invert_bits
    from semlink.channel.bsc import flip_positions as flip_positions
    from semlink.channel.ofdm import draw_channel as draw_channel
    from semlink.channel.ofdm import subchannel_gains as subchannel_gains
    from semlink.decision.belief import Belief as Belief
    from semlink.decision.voting import majority_vote as majority_vote
    from semlink.frame import Frame as Frame
    from semlink.frame import FrameError as FrameError
    from semlink.source.iaq.allocation.methods import allocate as allocate
    from semlink.source.iaq.coder import encode as encode
    from semlink.source.iaq.importance import importance_weights as importance_weights
    from semlink.source.opinion import OpinionFrame as OpinionFrame
    from semlink.source.opinion import opinion_frame as opinion_frame
    from semlink.source.registry import CodedImage as CodedImage
    from semlink.source.registry import decode as decode
    from semlink.source.registry import read_frame as read_frame
    from semlink.source.registry import source_coder as source_coder
    from semlink.vision.engines import load_engine as load_engine
    from semlink.vision.images import model_pixels as model_pixels
    from semlink.vision.images import open_image as open_image
    from semlink.vision.photos import find_photos as find_photos
    from semlink.vision.vit import attention_and_logits as attention_and_logits
    from semlink.vision.vit import class_attention as class_attention
    from semlink.vision.vit import class_names as class_names
    from semlink.vision.vit import load_vit as load_vit
    from semlink.vision.vit import normalise as normalise

# OpenVINO reports every import to a web service, unless its telemetry package is missing: it does without.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

__version__ = "0.1.0"

_HOMES = {
    "semlink.access.planner": ("plan",),
    "semlink.channel.base": ("channel_type", "channels", "invert_bits"),
    "semlink.channel.bsc": ("flip_positions",),
    "semlink.channel.ofdm": ("draw_channel", "subchannel_gains"),
    "semlink.decision.belief": ("Belief",),
    "semlink.decision.voting": ("majority_vote",),
    "semlink.frame": ("Frame", "FrameError"),
    "semlink.source.iaq.allocation.methods": ("allocate",),
    "semlink.source.iaq.coder": ("encode",),
    "semlink.source.iaq.importance": ("importance_weights",),
    "semlink.source.opinion": ("OpinionFrame", "opinion_frame"),
    "semlink.source.registry": ("CodedImage", "decode", "read_frame", "source_coder"),
    "semlink.vision.engines": ("load_engine",),
    "semlink.vision.images": ("model_pixels", "open_image"),
    "semlink.vision.photos": ("find_photos",),
    "semlink.vision.vit": ("attention_and_logits", "class_attention", "class_names", "load_vit", "normalise"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    """A public name, imported from the module that it lives in."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return list(__all__)
