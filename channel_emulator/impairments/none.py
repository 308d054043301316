"""The channel that damages nothing: what one compares the others with."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict


class NoImpairment(BaseModel):
    """Every bit arrives as it was sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["none"] = "none"

    def flips(self, bits: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """No positions, however many bits are exposed."""
        return np.empty(0, np.int64)
