"""Parameter of a channel: one declaration of type, range, default, help and flag, as a field of its dataclass.

    snr_db: Annotated[float, Interval(ge=-50, le=100), Option("SNR in dB", flag="snr")] = 20.0

Settings, flags and the control plane's models are made from what `parameters` reads of such fields.
"""

import math
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Protocol, get_args, get_origin, get_type_hints

import annotated_types


@dataclass(frozen=True)
class Option:
    """What the declaration of a parameter says beside its type, range and default."""

    help: str
    """What it means."""
    flag: str = ""
    """Name of its flag and setting, where it is not the field's."""
    initial: Any = None
    """Default of the flag, where the field has none."""
    at_start: bool = False
    """Only those who start a process may set it: it is a flag, and not on the control plane."""


@dataclass(frozen=True)
class Parameter:
    """A parameter as it is declared."""

    name: str
    """Of the field."""
    flag: str
    """Of the setting; flags write it with hyphens."""
    annotation: Any
    """`Annotated` type with its range, as pydantic takes it too."""
    default: Any
    """`dataclasses.MISSING` where it must be given."""
    initial: Any
    """Default of the flag."""
    help: str
    """What it means."""
    at_start: bool = False
    """Only those who start a process may set it."""

    @property
    def choices(self) -> tuple[Any, ...]:
        """Values of a parameter that has only some; else none."""
        kind = get_args(self.annotation)[0]
        return get_args(kind) if get_origin(kind) is Literal else ()

    def check(self, value: Any) -> None:
        """ValueError unless the value is within the range."""
        kind, *about = get_args(self.annotation)
        if value is None and self.default is None:
            return
        if self.choices:
            if value not in self.choices:
                raise ValueError(f"{self.name} must be one of {', '.join(map(str, self.choices))}, not {value!r}")
        elif not isinstance(value, (int, float) if kind is float else kind):
            raise ValueError(f"{self.name} must be of type {getattr(kind, '__name__', kind)}, not {value!r}")
        elif kind is float and not math.isfinite(value):
            raise ValueError(f"{self.name} must be finite, not {value}")
        for limits in about:
            if isinstance(limits, annotated_types.Interval):
                _check_interval(self.name, value, limits)


class _Declares(Protocol):
    """A dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


@cache
def parameters(declaring: type[_Declares]) -> tuple[Parameter, ...]:
    """The parameters that a dataclass declares, inherited ones first.

    Raises:
        TypeError: a field has no `Option`.
    """
    hints = get_type_hints(declaring, include_extras=True)
    declared = []
    for each in fields(declaring):
        annotation = hints[each.name]
        about = get_args(annotation) if get_origin(annotation) is Annotated else ()
        option = next((part for part in about if isinstance(part, Option)), None)
        if option is None:
            raise TypeError(f"{declaring.__name__}.{each.name} must be Annotated with an Option")
        initial = option.initial if each.default is MISSING else each.default
        declared.append(
            Parameter(
                each.name,
                option.flag or each.name,
                annotation,
                each.default,
                initial,
                option.help,
                option.at_start,
            )
        )
    return tuple(declared)


def check_parameters(declared: _Declares) -> None:
    """ValueError unless every parameter is within its range."""
    for parameter in parameters(type(declared)):
        parameter.check(getattr(declared, parameter.name))


def _check_interval(name: str, value: Any, limits: annotated_types.Interval) -> None:
    for wanted, holds in (
        (f"at least {limits.ge}", limits.ge is None or value >= limits.ge),
        (f"above {limits.gt}", limits.gt is None or value > limits.gt),
        (f"at most {limits.le}", limits.le is None or value <= limits.le),
        (f"below {limits.lt}", limits.lt is None or value < limits.lt),
    ):
        if not holds:
            raise ValueError(f"{name} must be {wanted}, not {value}")
