"""Settings of the channel emulator; those of channels are made from the channels' own declarations."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from semlink.channel.base import Channel, channel_type, channels
from semlink.channel.presets import PRESETS
from semlink.parameters import Only, flag_of, parameters
from semlink.service.declared import declared_fields, with_fields
from semlink.service.settings import Address, CallSettings, ListenSettings, Port

START = "bsc"
"""Channel where none is named."""


def channel_fields(first: str = START) -> dict[str, Any]:
    """Fields of settings, by their names: `channel`, and every parameter of every channel.

    Args:
        first: the channel where none is named.

    Raises:
        ValueError: two channels declare one flag in different ways.
    """
    known = {name.replace("_", "-"): channel for name, channel in channels().items()}
    summaries = "; ".join(f"{name}: {_summary(channel)}" for name, channel in known.items())
    named = (Literal[tuple(known)], Field(first, description=f"the damage to start with; {summaries}"))
    return {"channel": named} | declared_fields(
        "channel", {name: parameters(channel) for name, channel in known.items()}
    )


def _summary(channel: type[Channel]) -> str:
    return (channel.__doc__ or "").partition("\n")[0].rstrip(".")


@with_fields(channel_fields)
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
    channel: str = START
    channel_file: str | None = None
    preset: Literal[tuple(PRESETS)] | None = Field(  # type: ignore[valid-type]  # as many as there are
        None,
        description="the damage to start with, by a name in place of --channel and its parameters; what each name "
        "stands for, GET /v1/presets says",
    )
    scenario: Path | None = Field(
        None,
        description="JSON or CSV file with a timeline of settings, played from the start; see docs/scenarios.md",
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

    @model_validator(mode="after")
    def _has_a_channel(self) -> Self:
        """Refuses parameters that are each within range, but don't fit each other."""
        self.impairment()
        return self

    def without_effect(
        self, given: Collection[str], beside: Mapping[str, Only] = MappingProxyType({})
    ) -> Iterator[str]:
        """See `Applicable`; also parameters that have no effect beside a preset, or the channel's others."""
        channel = self.impairment()
        if self.preset:
            replaced = channel_fields().keys() - {each.flag for each in parameters(type(channel)) if each.at_start}
            yield from (f"{flag_of(name)} has no effect beside --preset" for name in given if name in replaced)
            given = [name for name in given if name not in channel_fields()]
        yield from super().without_effect(given, beside)
        for each in parameters(type(channel)):
            if each.flag in given and (why := channel.idle.get(each.name)):
                yield f"{flag_of(each.flag)} has no effect {why}"

    def impairment(self) -> Channel:
        """The damage to start with."""
        if self.preset:
            channel = PRESETS[self.preset].channel
            at_start = [each for each in parameters(type(channel)) if each.at_start]
            return replace(channel, **{each.name: getattr(self, each.flag) for each in at_start})
        kind = channel_type(self.channel)
        given = {each.name: getattr(self, each.flag) for each in parameters(kind)}
        return kind(**{name: value for name, value in given.items() if value is not None})
