"""Codecs of today, frame profile 4: AV1 stills (AVIF), WebP and JPEG without their containers."""

from semlink.source.codec.coder import decode, encode
from semlink.source.codec.frame import CodecFrame
from semlink.source.registry import SourceCoder, register

__all__ = ["CodecFrame", "decode", "encode"]

register(SourceCoder("codec", CodecFrame, "pixels", encode, decode, decodes_apart=True))
