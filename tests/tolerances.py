"""Tolerances of numeric comparisons, each from what it protects and none from what one CPU gave.

Formulas in float64, computed in two ways, are compared to 1e-9: the rounding of another processor, BLAS or number
of threads stays far below, and a wrong factor, sign or index far above. For a vision transformer's float32:
"""

IMPORTANCE = 1e-3
"""Relative, of an attention score. Scores that differ by this much move one bit of the bit map in 6 of 100
pictures, by a tenth of it in 3 of 1000: the gains of 196 patches lie that far apart. Float32 stays below 3e-4."""

CONFIDENCE = 1e-3
"""Relative, of a softmax confidence, which is shown in tenths of a percent; that is the absolute tolerance of a
difference of two logits. Float32 stays below 1e-4."""
