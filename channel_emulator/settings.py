"""What the channel emulator can be told."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from channel_emulator.impairments import (
    Awgn,
    BinarySymmetricChannel,
    FiniteBlocklength,
    Impairment,
    MimoOfdm,
    NoImpairment,
    Rayleigh,
)
from channel_emulator.impairments.planned import MAX_STREAMS
from semlink.access.planner import TARGET_BLOCK_ERROR_RATE
from semlink.service.settings import Address, CallSettings, ListenSettings, Port


def _number(value: object) -> object:
    """Flags are text, which a literal number is not."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class Settings(ListenSettings, CallSettings):
    """Stands between devices and server, and damages the frames on their way as a radio channel would.

    Every setting is also read from the environment: --upstream from SEMLINK_UPSTREAM, and so on.
    """

    upstream: Address = Field(
        description="HOST:PORT of the server's gRPC port, or of another emulator's: where frames go on to"
    )
    grpc_port: Port = Field(
        50052, description="port that devices send to, as if it were the server's; 0: any free one, printed"
    )
    http_port: Port = Field(
        8001,
        description="port that changes the damage at run time (see /docs there), and answers /metrics and health; "
        "0: any free one, printed",
    )
    channel: Literal["none", "bsc", "awgn", "rayleigh", "mimo-ofdm", "finite-blocklength"] = Field(
        "bsc",
        description="the damage to start with; none: nothing; bsc: every bit flips on its own, at --ber; awgn, "
        "rayleigh: QAM over one channel with noise, or with fading too; mimo-ofdm, finite-blocklength: frames "
        "travel with a plan over many subchannels (of a device: --plan)",
    )
    ber: float = Field(0.01, ge=0, le=1, description="bit error rate μ of bsc, from 0 to 1")
    snr: float = Field(20.0, ge=-50, le=100, description="SNR in dB of all channels but none and bsc")
    streams: int = Field(
        4, ge=1, le=MAX_STREAMS, description="spatial streams N_s of mimo-ofdm and finite-blocklength"
    )
    coding: Literal["ideal", "uncoded"] = Field(
        "ideal", description="of mimo-ofdm; ideal: no errors, latency by Shannon's rate; uncoded: QAM, bit by bit"
    )
    order: Annotated[Literal[4, 16, 64, 256], BeforeValidator(_number)] = Field(
        64, description="points of the QAM of awgn, rayleigh, and uncoded mimo-ofdm"
    )
    target_bler: float = Field(
        TARGET_BLOCK_ERROR_RATE, gt=0, le=0.5, description="block error rate that finite-blocklength keeps to"
    )
    errors: Literal["block-loss", "ber-rule"] = Field(
        "block-loss",
        description="of finite-blocklength; block-loss: a block is lost as a whole, at --target-bler; ber-rule: "
        "bits flip, at the paper's rule of thumb (41)",
    )
    csi_error: float = Field(
        0.0,
        ge=0,
        le=100,
        description="variance of the errors with which both ends know the channel of mimo-ofdm and "
        "finite-blocklength",
    )
    redraw_every_coherence: bool = Field(
        False,
        description="draw their channel anew every 50 OFDM symbols, not only for every frame; plan and beams do "
        "not follow",
    )
    pace: bool = Field(
        False, description="take the time that a planned frame is on the air, and not only report it"
    )
    impair_header: bool = Field(
        False,
        description="expose the frame's header too; a damaged header makes the server refuse the frame. "
        "By default only the payload is exposed, as in the papers",
    )
    seed: int = Field(
        0, ge=0, description="what is flipped follows from this, the device's id and the frame's number alone"
    )
    upstream_timeout_seconds: float = Field(
        30,
        gt=0,
        description="longest that a call may wait for the upstream's answer, besides the wait for a vote, if its "
        "deadline is not sooner",
    )

    def impairment(self) -> Impairment:
        """The damage to start with."""
        match self.channel:
            case "none":
                return NoImpairment()
            case "bsc":
                return BinarySymmetricChannel(ber=self.ber)
            case "awgn":
                return Awgn(snr_db=self.snr, order=self.order)
            case "rayleigh":
                return Rayleigh(snr_db=self.snr, order=self.order)
        planned: dict[str, Any] = {
            "snr_db": self.snr,
            "streams": self.streams,
            "csi_error": self.csi_error,
            "redraw_every_coherence": self.redraw_every_coherence,
        }
        if self.channel == "mimo-ofdm":
            return MimoOfdm(coding=self.coding, order=self.order, **planned)
        return FiniteBlocklength(target_bler=self.target_bler, errors=self.errors, **planned)
