"""QAM over one flat channel: white Gaussian noise alone, or Rayleigh fading besides."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from semlink.channel.flat import awgn, rayleigh


class _FlatChannel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    snr_db: float = Field(
        20.0, ge=-50, le=100, allow_inf_nan=False, description="mean E_s/N0 in dB: energy of a symbol over noise"
    )
    order: Literal[4, 16, 64, 256] = Field(64, description="number of points of the QAM")


class Awgn(_FlatChannel):
    """Gray-labelled QAM over additive white Gaussian noise, hard decisions, no code."""

    type: Literal["awgn"] = "awgn"

    def arrive(self, values: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
        """See `semlink.channel.flat.awgn`."""
        return awgn(values, self.order, self.snr_db, generator)


class Rayleigh(_FlatChannel):
    """The same over Rayleigh fading that the receiver knows, another for every symbol."""

    type: Literal["rayleigh"] = "rayleigh"

    def arrive(self, values: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
        """See `semlink.channel.flat.rayleigh`."""
        return rayleigh(values, self.order, self.snr_db, generator)
