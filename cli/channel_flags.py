"""Channel flags of a command: every parameter that any channel declares, with one value or with several."""

import itertools
import math
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, replace
from inspect import Parameter
from typing import Annotated, Any, get_args

import typer

from cli.from_settings import bound, fail, sentence
from semlink import parameters as declared
from semlink.channel.base import Channel, channel_type, channels
from semlink.parameters import flag_of, joined, parameters

START = "bsc"
"""Channel where none is named."""
MOST_CHANNELS = 2000
"""Most combinations of channel parameters of one command."""


@dataclass(frozen=True)
class ChannelFlags:
    """The options `--channel` and those of its parameters; a flag that no chosen channel has is refused.

    Attributes:
        several: each option takes a list of values; the command gets every combination, as a list of channels.
            Otherwise it gets the one channel.
        initial: values of parameters that are not given, by flag, where they are not those that are declared.
    """

    several: bool = False
    initial: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the options, as parameters of the command."""
        return ("channel", *_declared())

    def options(self) -> Iterator[Parameter]:
        """The options, as parameters of a function that is a command."""
        known = ", ".join(name.replace("_", "-") for name in channels())
        many = "s, each with every value of its own flags" if self.several else ""
        told = typer.Option(help=f"The channel{many}: {known}.", show_default=START, rich_help_panel="Channel")
        yield self._parameter("channel", str, told)
        for flag, (parameter, users) in _declared().items():
            kind, shown = kind_of(parameter)
            if kind is bool and self.several:
                kind, shown = str, "<true|false>"
            told = typer.Option(
                flag_of(flag),
                help=f"{sentence(parameter.help)} For {', '.join(users)}.",
                show_default=self._default(flag, parameter),
                min=bound(get_args(parameter.annotation), "ge", "gt") if kind in (int, float) else None,
                max=bound(get_args(parameter.annotation), "le", "lt") if kind in (int, float) else None,
                metavar=shown,
                rich_help_panel="Channel",
            )
            yield self._parameter(flag, kind, told)

    def checked(self, values: Mapping[str, Any]) -> Any:
        """The channel, or the list of channels, of these values; ends the command if there is none."""
        given = {name: value for name, value in values.items() if value not in (None, [], ())}
        names = given.pop("channel", START)
        lists = given if self.several else {flag: [value] for flag, value in given.items()}
        try:
            made = combinations([names] if isinstance(names, str) else names, lists, self.initial)
        except ValueError as error:
            fail(error, status=2)
        return made if self.several else made[0]

    def _parameter(self, name: str, kind: Any, told: Any) -> Parameter:
        wanted: Any = types.GenericAlias(list, kind) if self.several else kind
        return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[wanted | None, told])

    def _default(self, flag: str, parameter: declared.Parameter) -> str | bool:
        value = self.initial.get(flag, parameter.initial)
        return False if value is None else str(value).lower()


def combinations(
    names: Iterable[str], values: Mapping[str, Sequence[Any]], initial: Mapping[str, Any]
) -> list[Channel]:
    """Channels with every combination of the values of their parameters, each once.

    Args:
        names: of channels.
        values: of parameters, by flag; each goes to all channels that declare it, where it has an effect.
        initial: values of parameters that must be given and are not, by flag; else those that are declared.

    Raises:
        ValueError: there is no such channel, a flag has no effect on any of them, a value is out of its range, or
            there are more than `MOST_CHANNELS`.
    """
    kinds = [channel_type(name) for name in dict.fromkeys(names)]
    found: dict[Channel, None] = {}
    useless = dict.fromkeys(values, "")
    """Flags without effect on any channel so far, and why."""
    for kind in kinds:
        declared_here = {each.name: each for each in parameters(kind)}
        own: dict[str, Sequence[Any]] = {}
        for parameter in declared_here.values():
            if parameter.flag in values:
                own[parameter.name] = [read_value(parameter, value) for value in values[parameter.flag]]
            elif parameter.flag in initial or parameter.default is MISSING:
                own[parameter.name] = [initial.get(parameter.flag, parameter.initial)]
        if (count := math.prod(map(len, own.values()))) > MOST_CHANNELS:
            raise ValueError(f"{count:,} combinations of parameters of {kind.name}; at most {MOST_CHANNELS:,}")
        for chosen in itertools.product(*own.values()):
            channel = kind(**dict(zip(own, chosen, strict=True)))
            idle = {name: why for name, why in channel.idle.items() if name in own}
            for name, parameter in declared_here.items():
                if name in idle and parameter.flag in useless:
                    useless[parameter.flag] = idle[name]
                elif name in own:
                    useless.pop(parameter.flag, None)
            # What has no effect is left at its default: combinations that differ in it alone are one channel.
            found[replace(channel, **{name: declared_here[name].default for name in idle})] = None
    for flag, why in useless.items():
        users = _declared()[flag][1]
        chosen_names = ", ".join(kind.name.replace("_", "-") for kind in kinds)
        raise ValueError(
            f"{flag_of(flag)} has no effect {why}"
            if why
            else f"{flag_of(flag)} is for --channel {' or '.join(users)}, not for {chosen_names}"
        )
    return list(found)


def _declared() -> dict[str, tuple[declared.Parameter, list[str]]]:
    """Every flag: its parameter, and the names of the channels that declare it."""
    found: dict[str, tuple[declared.Parameter, list[str]]] = {}
    for name, kind in channels().items():
        for parameter in parameters(kind):
            flag = parameter.flag
            known, users = found.get(flag, (parameter, []))
            found[flag] = joined(known, parameter), [*users, name.replace("_", "-")]
    return found


def kind_of(parameter: declared.Parameter) -> tuple[Any, str | None]:
    """Type of an option, and how its values are shown where they are only some."""
    if parameter.choices:
        return type(parameter.choices[0]), f"<{'|'.join(map(str, parameter.choices))}>"
    kind = get_args(parameter.annotation)[0]
    some = [each for each in get_args(kind) if each is not type(None)]
    return (some[0] if some else kind), None


def read_value(parameter: declared.Parameter, value: Any) -> Any:
    """A value as the channel takes it; true and false come as text in a list."""
    if get_args(parameter.annotation)[0] is bool and isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise ValueError(f"{flag_of(parameter.flag)} must be true or false, not {value!r}")
        return value.lower() == "true"
    return value
