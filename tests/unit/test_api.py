"""The names that other code may rely on: present, with these parameters and defaults; more may follow."""

import inspect
from pkgutil import resolve_name

import pytest

SIGNATURES = {
    "semlink.source.iaq.importance:importance_weights": "(scores, *, gamma=1.0, floor=1e-07)",
    "semlink.source.iaq.allocation:incremental": (
        "(weights, steps, *, bit_error_rate=0.0, min_bits=0, max_bits=8)"
    ),
    "semlink.source.iaq.allocation:water_filling": (
        "(weights, steps, *, bit_error_rate=0.0, min_bits=0, max_bits=8)"
    ),
    "semlink.source.iaq.allocation:fixed": "(count, steps, *, max_bits=8)",
    "semlink.source.iaq.allocation:top_k": "(scores, steps, *, max_bits=8)",
    "semlink.source.iaq.allocation:attention_threshold": "(scores, threshold, *, max_bits=8)",
    "semlink.source.iaq.allocation:attention_sum_threshold": "(scores, threshold, *, max_bits=8)",
    "semlink.source.iaq.quantizer:quantize": "(patches, bits, low, high)",
    "semlink.source.iaq.quantizer:dequantize": "(codes, bits, low, high)",
    "semlink.source.iaq.distortion:one_error_bound": "(bits, bit_error_rate, *, value_range=1.0)",
    "semlink.source.iaq.distortion:expected_distortion": "(bits, bit_error_rate, *, value_range=1.0)",
    "semlink.source.registry:read_frame": "(data)",
    "semlink.frame:Frame.to_bytes": "(self)",
    "semlink.decision.voting:majority_vote": "(labels, confidences)",
}


@pytest.mark.parametrize(("name", "expected"), SIGNATURES.items())
def test_signature(name, expected):
    signature = inspect.signature(resolve_name(name))
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    assert str(inspect.Signature(bare)).startswith(expected.removesuffix(")"))
