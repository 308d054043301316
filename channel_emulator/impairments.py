"""Impairment: a channel as the control plane's JSON has it, made from the channel's own declaration."""

from dataclasses import MISSING, asdict
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from semlink.channel.base import Channel, channel_type, channels
from semlink.channel.parameters import parameters


class ImpairmentModel(BaseModel):
    """Parameters of a channel, and its `type`, which tells it from the others."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    type: str

    @model_validator(mode="after")
    def _is_a_channel(self) -> Self:
        """Refuses parameters that are each within range, but don't fit each other."""
        _ = self.channel
        return self

    @cached_property
    def channel(self) -> Channel:
        """The channel of these parameters."""
        return channel_type(self.type)(**self.model_dump(exclude={"type"}))


def _model(channel: type[Channel]) -> type[ImpairmentModel]:
    declared: dict[str, Any] = {"type": (Literal[channel.name], channel.name)}
    for each in parameters(channel):
        required = each.default is MISSING
        declared[each.name] = (
            each.annotation,
            Field(
                ... if required else each.default,
                description=each.help,
                examples=[each.initial] if required else None,
            ),
        )
    return create_model(channel.__name__, __base__=ImpairmentModel, __doc__=channel.__doc__, **declared)


MODELS = {name: _model(channel) for name, channel in channels().items()}
"""By `type`."""

if TYPE_CHECKING:
    Impairment = ImpairmentModel
else:
    Impairment = Annotated[Union[tuple(MODELS.values())], Field(discriminator="type")]  # noqa: UP007


def impairment_of(channel: Channel) -> Impairment:
    """The impairment that a channel is."""
    return MODELS[channel.name](**asdict(channel))
