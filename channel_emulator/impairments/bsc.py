"""The binary symmetric channel of IAQ, Section II: every bit arrives inverted with probability μ, on its own."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field


class BinarySymmetricChannel(BaseModel):
    """Inverts every bit with probability `ber`, independently of all others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["bsc"] = "bsc"
    ber: float = Field(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="bit error rate μ: the probability that a bit arrives inverted",
        examples=[0.01],
    )

    def flips(self, bits: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Positions of the inverted bits, drawn by geometric skips: the cost follows their number, not `bits`.

        Between two inverted bits lie K intact ones, P(K = k) = μ(1-μ)^k. Inverting that distribution,
        K = floor(E / -ln(1-μ)) with E exponential of mean 1 (Devroye, Non-Uniform Random Variate Generation,
        1986, X.2). The draws are made in chunks, and one draw after another, so that the size of the chunks
        does not show: more exposed bits only append positions.

        Args:
            bits: how many bits are exposed, ≥ 0.
            generator: the source of all randomness.

        Returns:
            (F,) positions within [0, bits), ascending, each once; F is binomial(bits, μ).
        """
        if self.ber in (0, 1):
            return np.arange(bits if self.ber else 0, dtype=np.int64)
        mean_skip = min(-1 / math.log1p(-self.ber), 1e300)  # times a draw, it stays finite
        chunk = 16 + int(1.1 * bits * self.ber)  # nearly always the only one
        chunks = []
        last = -1
        while last < bits:
            skips = generator.standard_exponential(chunk) * mean_skip
            # A skip beyond the end is as good as a longer one, and its sums fit an integer.
            positions = last + np.cumsum(np.minimum(skips, bits).astype(np.int64) + 1)  # astype is floor here
            chunks.append(positions)
            last = int(positions[-1])
        positions = np.concatenate(chunks)
        return positions[: np.searchsorted(positions, bits)]
