"""Transformer-aided selection (Mortaheb, Karakaya, Khojastepour, Ulukus, arXiv 2405.01521), frame profile 1."""

from semlink.source.registry import SourceCoder, register
from semlink.source.transformer_aided.coder import decode, encode, load, model_files
from semlink.source.transformer_aided.frame import TokenFrame

__all__ = ["TokenFrame", "decode", "encode", "load"]

register(SourceCoder("transformer_aided", TokenFrame, "tokens", encode, decode, load, model_files=model_files))
