"""Channel: what every channel has in common, what arrives over one, and the registry of channels by name.

A channel is a frozen dataclass in a file of its own, which registers it. Its parameters are declared once, as its
fields (see `semlink.parameters`); settings, flags and the control plane are made from them. To add one,
see docs/add-a-channel.md.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from semlink.channel.arrived_symbols import ArrivedSymbols
from semlink.channel.fading import FadingState
from semlink.channel.plan import Plan
from semlink.channel.recording_files import read_recording
from semlink.channel.recordings import ChannelMatrices, Recording, SnrTrace
from semlink.parameters import Notation, Option, check_parameters
from semlink.registry import Registry


def invert_bits(data: bytearray, positions: NDArray[np.int64]) -> None:
    """Inverts bits of `data` in place; position 0 is the most significant bit of the first byte."""
    inverted = np.zeros(8 * len(data), bool)
    inverted[positions] = True
    octets = np.frombuffer(data, np.uint8)
    octets ^= np.packbits(inverted)


class Carried(Protocol):
    """What a channel needs to know of a frame: the payload, and the segments that it is a row of."""

    @property
    def payload(self) -> bytes:
        """The segments one behind the other, most significant bit first, zero-padded to a byte."""

    @property
    def payload_bits(self) -> int:
        """Bits of the payload without the padding, which is never exposed."""

    @property
    def segment_bits(self) -> NDArray[np.int64]:
        """(N,) bits of each segment, in order; they add up to `payload_bits`."""

    @property
    def importance(self) -> NDArray[np.float64]:
        """(N,) how much each segment matters, within [0, 1]; only the order counts."""

    @property
    def values(self) -> int:
        """Values H·W·C of the picture that the bits stand for, by which a channel bandwidth ratio counts."""


def payload_values(frame: Carried) -> NDArray[np.uint8]:
    """(payload_bits,) values 0 and 1 of a payload."""
    return np.unpackbits(np.frombuffer(frame.payload, np.uint8), count=frame.payload_bits)


@dataclass(frozen=True, eq=False)
class RawBits:
    """Bytes that are carried as a single segment, such as a file of a codec."""

    payload: bytes
    payload_bits: int = -1
    """Bits that are exposed, from the first on; -1: all."""
    values: int = 0
    """Values H·W·C of the picture that the bytes stand for; 0: of none."""

    def __post_init__(self) -> None:
        """Counts the bits."""
        if self.payload_bits < 0:
            object.__setattr__(self, "payload_bits", 8 * len(self.payload))

    @property
    def segment_bits(self) -> NDArray[np.int64]:
        """(1,) all bits."""
        return np.array([self.payload_bits])

    @property
    def importance(self) -> NDArray[np.float64]:
        """(1,) one."""
        return np.ones(1)


@dataclass(frozen=True, eq=False)
class Arrival:
    """What becomes of a payload. What to do about segments that do not arrive is up to the caller."""

    flips: NDArray[np.int64]
    """(n,) positions of the payload's bits that arrive inverted, ascending; of no meaning in a missing segment."""
    lost: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Segments that the receiver knows to be lost, ascending."""
    seconds: NDArray[np.float64] | None = None
    """(N,) how long each segment is on the air; infinite: it never gets through. None: no time is known."""
    latencies: NDArray[np.float64] | None = None
    """(N,) by equation (24) or (38) of IA-QSMPA, possibly infinite; the largest is T_d."""
    channel_uses: int | None = None
    """Symbols that were on the air; None: the channel has none, or another measure of what it spent."""
    air_bits: int | None = None
    """Bits that were on the air, parity and CRC included; None: those that were exposed, uncoded."""
    design_ber: float | None = None
    """Bit error rate that the codes were designed for; None: there were none."""
    measured_ber: float | None = None
    """Bit error rate of the air as the receiver measures it, on the blocks that it could decode; None: on none."""
    symbols: ArrivedSymbols | None = None
    """What arrived, before it became bits; None: the channel has no symbols, or none were sent."""

    @property
    def never(self) -> NDArray[np.int64]:
        """Segments that never get through, ascending."""
        return np.empty(0, np.int64) if self.seconds is None else np.flatnonzero(np.isinf(self.seconds))

    @property
    def air_seconds(self) -> float:
        """How long the last segment is on the air, possibly infinite; 0 where nothing is known or sent."""
        return 0.0 if self.seconds is None else float(self.seconds.max(initial=0.0))

    @property
    def missing(self) -> NDArray[np.int64]:
        """Segments that are lost or never get through, ascending."""
        return self.lost if self.seconds is None else np.union1d(self.lost, self.never)

    def received(self, sent: Carried) -> bytes:
        """The payload that was sent as it arrives; the bits of missing segments are zeros."""
        data = bytearray(sent.payload)
        invert_bits(data, self.flips)
        if (missing := self.missing).size:
            arrives = np.ones(sent.segment_bits.size, bool)
            arrives[missing] = False
            values = np.unpackbits(np.frombuffer(data, np.uint8))
            values[: sent.payload_bits] *= np.repeat(arrives, sent.segment_bits)
            return np.packbits(values).tobytes()
        return bytes(data)


@dataclass(frozen=True, kw_only=True)
class Channel(ABC):
    """What the air does to a payload.

    All randomness comes from the generators handed in: the same state of a generator, the same damage.

    Raises:
        ValueError: a parameter is out of its range.
    """

    name: ClassVar[str]
    """Unique name, in snake case; flags write it with hyphens."""
    takes_plan: ClassVar[bool] = False
    """`transmit` needs a plan and a state: the channel is a `semlink.channel.planned.PlannedChannel`."""

    def __post_init__(self) -> None:
        """Refuses a parameter out of its range."""
        check_parameters(self)

    @property
    def idle(self) -> Mapping[str, str]:
        """Parameters that have no effect beside the others, and why, such as "with --coding ideal"."""
        return {}

    @property
    def codes_frames(self) -> bool:
        """Whether it codes whole frames, header included (access ldpc), for the parameter `design_ber`."""
        return False

    def is_quick(self, bits: int) -> bool:
        """Whether carrying so many bits takes a millisecond at most, so that an event loop may do it itself."""
        return False

    def draw_state(
        self,
        random: Callable[..., np.random.Generator],
        *,
        frame: int = 0,
        start: int = 0,
        precision: type = np.complex128,
    ) -> FadingState | None:
        """The state that one frame meets and a device may know before it sends; None: there is none to know.

        Args:
            random: numbers that name a stream -> its generator, the same whenever it is asked for.
            frame: number of the frame, by which it meets those of a measured channel in turn, at least 0.
            start: which matrices of a measured channel the sender's frame 0 meets, any number at least 0.
            precision: NumPy type of complex numbers to which the state is rounded, as it is told to the device.
        """
        return None

    @abstractmethod
    def transmit(
        self,
        frame: Carried,
        plan: Plan | None,
        state: FadingState | None,
        generator: np.random.Generator,
    ) -> Arrival:
        """Sends a payload.

        Args:
            frame: the bits, segment by segment.
            plan: which subchannels and power each segment has; a channel that takes no plans ignores it.
            state: what `draw_state` gave.
            generator: the source of noise and errors.
        """


@dataclass(frozen=True, kw_only=True)
class Erring(Channel):
    """A channel whose bits err at a rate that is given."""

    ber: Annotated[
        float,
        Interval(ge=0, le=1),
        Option("bit error rate μ: the probability that a bit arrives inverted", initial=0.01),
        Notation("μ", equation="P(b̂ ≠ b) = μ", source="IAQ, equation (19)"),
    ]


@dataclass(frozen=True, kw_only=True)
class Noisy(Channel):
    """A channel with white Gaussian noise, whose SNR may follow a measured trace.

    Raises:
        ValueError: the channel file cannot be read, or is not for this channel.
    """

    snr_db: Annotated[
        float,
        Interval(ge=-50, le=100),
        Option(
            "SNR in dB: mean energy of a QAM symbol, or unit mean power of a subchannel, over noise", flag="snr"
        ),
        Notation(
            "SNR",
            "dB",
            "y = h x + v, v ∼ CN(0, σ^2)\nσ^2 = 10^(-SNR/10)",
            "IAQ, equation (18), at unit mean energy of x and h: h = 1 on awgn, h ∼ CN(0, 1) for every symbol on "
            "rayleigh, the singular value λ of each subchannel on MIMO-OFDM (IA-QSMPA, equation 7)",
        ),
    ] = 20.0
    channel_file: Annotated[
        str | None,
        Option(
            "measured channel: a CSV file with the SNR of successive frames; for mimo-ofdm and finite-blocklength "
            "also an .npy or .npz file with H or taps (see the documentation, Own channel data)",
            at_start=True,
        ),
    ] = None

    def __post_init__(self) -> None:
        """Refuses a parameter out of its range, and a measured channel that does not go with the others."""
        given: object = self.channel_file
        if isinstance(given, PathLike):
            object.__setattr__(self, "channel_file", fspath(given))
        super().__post_init__()
        if isinstance(self.recording, ChannelMatrices):
            self.check_matrices(self.recording)

    @property
    def idle(self) -> Mapping[str, str]:
        """The SNR, where a measured trace has it."""
        return {"snr_db": "beside a --channel-file with an SNR trace"} if self.measured_snr(0) is not None else {}

    @cached_property
    def recording(self) -> Recording | None:
        """What `channel_file` holds."""
        return None if self.channel_file is None else read_recording(Path(self.channel_file))

    def check_matrices(self, recording: ChannelMatrices) -> None:
        """ValueError unless this channel can be one of measured matrices."""
        raise ValueError(
            f"channel file {self.channel_file} has H, which is for mimo-ofdm and finite-blocklength: "
            f"{self.name} takes a CSV file with snr_db"
        )

    def draw_state(
        self,
        random: Callable[..., np.random.Generator],
        *,
        frame: int = 0,
        start: int = 0,
        precision: type = np.complex128,
    ) -> FadingState | None:
        """See `Channel.draw_state`."""
        snr_db = self.measured_snr(frame)
        return None if snr_db is None else FadingState(snr_db=snr_db)

    def measured_snr(self, frame: int) -> float | None:
        """SNR in dB of a frame by a measured trace; None: there is none."""
        return self.recording.at(frame) if isinstance(self.recording, SnrTrace) else None

    def snr_met(self, state: FadingState | None) -> float:
        """SNR in dB in a state that `draw_state` gave.

        Raises:
            ValueError: there is no state, and the SNR is another one for every frame.
        """
        if state is not None and state.snr_db is not None:
            return state.snr_db
        if isinstance(self.recording, SnrTrace):
            raise ValueError(f"{self.name} with a measured SNR takes the state that draw_state gives")
        return self.snr_db

    def __getstate__(self) -> dict[str, Any]:
        """Another process reads the file itself."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, kw_only=True)
class Modulated(Channel):
    """A channel on which bits go as QAM symbols."""

    order: Annotated[
        Literal[4, 16, 64, 256],
        Option("number of points of the QAM"),
        Notation("Q", "points", "m = log_2 Q", "m: bits of a symbol"),
    ] = 64


_channels: Registry[type[Channel]] = Registry("channel", "semlink.channel")
register = _channels.register


def channels() -> dict[str, type[Channel]]:
    """Every channel by its name, sorted: those of this package, and others that were registered."""
    return dict(sorted(_channels.items().items()))


def channel_type(name: str) -> type[Channel]:
    """The channel of a name, such as "mimo_ofdm" or "mimo-ofdm".

    >>> channel_type("bsc")(ber=0.01)
    BinarySymmetricChannel(ber=0.01, access='none', design_ber=None)

    Raises:
        ValueError: there is none.
    """
    return _channels.get(name.replace("-", "_"))
