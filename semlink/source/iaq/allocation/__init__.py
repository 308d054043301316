"""Bit allocation: the methods of IAQ and the ones it is compared with, one family a file.

All take scores or weights in raster order and return (N,) int64 bits M_i. Ties go to the lower patch index.
"""

from semlink.source.iaq.allocation.incremental import incremental
from semlink.source.iaq.allocation.selection import (
    attention_sum_threshold,
    attention_threshold,
    fixed,
    top_k,
)
from semlink.source.iaq.allocation.water_filling import water_filling

__all__ = [
    "attention_sum_threshold",
    "attention_threshold",
    "fixed",
    "incremental",
    "top_k",
    "water_filling",
]
