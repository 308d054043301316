"""Options made from settings: type, range, default and help of a flag are those of the process's setting."""

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import Parameter
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NoReturn, Protocol, get_args

import typer
from pydantic import ValidationError
from typer.core import TyperCommand

from semlink.parameters import Only, flag_of
from semlink.service.applicability import Applicable
from semlink.service.validation import mistake_text

WeightsFolder = Annotated[
    Path | None, typer.Option(help="Folder with NAME.safetensors, looked into first.", envvar="SEMLINK_WEIGHTS")
]
ImageFolder = Annotated[Path, typer.Argument(help="Folder with a manifest.csv, or with one folder a class.")]
MostImages = Annotated[
    int | None, typer.Option(min=1, help="Take at most so many images, evenly from all classes and objects.")
]


@dataclass(frozen=True)
class Settings:
    """Settings of a process that a command has as options.

    Attributes:
        model: declares them.
        names: of the fields, in the order of the help.
        panel: heading of them in the help.
        fixed: values of required fields that are no options.
    """

    model: type[Applicable]
    names: tuple[str, ...]
    panel: str
    fixed: dict[str, Any] = field(default_factory=dict)

    def options(self) -> Iterator[Parameter]:
        """The options, as parameters of a function that is a command."""
        for name in self.names:
            declared = self.model.model_fields[name]
            kind, metavar = declared.annotation, None
            if all(isinstance(choice, int) for choice in get_args(kind)) and get_args(kind):
                kind, metavar = int, f"<{'|'.join(map(str, get_args(kind)))}>"
            told = typer.Option(
                flag_of(name),
                help=sentence(declared.description or ""),
                min=bound(declared.metadata, "ge", "gt"),
                max=bound(declared.metadata, "le", "lt"),
                metavar=metavar,
                rich_help_panel=self.panel,
            )
            yield Parameter(
                name, Parameter.KEYWORD_ONLY, default=declared.default, annotation=Annotated[kind, told]
            )

    def checked(self, values: dict[str, Any]) -> Any:
        """The settings with these values of some `names`, given as flags; the others have their defaults.

        Ends the command if one is out of its range, or has no effect beside the others.
        """
        try:
            settings = self.model(**self.fixed, **values)
        except ValidationError as error:
            first = error.errors()[0]
            where = f"{flag_of(str(first['loc'][0]))}: " if first["loc"] else ""
            fail(where + mistake_text(first), status=2)
        refuse_without_effect(settings, values)
        return settings


class Options(Protocol):
    """Options that a command has in place of one of its keywords, such as `Settings`."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the options, in the order of the help."""

    def options(self) -> Iterator[Parameter]:
        """The options, as parameters of a function that is a command."""

    def checked(self, values: dict[str, Any]) -> Any:
        """What the command gets of the options' values; ends the command if they make no sense."""


def takes(**groups: Options) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command options where its signature has a keyword; it then gets what these are checked into.

    The `model_fields_set` of settings says which of them were given as flags.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            context = given.pop("context")
            flags = {name for name in given if context.get_parameter_source(name).name == "COMMANDLINE"}
            for keyword, group in groups.items():
                values = {name: given.pop(name) for name in group.names}
                given[keyword] = group.checked({name: values[name] for name in group.names if name in flags})
            command(**given)

        signature = inspect.signature(command)
        parameters = [Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)]
        for name, own in signature.parameters.items():
            parameters += groups[name].options() if name in groups else [own]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return run

    return decorate


class WithLists(TyperCommand):
    """A command whose options of several values take them in a row, `--images a b`, as the processes do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeats the flag before each value; what are no options stands before them."""
        lists = {flag for each in self.params if getattr(each, "multiple", False) for flag in each.opts}
        repeated: list[str] = []
        flag = ""
        for argument in args:
            if argument.startswith("-"):
                flag = argument.partition("=")[0]
            if flag not in lists or argument.startswith(f"{flag}="):
                repeated.append(argument)
            elif argument != flag:
                repeated += [flag, argument]
        return super().parse_args(ctx, repeated)


def fail(reason: object, status: int = 1) -> NoReturn:
    """Ends the command and says why."""
    typer.echo(f"semlink: {reason}", err=True)
    raise typer.Exit(status)


def refuse_without_effect(
    settings: Applicable, given: Collection[str], beside: Mapping[str, Only] = MappingProxyType({})
) -> None:
    """Ends the command where a flag has no effect beside the others; see `Applicable.without_effect`."""
    for problem in settings.without_effect(given, beside):
        fail(problem, status=2)


@contextmanager
def explained(*errors: type[Exception]) -> Iterator[None]:
    """Ends the command on one of these errors, with its message."""
    try:
        yield
    except errors as error:
        fail(error)


def sentence(text: str) -> str:
    """A description as the help of commands has it: `text[:1]` is no letter where it begins with a symbol."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def bound(metadata: Sequence[Any], *names: str) -> float | None:
    """An end of the range that annotations of a field declare."""
    found = (getattr(each, name, None) for each in metadata for name in names)
    return next((value for value in found if value is not None), None)
