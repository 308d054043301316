"""Source coder flags of `semlink evaluate`: coders by name, and every setting that they declare, in lists.

IAQ's own settings are the command's options: its frames are cells by method, ρ and γ.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from cli.channel_flags import kind_of, read_value
from cli.from_settings import bound, fail, sentence
from semlink import parameters as declared
from semlink.parameters import flag_of
from semlink.source.registry import source_coders

if TYPE_CHECKING:
    from experiments.evaluation.source_cells import Coding

IAQ = "iaq"
"""Source coder where none is named."""
MOST_CODINGS = 2000
"""Most combinations of settings of source coders of one command."""


@dataclass(frozen=True)
class ChosenSources:
    """The source coders that a command was given.

    Attributes:
        iaq: IAQ is one of them.
        others: each of the others by name, once with every combination of its settings.
    """

    iaq: bool
    others: "list[tuple[str, Coding]]"


@dataclass(frozen=True)
class SourceFlags:
    """The options `--source` and those of the coders' settings; a flag that no chosen coder has is refused."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the options, as parameters of the command."""
        return ("source", *_declared())

    def options(self) -> Iterator[Parameter]:
        """The options, as parameters of a function that is a command."""
        known = ", ".join(coder.flag for coder in source_coders())
        told = typer.Option(
            help=f"For channels without plans: source coders, each with every value of its own flags: {known}. "
            f"--method, --gamma and --rho are those of {IAQ}.",
            show_default=IAQ,
            rich_help_panel="Source coder",
        )
        yield _parameter("source", str, told)
        for flag, (parameter, users) in _declared().items():
            kind, shown = kind_of(parameter)
            numeric = kind in (int, float)
            told = typer.Option(
                flag_of(flag),
                help=f"{sentence(parameter.help)} For {', '.join(users)}.",
                show_default=str(parameter.initial).lower(),
                min=bound(get_args(parameter.annotation), "ge", "gt") if numeric else None,
                max=bound(get_args(parameter.annotation), "le", "lt") if numeric else None,
                metavar="<true|false>" if kind is bool else shown,
                rich_help_panel="Source coder",
            )
            yield _parameter(flag, str if kind is bool else kind, told)

    def checked(self, values: Mapping[str, Any]) -> ChosenSources:
        """The coders, once for every combination of their settings' values; ends the command if there are none."""
        given = {name: value for name, value in values.items() if value}
        names = given.pop("source", [IAQ])
        coders = {coder.flag: coder for coder in source_coders()}
        for name in names:
            if name not in coders:
                fail(f"--source must be one of {', '.join(coders)}, not {name!r}", status=2)
        for flag, (_, users) in _declared().items():
            if flag in given and not set(users) & set(names):
                fail(f"{flag_of(flag)} is for --source {' or '.join(users)}, not for {', '.join(names)}", status=2)
        others = []
        for name in dict.fromkeys(names):
            if name != IAQ:
                try:
                    others += _codings(coders[name].settings, given, coders[name].name)
                except ValueError as error:
                    fail(error, status=2)
        return ChosenSources(IAQ in names, others)


def _codings(
    settings: Sequence[declared.Parameter], given: Mapping[str, Sequence[Any]], name: str
) -> "list[tuple[str, Coding]]":
    """A coder with every combination of the values that are given for its settings.

    Raises:
        ValueError: a value is out of its range, or there are more than `MOST_CODINGS`.
    """
    own = {
        each.name: [read_value(each, value) for value in given[each.flag]]
        for each in settings
        if each.flag in given
    }
    for each in settings:
        for value in own.get(each.name, ()):
            each.check(value)
    if (count := math.prod(map(len, own.values()))) > MOST_CODINGS:
        raise ValueError(f"{count:,} combinations of settings of {name}; at most {MOST_CODINGS:,}")
    return [(name, tuple(zip(own, chosen, strict=True))) for chosen in itertools.product(*own.values())]


def _declared() -> dict[str, tuple[declared.Parameter, list[str]]]:
    """Every flag of coders other than IAQ: its parameter, and the coders that declare it."""
    found: dict[str, tuple[declared.Parameter, list[str]]] = {}
    for coder in source_coders():
        for each in coder.settings if coder.name != IAQ else ():
            found.setdefault(each.flag, (each, []))[1].append(coder.flag)
    return found


def _parameter(name: str, kind: Any, told: Any) -> Parameter:
    wanted: Any = list[kind] | None
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[wanted, told])
