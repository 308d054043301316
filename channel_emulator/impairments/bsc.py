"""The binary symmetric channel."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from semlink.channel.bsc import flip_positions


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
        """See `semlink.channel.bsc.flip_positions`."""
        return flip_positions(bits, self.ber, generator)
