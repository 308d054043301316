"""Learned bits with importance (Kong and Zhang, arXiv 2507.12850), frame profile 2."""

from semlink.source.learned.coder import decode, encode, load, model_files
from semlink.source.learned.frame import LearnedFrame
from semlink.source.registry import SourceCoder, register

__all__ = ["LearnedFrame", "decode", "encode", "load"]

register(SourceCoder("learned", LearnedFrame, "pixels", encode, decode, load, model_files=model_files))
