"""Importance-aware quantization (IAQ: Park, Oh, Kim, Jeon, arXiv 2412.06038), frame profile 0."""

from semlink.source.iaq.coder import check_settings, decode, encode
from semlink.source.iaq.frame import IaqFrame
from semlink.source.registry import SourceCoder, register

__all__ = ["IaqFrame", "decode", "encode"]

register(SourceCoder("iaq", IaqFrame, "attention", encode, decode, check=check_settings))
