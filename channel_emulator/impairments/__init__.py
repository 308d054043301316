"""What a channel can do to a frame. One impairment is one file, and one member of the union below.

An impairment is a frozen model of its parameters with a `type` that tells it from the others and names it in
answers, and one pure method,

    flips(bits, generator) -> (F,) int64

the positions, ascending and each once, of the bits among `bits` exposed ones that arrive inverted. All its
randomness comes from `generator`, so the same generator state means the same damage.
"""

from typing import Annotated

from pydantic import Field

from channel_emulator.impairments.bsc import BinarySymmetricChannel
from channel_emulator.impairments.none import NoImpairment

Impairment = Annotated[NoImpairment | BinarySymmetricChannel, Field(discriminator="type")]

__all__ = ["BinarySymmetricChannel", "Impairment", "NoImpairment"]
