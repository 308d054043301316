"""Fields of settings that are made from declared parameters: of channels, and of source coders."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, create_model

from semlink.parameters import Only, Parameter, joined

S = TypeVar("S", bound=BaseModel)


def declared_fields(other: str, declared: Mapping[str, Iterable[Parameter]]) -> dict[str, Any]:
    """Fields by the flags of all parameters, as `create_model` takes them; each is for its users only.

    Args:
        other: name of the setting that says who is used, such as "channel".
        declared: parameters of each that may be used, by its name as that setting has it.

    Raises:
        ValueError: two of them declare one flag in different ways.
    """
    known: dict[str, Parameter] = {}
    users: dict[str, list[str]] = {}
    for name, parameters in declared.items():
        for each in parameters:
            try:
                known[each.flag] = joined(known.get(each.flag, each), each)
            except ValueError:
                other_user = users[each.flag][0]
                raise ValueError(f"{name} and {other_user} declare --{each.flag} in different ways") from None
            users.setdefault(each.flag, []).append(name)
    fields: dict[str, Any] = {}
    for flag, each in known.items():
        initial = ... if each.initial is None and each.default is MISSING else each.initial
        of_text: Any = Annotated[_of_text(each), Only(other, tuple(users[flag]))]
        fields[flag] = (of_text, Field(initial, description=f"{each.help} ({', '.join(users[flag])})"))
    return fields


def with_fields(make: Callable[[], dict[str, Any]]) -> Callable[[type[S]], type[S]]:
    """Adds fields to a class of settings, also in place of its own of the same names; a decorator."""

    def add(settings: type[S]) -> type[S]:
        return create_model(
            settings.__name__,
            __base__=settings,
            __doc__=settings.__doc__,
            __module__=settings.__module__,
            **make(),
        )

    return add


def _of_text(parameter: Parameter) -> Any:
    """Type of a parameter that may come as text, which a literal number is not."""
    numbers = {str(choice): choice for choice in parameter.choices}
    if not numbers:
        return parameter.annotation
    return Annotated[parameter.annotation, BeforeValidator(lambda value: numbers.get(value, value))]
