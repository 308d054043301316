"""Camera of the studio, a process that `studio.fork_server` forks: a device whose models stay warm.

It is told in JSON lines on standard input, and answers in JSON lines on standard output:

    {"op": "ping"}                                        -> {"event": "pong"}
    {"op": "picture", "picture": D, "view": V, "path": P | "pixels": B} -> nothing
    {"op": "view", "round": N, "frame_id": F, "picture": D, "held": [DIGEST, ...], "settings": {...}}
        -> {"event": "loads"} where it has to load a model first, and may answer no ping meanwhile;
           {"event": "view", ...} once it is answered, and again when a later layer is; {"event": "radio", ...}
           after it;
           {"event": "vote", ...}, or {"event": "failed", "reason": TEXT, "passes": it may go better later}

`settings` are those of a device, without what names pictures. It ends with its standard input.
"""

import asyncio
import base64
import contextlib
import json
import sys
import time
from collections import OrderedDict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from device.camera import VIEWPOINTS, take_view
from device.capture import Capture, Encoded
from device.dialogue import Dialogues
from device.encoder import Encoder
from device.opinion_encoder import Look, OpinionEncoder
from device.planning import PlanningError
from device.report import answer_report
from device.sender import Sender
from device.sent import Sent
from device.settings import DeviceSettings
from device.uplink import RETRIED, Credentials, Uplink, UplinkError
from semlink.decision.calibration import CalibrationError
from semlink.service.correlation import begin_request
from semlink.service.header_tag import device_key
from semlink.service.logs import configure_logs
from semlink.service.settings import StartupError
from semlink.service.validation import mistakes_text
from semlink.vision.engines import EngineError
from semlink.vision.images import IMAGE_SIZE, ImageError
from semlink.vision.weights import WeightsError
from studio.pictures import MOST_HELD
from studio.radio import SYMBOLS, radio_report
from studio.rounds import digest_of
from studio.views import view_report

MOST_LINE_BYTES = 64 << 20
MOST_LOOKS = 32
"""Views whose attention is held."""
MISTAKES = (
    CalibrationError, EngineError, ImageError, PlanningError, StartupError, UplinkError, WeightsError,
)  # fmt: skip
"""Exceptions that end a view and are explained; the camera goes on."""


