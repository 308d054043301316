"""Impairment: a channel as the control plane's JSON has it, made from the channel's own declaration."""

from dataclasses import MISSING, asdict
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from semlink.channel.base import Channel, channel_type, channels
from semlink.channel.parameters import parameters

_at_start: dict[str, Any] = {}


def start_with(**values: Any) -> None:
    """Sets, before the first impairment is made, the parameters that only those who start the process may set.

    They hold for every channel that has them, whatever the control plane asks for, which it is refused where the
    two do not go together.
    """
    _at_start.clear()
    _at_start.update({name: value for name, value in values.items() if value is not None})


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
        """The channel of these parameters, and of those that the process was started with."""
        kind = channel_type(self.type)
        at_start = {each.name: _at_start[each.name] for each in parameters(kind) if each.name in _at_start}
        return kind(**self.model_dump(exclude={"type"}), **at_start)


def _model(channel: type[Channel]) -> type[ImpairmentModel]:
    declared: dict[str, Any] = {"type": (Literal[channel.name], channel.name)}
    for each in parameters(channel):
        if each.at_start:
            continue
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
    """The impairment that a channel is, without what only those who start the process may set."""
    at_start = {each.name for each in parameters(type(channel)) if each.at_start}
    return MODELS[channel.name](**{name: value for name, value in asdict(channel).items() if name not in at_start})
