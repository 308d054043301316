"""Knobs as JSON: every setting of the link and every parameter of every channel, from their own declarations.

A page that builds its controls from this has the knobs of a third party's coder or channel without a change, with
the symbol, the unit and the equation that they declare.
"""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING
from enum import Enum
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from channel_emulator.impairments import MODELS
from cli.from_settings import bound, sentence
from device.policy import OF_ALL
from semlink.channel.base import Channel, channels
from semlink.parameters import Notation, Only, Parameter, parameters
from studio.equations import elements
from studio.link_settings import FILES, OWN, LinkSettings

Kind = Literal["choice", "flag", "whole", "number"]
OVER = {
    "plan": "plans",
    "protect_for": "codes",
    **dict.fromkeys(("method", "total_bits", "gamma", "design_ber", "threshold"), "no plans"),
}
"""Settings that have an effect over some channels only: that take plans, that take none, or that code frames."""


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


def facts(impairments: Mapping[str, Any]) -> dict[str, Any]:
    """What knobs are to know of the channels as they are set, in the form of `impairments`.

    Args:
        impairments: who meets what, as the control plane has it.

    Returns:
        Of each, idle: names of its parameters that have no effect beside the others. over: which settings of the
        link have an effect over it, see `OVER`.
    """
    devices = {name: _facts(each) for name, each in impairments["devices"].items()}
    return {"default": _facts(impairments["default"]), "devices": devices}


def _facts(impairment: Mapping[str, Any]) -> dict[str, Any]:
    try:
        channel = MODELS[impairment["type"]](**impairment).channel
    except (KeyError, ValueError):  # of an emulator that has other channels
        return {"idle": [], "over": ["no plans"]}
    over = ["plans" if channel.takes_plan else "no plans", *(["codes"] if channel.codes_frames else [])]
    return {"idle": sorted(channel.idle), "over": over}


def _of_setting(name: str) -> dict[str, Any]:
    declared = LinkSettings.model_fields[name]
    about = [*declared.metadata, *([OF_ALL[name]] if name in OF_ALL else [])]
    return _knob(name, name, declared.annotation, about, declared.default, declared.description or "")


def _of_channel(kind: type[Channel]) -> dict[str, Any]:
    told = [each for each in parameters(kind) if not each.at_start]
    return {
        "type": kind.name,
        "help": (kind.__doc__ or "").partition("\n")[0],
        "knobs": [_of_parameter(each) for each in told],
    }


def _of_parameter(parameter: Parameter) -> dict[str, Any]:
    kind, *about = get_args(parameter.annotation)
    default = parameter.initial if parameter.default is MISSING else parameter.default
    return _knob(parameter.name, parameter.flag, kind, about, default, parameter.help) | {"over": ""}


def _knob(name: str, flag: str, annotation: Any, about: Iterable[Any], default: Any, text: str) -> dict[str, Any]:
    about = list(about)
    notation = next((each for each in about if isinstance(each, Notation)), Notation())
    kind, choices, may_be_none = _kind(annotation)
    high, below = bound(about, "le"), bound(about, "lt")
    if kind == "whole" and below is not None:
        high, below = below - 1, None
    return {
        "name": name,
        "testid": flag if flag == "source" else f"knob-{flag.replace('_', '-')}",
        "label": flag.replace("_", " "),
        "kind": kind,
        "choices": choices,
        "may_be_none": may_be_none,
        "low": bound(about, "ge", "gt"),
        "high": high if below is None else below,
        "excludes_low": bound(about, "gt") is not None,
        "excludes_high": below is not None,
        "default": default.value if isinstance(default, Enum) else default,
        "help": sentence(text),
        "symbol": elements(notation.symbol),
        "unit": notation.unit,
        "equation": elements(notation.equation),
        "from": notation.source,
        "only": [_condition(each) for each in about if isinstance(each, Only)],
        "over": OVER.get(name, ""),
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