@dataclass
class Camera:
    """One camera: pictures, models and connections that stay."""

    device_id: str
    _pictures: OrderedDict[tuple[str, int], Path | NDArray[np.uint8]] = field(default_factory=OrderedDict)
    _encoders: dict[str, Encoder] = field(default_factory=dict)
    _look: Look | None = None
    _looks: OrderedDict[tuple[str, str, int], Any] = field(default_factory=OrderedDict)
    _uplink: Uplink | None = None
    _lines: AsyncExitStack = field(default_factory=AsyncExitStack)

    def warm_up(self) -> None:
        """Loads the models of the source coder that is the default."""
        self._encoder(self._settings({"to": "unused:1", "object_id": "warm-up"}))

    def hold(self, told: dict[str, Any]) -> None:
        """Holds a picture, or the (224, 224, 3) pixels that are seen of it, by digest and viewpoint."""
        picture: Path | NDArray[np.uint8]
        if "path" in told:
            picture = Path(told["path"])
        else:
            pixels = np.frombuffer(bytearray(base64.b64decode(told["pixels"])), np.uint8)
            picture = pixels.reshape(IMAGE_SIZE, IMAGE_SIZE, 3)
        _remember(self._pictures, (told["picture"], told["view"] or 0), picture, MOST_HELD)

    async def view(self, told: dict[str, Any]) -> None:
        """Sends a view, prints what it became, and its vote."""
        number = told["round"]
        try:
            settings = self._settings(told["settings"])
            if not self._has_models(settings):
                say(event="loads")
            capture = await asyncio.to_thread(self._capture, settings, told)
            uplink, sent = await self._uplink_to(settings), Sent()
            sender = Sender(settings, uplink, device_key(settings.header_key_file), SYMBOLS)
            dialogues = Dialogues(sender, uplink, settings.vote_seconds)
            await dialogues.begin(capture, sent)
            await self._tell(number, settings, capture, sent, told["held"])
            layers = len(sent.layers)
            await dialogues.finish(capture, sent)
            if len(sent.layers) != layers:
                await self._tell(number, settings, capture, sent, told["held"])
            vote = answer_report(capture, sent, None, None)["vote"]
            say(event="vote", round=number, vote=vote, missing=sent.answer.missing_views)
        except ValidationError as error:
            say(event="failed", round=number, reason=mistakes_text(error.errors()))
        except MISTAKES as error:
            passes = isinstance(error, UplinkError) and error.code in RETRIED
            say(event="failed", round=number, reason=str(error), passes=passes)

    async def _uplink_to(self, settings: DeviceSettings) -> Uplink:
        """The connection to where the settings say; it stays for all views that go there."""
        if self._uplink is None or self._uplink.target != settings.to:
            await self._lines.aclose()
            self._lines = AsyncExitStack()
            made = Uplink(
                settings.to,
                settings.call_seconds,
                settings.retry_seconds,
                asyncio.Event(),
                Credentials.of(settings),
            )
            self._uplink = await self._lines.enter_async_context(made)
        return self._uplink

    async def _tell(
        self, number: int, settings: DeviceSettings, capture: Capture, sent: Sent, held: list[str]
    ) -> None:
        last, state = sent.layers[-1], None
        weighing = settings.coding if settings.source == "iaq" and last.planned is None else {}  # plans have none
        report, images = await asyncio.to_thread(
            view_report, capture, sent, weighing.get("gamma", 1.0), weighing.get("design_ber", 0.0)
        )
        digests = {name: digest_of(data) for name, data in images.items()}
        data = {
            digest: base64.b64encode(images[name]).decode()
            for name, digest in digests.items()
            if digest not in held
        }
        say(event="view", round=number, view=report | {"images": digests}, data=data)
        if last.planned is not None and self._uplink is not None:
            with contextlib.suppress(UplinkError):  # it is for the radio view alone
                state = await self._uplink.channel_state(self.device_id, capture.number)
        if state is not None and last.planned is not None and state.state_id != last.planned.message.state_id:
            state = None  # the channel was changed since
        say(event="radio", round=number, radio=radio_report(last, state))

    def _settings(self, told: dict[str, Any]) -> DeviceSettings:
        fixed: dict[str, Any] = {"device_id": self.device_id, "images": ["-"], "pictures": Path(), "threads": 1}
        return DeviceSettings(**(fixed | told))  # `pictures`: what arrives is asked for

    def _capture(self, settings: DeviceSettings, told: dict[str, Any]) -> Capture:
        viewpoint, digest = settings.view, told["picture"]
        pixels = self._taken(digest, viewpoint)
        return Capture(
            number=told["frame_id"],
            object_id=settings.object_id,
            device_id=self.device_id,
            expected_views=settings.expected_views,
            request_id=begin_request(None, object_id=settings.object_id, device_id=self.device_id),
            photo=digest,
            viewpoint=viewpoint,
            view=self._encode(settings, pixels, told["frame_id"], (digest, viewpoint or 0)),
        )

    def _taken(self, digest: str, viewpoint: int | None) -> NDArray[np.uint8]:
        key = (digest, viewpoint or 0)
        if key not in self._pictures:
            raise ImageError(f"the camera was given no picture {digest}")
        picture = self._pictures[key]
        if isinstance(picture, Path):
            picture = self._pictures[key] = take_view(picture, VIEWPOINTS[viewpoint - 1] if viewpoint else None)
        return picture

    def _encode(
        self, settings: DeviceSettings, pixels: NDArray[np.uint8], frame_id: int, seen_as: tuple[str, int]
    ) -> Encoded:
        """The view's frames; the model looks at each view once."""
        if settings.policy != "all":
            return self._opinion_encoder(settings).encode(pixels, frame_id)
        encoder, key, started = self._encoder(settings), (settings.source, *seen_as), time.perf_counter()
        if is_new := key not in self._looks:
            _remember(self._looks, key, encoder.look(pixels), MOST_LOOKS)
        attention_ms = 1e3 * (time.perf_counter() - started) if is_new else 0.0
        return replace(encoder.code(pixels, self._looks[key], frame_id), attention_ms=attention_ms)

    def _has_models(self, settings: DeviceSettings) -> bool:
        return settings.source in self._encoders if settings.policy == "all" else self._look is not None

    def _encoder(self, settings: DeviceSettings) -> Encoder:
        known = self._encoders.get(settings.source)
        made = known.with_settings(settings) if known else Encoder.of(settings)
        self._encoders[settings.source] = made
        return made

    def _opinion_encoder(self, settings: DeviceSettings) -> OpinionEncoder:
        if self._look is None:
            self._look = OpinionEncoder.of(settings).look
        return OpinionEncoder(settings, self._look_once)

    def _look_once(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        key = ("opinion", digest_of(pixels.tobytes()), 0)
        if key not in self._looks:
            assert self._look is not None
            _remember(self._looks, key, self._look(pixels), MOST_LOOKS)
        found: tuple[NDArray[np.float32], NDArray[np.float32]] = self._looks[key]
        return found


def _remember(where: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    where[key] = value
    while len(where) > most:
        where.popitem(last=False)


def say(**line: Any) -> None:
    """Prints a JSON line."""
    print(json.dumps(line), flush=True)


async def run(camera: Camera) -> None:
    """Does what it is told, a view at a time, until standard input ends."""
    reader = asyncio.StreamReader(limit=MOST_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    views: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def work() -> None:
        while True:
            await camera.view(await views.get())

    working = asyncio.create_task(work())
    reading = asyncio.create_task(_read(camera, reader, views))
    done, _ = await asyncio.wait({working, reading}, return_when=asyncio.FIRST_COMPLETED)
    for task in (working, reading):
        task.cancel()
    for task in done:
        task.result()  # a bug ends the process: the studio starts another one, and its log says why


async def _read(camera: Camera, reader: asyncio.StreamReader, views: asyncio.Queue[dict[str, Any]]) -> None:
    while line := await reader.readline():
        told = json.loads(line)
        match told["op"]:
            case "ping":
                say(event="pong")
            case "picture":
                camera.hold(told)
            case "view":
                views.put_nowait(told)


def main() -> None:
    """Loads the models, says {"event": "ready"}, and does what it is told; the argument is its device id."""
    camera = Camera(sys.argv[1])
    try:
        configure_logs(camera._settings({"to": "unused:1", "object_id": "logs"}), "camera")
        camera.warm_up()
    except MISTAKES as error:
        sys.exit(f"camera: {error}")
    say(event="ready")
    asyncio.run(run(camera))
