"""Parameter of a channel or a source coder: one declaration of type, range, default, help and flag.

    snr_db: Annotated[float, Interval(ge=-50, le=100), Option("SNR in dB", flag="snr")] = 20.0

It is a field of a channel's dataclass, or a keyword of a coder's `encode`. Settings, flags and the control plane's
models are made from what `parameters` and `keywords` read of them. What it is in papers may stand beside:

    Notation("μ", equation="P(b̂ ≠ b) = μ", source="IAQ, equation (19)")
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields, replace
from functools import cache
from types import NoneType
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
    is_seed: bool = False
    """Of a coder: a seed, which who encodes mixes with what names the frame, so that each frame has its own."""


@dataclass(frozen=True)
class Notation:
    """What a parameter or setting is in mathematics: symbol, unit, equation and where that stands.

    Symbols and equations are plain text: `ρ`, `N_s`, `w_i = (1 - d) x^γ + d`. Names side by side are multiplied;
    `_` is an index, `^` an exponent, `a/b` a fraction, `√x` a root, and what is in double quotes is text.
    Parentheses around all of an index, an exponent, or what is above or below are not shown: `(E_s)/(N_0)`. The
    studio shows them, see `studio.equations`; what it can't read, as it is.
    """

    symbol: str = ""
    """As papers write it."""
    unit: str = ""
    """Of its values; empty for pure numbers."""
    equation: str = ""
    """What it does, an equation a line."""
    source: str = ""
    """Paper and number of the equation."""


@dataclass(frozen=True)
class Only:
    """Declares in which company a setting has an effect; several of one setting must all hold.

    rate_burst: Annotated[int, Only("rate_limit")] = 20
    gamma: Annotated[float, Only("method", ("incremental", "water-filling"))] = 1.0
    rho: Annotated[float, Only("total_bits", (None,))] = 0.25
    """

    other: str
    """Name of another setting of the same model."""
    values: tuple[Any, ...] = ()
    """Values of it beside which the setting has an effect; none: whatever is not None, False, 0 or empty."""
    otherwise: "Only | None" = None
    """Another company in which it has an effect, too."""

    def contradiction(self, settings: object) -> str:
        """Why a setting has no effect, to be written behind its flag; empty where it has one."""
        if self.otherwise and not self.otherwise.contradiction(settings):
            return ""
        value, other = getattr(settings, self.other), flag_of(self.other)
        if value in self.values if self.values else value:
            return ""
        if not self.values:
            others = f"{other} or {flag_of(self.otherwise.other)}" if self.otherwise else other
            return f"has no effect without {others}"
        if self.values == (None,):
            return f"has no effect beside {other}"
        return f"is for {other} {' or '.join(map(str, self.values))}, not {value}"


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
    is_seed: bool = False
    """It is mixed with what names the frame."""

    @property
    def choices(self) -> tuple[Any, ...]:
        """Values of a parameter that has only some; else none."""
        kind = get_args(self.annotation)[0]
        kinds = get_args(kind) if NoneType in get_args(kind) else (kind,)
        return next((get_args(each) for each in kinds if get_origin(each) is Literal), ())

    def takes(self, value: Any) -> bool:
        """Whether the value is within the range."""
        try:
            self.check(value)
        except ValueError:
            return False
        return True

    def check(self, value: Any) -> None:
        """ValueError unless the value is within the range."""
        kind, *about = get_args(self.annotation)
        if value is None and self.default is None:
            return
        if NoneType in get_args(kind):
            (kind,) = (each for each in get_args(kind) if each is not NoneType)
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


def joined(one: Parameter, other: Parameter) -> Parameter:
    """The flag of two parameters of the same name: of choices that differ, with those of both, and no default.

    Where the flag is not given, its value is None, and each has its own default.

    Raises:
        ValueError: they differ in more than their choices.

    >>> first, second = (
    ...     Parameter("access", "access", Annotated[Literal[choices], None], choices[0], choices[0], help)
    ...     for choices, help in ((("none", "ldpc"), "code"), (("qam", "ldpc"), "symbols"))
    ... )
    >>> joined(first, second).choices, joined(first, second).help
    (('none', 'ldpc', 'qam'), 'code; symbols')
    """
    if one == other:
        return one
    if not (one.choices and other.choices) or (one.name, one.flag) != (other.name, other.flag):
        raise ValueError(f"--{one.flag} is declared in different ways")
    choices = tuple(dict.fromkeys(one.choices + other.choices))
    told = one.help if other.help in one.help else f"{one.help}; {other.help}"
    kind: Any = Annotated[Literal[choices] | None, Option(told)]
    return replace(one, annotation=kind, default=None, initial=None, help=told)


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
    return tuple(
        _declared(declaring.__name__, each.name, hints[each.name], each.default) for each in fields(declaring)
    )


@cache
def keywords(function: Callable[..., Any]) -> tuple[Parameter, ...]:
    """The parameters that a function declares: its keyword-only arguments.

    Raises:
        TypeError: one of them has no `Option`, or no default.

    >>> def encode(image, *, step: Annotated[int, annotated_types.Interval(ge=1), Option("grey levels")] = 4): ...
    >>> [(each.name, each.default, each.help) for each in keywords(encode)]
    [('step', 4, 'grey levels')]
    """
    declared = []
    for name, each in inspect.signature(function, eval_str=True).parameters.items():
        if each.kind is inspect.Parameter.KEYWORD_ONLY:
            if each.default is inspect.Parameter.empty:
                raise TypeError(f"{function.__name__}: {name} must have a default")
            declared.append(_declared(function.__name__, name, each.annotation, each.default))
    return tuple(declared)


def _declared(where: str, name: str, annotation: Any, default: Any) -> Parameter:
    about = get_args(annotation) if get_origin(annotation) is Annotated else ()
    option = next((part for part in about if isinstance(part, Option)), None)
    if option is None:
        raise TypeError(f"{where}.{name} must be Annotated with an Option")
    return Parameter(
        name,
        option.flag or name,
        annotation,
        default,
        option.initial if default is MISSING else default,
        option.help,
        option.at_start,
        option.is_seed,
    )


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


def flag_of(name: str) -> str:
    """The flag of a setting.

    >>> flag_of("design_ber")
    '--design-ber'
    """
    return f"--{name.replace('_', '-')}"
