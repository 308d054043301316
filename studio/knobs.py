"""Knobs as JSON: every setting of the link and every parameter of every channel, from their own declarations.

A page that builds its controls from this has the knobs of a third party's coder or channel without a change.
"""

from collections.abc import Iterable
from dataclasses import MISSING
from enum import Enum
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from cli.from_settings import bound, sentence
from semlink.channel.base import Channel, channels
from semlink.parameters import Only, Parameter, parameters
from studio.link_settings import FILES, OWN, LinkSettings
from studio.symbols import SYMBOLS, Told

Kind = Literal["choice", "flag", "whole", "number"]
_CHANNEL_ONLY = ("plan",)
"""Settings of the encoder that matter to channels with plans."""


def knobs() -> dict[str, Any]:
    """What GET /v1/knobs answers: knobs of the link in groups, and those of each channel."""
    declared = [_of_setting(name) for name in LinkSettings.model_fields if name not in FILES]
    groups = [
        ("Rounds", [each for each in declared if each["name"] in OWN]),
        ("Policy", [each for each in declared if each["name"] in ("policy", "protect_for")]),
        ("Source", [each for each in declared if each["name"] not in (*OWN, "policy", "protect_for")]),
    ]
    return {
        "groups": [{"name": name, "knobs": found} for name, found in groups],
        "channels": [_of_channel(kind) for kind in channels().values()],
    }


def _of_setting(name: str) -> dict[str, Any]:
    declared = LinkSettings.model_fields[name]
    only = [each for each in declared.metadata if isinstance(each, Only)]
    return _knob(
        name, name, declared.annotation, declared.metadata, declared.default, declared.description or "", only
    )


def _of_channel(kind: type[Channel]) -> dict[str, Any]:
    told = [each for each in parameters(kind) if not each.at_start]
    return {
        "type": kind.name,
        "help": (kind.__doc__ or "").partition("\n")[0],
        "takes_plan": kind.takes_plan,
        "knobs": [_of_parameter(each) for each in told],
    }


def _of_parameter(parameter: Parameter) -> dict[str, Any]:
    kind, *about = get_args(parameter.annotation)
    default = parameter.initial if parameter.default is MISSING else parameter.default
    only = [each for each in about if isinstance(each, Only)]
    return _knob(parameter.name, parameter.flag, kind, about, default, parameter.help, only)


def _knob(
    name: str, flag: str, annotation: Any, about: Iterable[Any], default: Any, text: str, only: Iterable[Only]
) -> dict[str, Any]:
    told, about = SYMBOLS.get(flag, Told()), list(about)
    kind, choices, may_be_none = _kind(annotation)
    low, high = bound(about, "ge", "gt"), bound(about, "le", "lt")
    return {
        "name": name,
        "testid": flag if flag == "source" else f"knob-{flag.replace('_', '-')}",
        "label": flag.replace("_", " "),
        "kind": kind,
        "choices": choices,
        "may_be_none": may_be_none,
        "low": low,
        "high": high,
        "default": default.value if isinstance(default, Enum) else default,
        "help": sentence(text),
        "symbol": told.symbol,
        "unit": told.unit,
        "equation": told.equation,
        "from": told.source,
        "only": [_condition(each) for each in only],
        "plans_only": name in _CHANNEL_ONLY,
    }


def _condition(only: Only) -> dict[str, Any]:
    return {
        "other": only.other,
        "values": list(only.values),
        "otherwise": _condition(only.otherwise) if only.otherwise else None,
    }


def _kind(annotation: Any) -> tuple[Kind, list[Any], bool]:
    """Kind of a control, the choices if it has some, and whether it may have no value."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    kinds = [each for each in get_args(annotation) if each is not NoneType]
    may_be_none = NoneType in get_args(annotation)
    if get_origin(annotation) is Literal:
        return "choice", kinds, False
    kind = kinds[0] if may_be_none else annotation
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return "choice", list(get_args(kind)), may_be_none
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "choice", [each.value for each in kind], may_be_none
    if kind is bool:
        return "flag", [], may_be_none
    return ("whole" if kind is int else "number"), [], may_be_none
