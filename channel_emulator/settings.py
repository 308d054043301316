"""What the channel emulator can be told."""

from typing import Literal

from pydantic import Field

from channel_emulator.impairments import BinarySymmetricChannel, Impairment, NoImpairment
from semlink.runtime.settings import Address, ListenSettings, Port


class Settings(ListenSettings):
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
    channel: Literal["none", "bsc"] = Field(
        "bsc", description="the damage to start with; none: nothing; bsc: every bit flips on its own, at --ber"
    )
    ber: float = Field(0.01, ge=0, le=1, description="bit error rate μ of bsc, from 0 to 1")
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
        description="longest that a frame may wait for its answer, if the device's deadline is not sooner",
    )

    def impairment(self) -> Impairment:
        """The damage to start with."""
        return BinarySymmetricChannel(ber=self.ber) if self.channel == "bsc" else NoImpairment()
