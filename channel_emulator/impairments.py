"""Impairment: a channel as the control plane's JSON has it, made from the channel's own declaration.

A request may name a preset instead of a type, or as a patch only the parameters that change.
"""

from collections.abc import Mapping
from dataclasses import MISSING, asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    create_model,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from semlink.channel.base import Channel, channel_type, channels
from semlink.channel.presets import PRESETS
from semlink.channel.recording_files import hold_recording
from semlink.parameters import parameters

_at_start: dict[str, Any] = {}


def start_with(**values: Any) -> None:
    """Sets, before the first impairment is made, the parameters that only those who start the process may set.

    They hold for every channel that has them, whatever the control plane asks for, which it is refused where the
    two do not go together.
    """
    if values.get("channel_file") is not None:
        hold_recording(Path(values["channel_file"]))
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
PresetName = Literal[tuple(PRESETS)]  # type: ignore[valid-type]  # as many as there are
_PRESET_SCHEMA = {
    "type": "object",
    "title": "Preset",
    "description": "A preset, and what is to be different from it.",
    "properties": {"preset": {"type": "string", "enum": list(PRESETS)}},
    "required": ["preset"],
}


class _OrPreset:
    """Annotation: {"preset": NAME} stands for the preset's parameters; others beside it take precedence."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_spelt_out, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        described = handler(schema)
        return described if handler.mode == "serialization" else {"anyOf": [described, _PRESET_SCHEMA]}


if TYPE_CHECKING:
    Impairment = ImpairmentModel
else:
    Impairment = Annotated[Union[tuple(MODELS.values())], Discriminator("type"), _OrPreset()]  # noqa: UP007


def impairment_of(channel: Channel) -> Impairment:
    """The impairment that a channel is, without what only those who start the process may set."""
    at_start = {each.name for each in parameters(type(channel)) if each.at_start}
    return MODELS[channel.name](**{name: value for name, value in asdict(channel).items() if name not in at_start})


PRESET_IMPAIRMENTS = {name: impairment_of(preset.channel) for name, preset in PRESETS.items()}
"""By name, without what those who start the process may set."""


def _spelt_out(given: Any) -> Any:
    if not isinstance(given, Mapping) or "preset" not in given:
        return given
    preset, others = given["preset"], {name: value for name, value in given.items() if name != "preset"}
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}")
    return _changed(PRESET_IMPAIRMENTS[preset], others)


def _changed(current: ImpairmentModel, changes: Mapping[str, Any]) -> dict[str, Any]:
    """What `changes` name, and all else as it is; of another type, what both types have in common."""
    kept = current.model_dump()
    if (kind := changes.get("type", current.type)) != current.type:
        declared = parameters(channel_type(kind)) if isinstance(kind, str) and kind in MODELS else ()
        known = {each.name: each for each in declared}
        kept = {name: value for name, value in kept.items() if name in known and known[name].takes(value)}
    return {**kept, **changes}


def optional(description: str) -> Any:
    """A field that may be left out, but not be null: whether it was sent, `model_fields_set` tells."""

    def without_default(schema: dict[str, Any]) -> None:
        del schema["default"]

    return Field(None, description=description, json_schema_extra=without_default)


def _patch_fields() -> dict[str, Any]:
    """Every parameter of every channel, none of them required."""
    kinds: dict[str, list[Any]] = {"type": [Literal[tuple(MODELS)]], "preset": [PresetName]}
    helps = {"type": "another channel: it keeps the parameters that both have", "preset": "start from a preset"}
    for channel in channels().values():
        for each in (each for each in parameters(channel) if not each.at_start):
            helps.setdefault(each.name, each.help)
            if each.annotation not in kinds.setdefault(each.name, []):
                kinds[each.name].append(each.annotation)

    return {name: (Union[tuple(kinds[name])], optional(helps[name])) for name in kinds}  # noqa: UP007


class _Patch(BaseModel):
    """What changes of an impairment; what is not named stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def applied_to(self, current: ImpairmentModel) -> Impairment:
        """The impairment with these changes.

        Raises:
            ValidationError: there is no such impairment, as of a parameter that its type has not.
        """
        changes = self.model_dump(exclude_unset=True)
        changed = changes if "preset" in changes else _changed(current, changes)
        return _IMPAIRMENT.validate_python(changed)


_IMPAIRMENT: TypeAdapter[Impairment] = TypeAdapter(Impairment)
ImpairmentPatch = create_model("ImpairmentPatch", __base__=_Patch, __doc__=_Patch.__doc__, **_patch_fields())
