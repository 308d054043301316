"""What a channel can do to a frame; members of the union below.

An impairment is a frozen model of its parameters with a `type` that tells it from the others and names it in
answers, and one pure method. All its randomness comes from `generator`, so the same generator state means the same
damage. There are three kinds:

    flips(bits, generator) -> (F,) int64

is for those that do not look at the bits: the positions, ascending and each once, of the bits among `bits` exposed
ones that arrive inverted.

    arrive(values, generator) -> (bits,) uint8

is for those that modulate: (bits,) exposed values 0 and 1, and what arrives of them.

    arrive(values, frame, generator) -> Arrival

is for those whose frames travel with a plan, see `planned.PlannedChannel`.
"""

from typing import Annotated

from pydantic import Field

from channel_emulator.impairments.bsc import BinarySymmetricChannel
from channel_emulator.impairments.finite_blocklength import FiniteBlocklength
from channel_emulator.impairments.flat import Awgn, Rayleigh
from channel_emulator.impairments.mimo_ofdm import MimoOfdm
from channel_emulator.impairments.none import NoImpairment

Unplanned = NoImpairment | BinarySymmetricChannel | Awgn | Rayleigh
Planned = MimoOfdm | FiniteBlocklength
Impairment = Annotated[Unplanned | Planned, Field(discriminator="type")]

__all__ = [
    "Awgn",
    "BinarySymmetricChannel",
    "FiniteBlocklength",
    "Impairment",
    "MimoOfdm",
    "NoImpairment",
    "Planned",
    "Rayleigh",
    "Unplanned",
]
