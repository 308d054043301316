"""Impairments per device: the default, the devices that meet something else, and changes of both."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from channel_emulator.impairments import Impairment, ImpairmentModel, ImpairmentPatch
from semlink.channel.base import Channel
from semlink.service.validation import mistakes_text

MAX_DEVICES = 1024
"""Most devices with an impairment of their own."""

_EXAMPLE = {
    "default": {"type": "bsc", "ber": 0.01},
    "devices": {"camera-2": {"preset": "lossy"}, "camera-3": {"type": "mimo_ofdm", "snr_db": 10}},
}
_PATCH_EXAMPLE = {"default": {"ber": 0.02}, "devices": {"camera-2": None, "camera-3": {"snr_db": 15}}}

DeviceId = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class PatchError(ValueError):
    """Changes that lead to no settings; the message says which device's, and why."""


class ImpairmentsPatch(BaseModel, extra="forbid", frozen=True, json_schema_extra={"examples": [_PATCH_EXAMPLE]}):
    """What changes of who meets what; what is not named stays as it is."""

    default: ImpairmentPatch = Field(ImpairmentPatch(), description="changes of what every other device meets")
    devices: dict[DeviceId, ImpairmentPatch | None] = Field(
        {},
        max_length=MAX_DEVICES,
        description="device id → changes of what it meets, its own from then on; null: it meets the default again",
    )


class Impairments(BaseModel, extra="forbid", frozen=True, json_schema_extra={"examples": [_EXAMPLE]}):
    """Who meets what: the default, and the devices that meet something else."""

    default: Impairment = Field(description="what every device meets that is not named in `devices`")
    devices: dict[DeviceId, Impairment] = Field(
        {}, max_length=MAX_DEVICES, description="device id → what this device meets instead"
    )

    def of(self, device_id: str) -> ImpairmentModel:
        """What this device meets."""
        return self.devices.get(device_id, self.default)

    def met_by(self, device_id: str) -> Channel:
        """The channel that this device's frames meet."""
        return self.of(device_id).channel

    def with_devices(self, changes: Mapping[str, ImpairmentModel | None]) -> Self:
        """With other impairments of these devices' own; None: none.

        Raises:
            PatchError: more than `MAX_DEVICES` devices would have one.
        """
        devices = dict(self.devices)
        for device_id, own in changes.items():
            if own is None:
                devices.pop(device_id, None)
            else:
                devices[device_id] = own
        if len(devices) > MAX_DEVICES:
            raise PatchError(f"at most {MAX_DEVICES} devices have an impairment of their own: remove one first")
        return self.model_copy(update={"devices": devices})

    def patched(self, patch: ImpairmentsPatch) -> Self:
        """With the changes that `patch` names. A device without an impairment of its own starts from the default.

        Raises:
            PatchError: there are no such impairments, or too many.
        """
        default = changed_by(patch.default, self.default, "default.")
        new = self.model_copy(update={"default": default})
        return new.with_devices(
            {
                device_id: None
                if change is None
                else changed_by(change, new.of(device_id), f"devices.{device_id}.")
                for device_id, change in patch.devices.items()
            }
        )


class Difference(BaseModel, frozen=True):
    """The part of settings that differs from others."""

    default: Impairment | None = Field(description="null: it does not differ")
    devices: dict[str, Impairment | None] = Field(description="device id → its own; null: it has none")


def differences(before: Impairments, after: Impairments) -> tuple[Difference, Difference]:
    """What differs between settings, as it was and as it is."""
    devices = [
        device_id
        for device_id, own in after.devices.items()
        if (was := before.devices.get(device_id)) is not own and was != own  # identity first: it is a lot faster
    ]
    devices += before.devices.keys() - after.devices.keys()
    first, second = (
        Difference.model_construct(
            default=each.default if before.default != after.default else None,
            devices={device_id: each.devices.get(device_id) for device_id in devices},
        )
        for each in (before, after)
    )
    return first, second


def changed_by(patch: ImpairmentPatch, current: ImpairmentModel, where: str = "") -> ImpairmentModel:
    """An impairment with the changes of `patch`.

    Raises:
        PatchError: there is no such impairment; the message begins with `where`.
    """
    try:
        changed: ImpairmentModel = patch.applied_to(current)
    except ValidationError as error:
        raise PatchError(f"{where}{mistakes_text(error.errors())}") from None
    return changed
