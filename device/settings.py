"""Settings of a device."""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from device.encoding import LOOKING
from device.policy import OPINIONATED, PolicySettings
from device.sources.kinds import is_stream
from semlink.parameters import Only
from semlink.service.settings import Address, CallSettings, ProcessSettings
from semlink.vision.engines import EngineName
from semlink.vision.weights import DEVICE_MODEL

MAX_OBJECT_ID = 128
"""Characters of an object id that a server takes."""
MAX_FRAME_ID = 2**64 - 1
MIN_CLOCK_SECONDS = 0.1
"""Between rounds from the clock: those of cameras differ by milliseconds."""


LOOKS = Only("source", LOOKING, otherwise=Only("policy", OPINIONATED))
"""Of settings of the vision transformer."""


class DeviceSettings(PolicySettings, CallSettings):
    """Sends views of an object through the link and says what the server recognises, one JSON line per view.

    Every setting is also read from the environment: --device-id from SEMLINK_DEVICE_ID, and so on.
    """

    to: Address = Field(description="HOST:PORT of the server, or of a channel emulator in front of it")
    api_key_file: Path | None = Field(
        None,
        description="file with the API key to show to the server; or the key itself in SEMLINK_API_KEY",
    )
    images: Annotated[list[str], NoDecode] = Field(
        description="picture files, folders, or names of scikit-image's photographs (chelsea, coffee, ...); "
        "several are separated by spaces or, in the environment, by commas; a comma in a name is written \\,. "
        "Or one of: - for pictures on standard input, a video file, /dev/video0, rtsp://CAMERA (video needs "
        "semlink[video])",
    )
    watch: bool = Field(
        False,
        description="watch the folder, or the one file, that --images names: each picture that is new or was "
        "overwritten there is a round, once it is written to its end",
    )
    object_id: str = Field(description="what is looked at; the same for all devices that look at it")
    run: str = Field(
        "",
        pattern=r"^([A-Za-z0-9._-]{1,24})?$",
        description="name of this run, the same for all devices of it, 1 to 24 letters, digits, '.', '_' or '-': "
        "object ids end in @RUN then, so that no view meets those of a run before, which a server remembers",
    )
    device_id: str = Field("device-1", description="who looks; a different one for each device")
    expected_views: int = Field(1, ge=1, le=64, description="how many devices look at the object")
    view: int | None = Field(
        None, ge=1, le=4, description="look from viewpoint 1 to 4: another crop, scale, rotation and exposure"
    )
    every: float | None = Field(
        None, ge=0, description="keep going: a round every so many seconds, its object id being OBJECT_ID/ROUND"
    )
    clock_rounds: bool = Field(
        False,
        description="number the rounds by the clock: at whole multiples of --every since 1970, so that cameras "
        "that start at different times, or start anew, vote on the same moment",
    )
    count: int | None = Field(
        None,
        ge=0,
        description="rounds; 0: until stopped. Without it, 1; with --every, or pictures that come one after the "
        "other, until stopped or until there are no more",
    )
    model: Annotated[str, LOOKS] = Field(DEVICE_MODEL, description="timm name of the vision transformer")
    weights: Path | None = Field(None, description="folder with NAME.safetensors, looked into first")
    engine: Annotated[EngineName, LOOKS] = Field(
        "openvino", description="what runs the model: openvino, the faster one, or torch"
    )
    threads: int = Field(0, ge=0, description="CPU threads of the model; 0: the engine's choice")
    header_key_file: Path | None = Field(
        None,
        description="file with this device's key in hexadecimal, for the tag of each frame's header; in its place "
        "the key itself may be in SEMLINK_HEADER_KEY. Of a server: --header-keys-file",
    )
    call_seconds: float = Field(10, gt=0, description="how long one call may take")
    retry_seconds: float = Field(
        30,
        ge=0,
        description="how long a frame is sent again while nobody answers, or planned anew while the channel takes "
        "no plan for it",
    )
    vote_seconds: float = Field(
        30,
        ge=0,
        le=60,
        description="how long the other views, and the server's wishes, are waited for while sending goes on; "
        "those of 16 objects at most, beyond which views are reported without their vote",
    )
    spool: Path | None = Field(
        None,
        description="SQLite file, one for each device, where views wait until they are answered, over a dead link "
        "and over restarts, after which the frame ids go on; --retry-seconds then gives up no frame",
    )
    spool_bytes: Annotated[int, Only("spool")] = Field(
        256 << 20,
        ge=8 << 20,
        description="how large the spool may grow. Past that, a camera with a pace (--every) drops the oldest "
        "views unsent, counted and logged; one without waits",
    )
    show_spool: bool = Field(
        False,
        description="say what --spool holds, one JSON line for the whole and one per view, and do nothing else",
    )
    pictures: Path | None = Field(
        None,
        description="folder to draw every view into, with its attention and bits; of rounds, the newest 1000 stay",
    )

    @field_validator("images", mode="before")
    @classmethod
    def _separate(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return [part.replace(r"\,", ",") for part in re.split(r"(?<!\\),", value) if part]

    @model_validator(mode="after")
    def _something_to_send(self) -> Self:
        if not self.images:
            raise ValueError("--images (or SEMLINK_IMAGES) must name at least one picture")
        if not self.object_id:
            raise ValueError("--object-id (or SEMLINK_OBJECT_ID) must not be empty")
        if len(self.object_of(MAX_FRAME_ID)) > MAX_OBJECT_ID:
            raise ValueError(
                f"--object-id (or SEMLINK_OBJECT_ID): at most {MAX_OBJECT_ID} characters, round and run included"
            )
        is_stream(self.images, self.watch)
        if self.clock_rounds and (self.every or 0) < MIN_CLOCK_SECONDS:
            raise ValueError(
                f"--clock-rounds (or SEMLINK_CLOCK_ROUNDS) needs --every of {MIN_CLOCK_SECONDS} seconds or more"
            )
        if self.show_spool and self.spool is None:
            raise ValueError("--show-spool (or SEMLINK_SHOW_SPOOL) needs --spool")
        return self

    def without_effect(
        self, given: Collection[str], beside: Mapping[str, Only] = MappingProxyType({})
    ) -> Iterator[str]:
        """Those of the policy, and targets where it is the server's to meet them."""
        targets = dict.fromkeys(("target_accuracy_loss", "budget_bits"), Only("policy", ("alone",)))
        yield from super().without_effect(given, {**targets, **beside})

    @property
    def rounds(self) -> int:
        """How many rounds are gone; 0: until stopped."""
        if self.count is None:
            return 1 if self.every is None and not is_stream(self.images, self.watch) else 0
        return self.count

    def object_of(self, number: int, run: str = "") -> str:
        """Object id of a round: OBJECT_ID, OBJECT_ID/ROUND, and either with @RUN behind it.

        Args:
            number: of the round.
            run: in place of the settings' where those have none.
        """
        keeps_going = self.every is not None or self.rounds != 1
        name, run = f"{self.object_id}/{number}" if keeps_going else self.object_id, self.run or run
        return f"{name}@{run}" if run else name


class ShowSpoolSettings(ProcessSettings):
    """Says what a device's spool holds: one JSON line for the whole, then one per view.

    Other settings of a device are allowed, and have no effect.
    """

    model_config = SettingsConfigDict(cli_ignore_unknown_args=True)

    spool: Path = Field(description="the spool; a device may be using it")
    show_spool: bool = Field(False, description="asks for this")
