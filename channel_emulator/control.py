"""Control plane: the impairment of every device, read and changed over HTTP while frames pass."""

from typing import Annotated

from fastapi import Body, FastAPI, HTTPException, Path, Query
from pydantic import BaseModel, Field
from starlette.middleware import Middleware

from channel_emulator.control_scenario import scenario_routes
from channel_emulator.events import MAX_EVENTS, EventPage
from channel_emulator.impairments import PRESET_IMPAIRMENTS, Impairment, ImpairmentPatch
from channel_emulator.live import LiveImpairments
from channel_emulator.metrics import Metrics
from channel_emulator.per_device import MAX_DEVICES, Impairments, ImpairmentsPatch, PatchError, changed_by
from channel_emulator.refusals import RefusalMiddleware
from semlink.channel.presets import PRESETS
from semlink.service.admission import Admission
from semlink.service.http_server import NAME, install_metrics, install_service
from semlink.service.listener import Health
from semlink.service.problems import problem_responses

MAX_BODY_BYTES = 1 << 20
MAX_HELD_BYTES = 16 << 20
"""Of all bodies that arrive at once."""
PATH = "/v1/impairments"
DEVICE_PATH = f"{PATH}/{{device_id:{NAME}}}"

REFUSED_BODIES = {
    "bad_request": "the body broke off, or can't be read as JSON at all",
    "request_timeout": "the body took too long to arrive",
    "request_entity_too_large": "the body is too long",
    "unsupported_media_type": "the body is encoded",
    "unprocessable_entity": "no such impairment, or a parameter out of its range; nothing has changed",
    "too_many_requests": "too many bodies arrive at once",
}
_NO_SUCH_DEVICE = {
    "not_found": "the device has none of its own: it meets the default",
    "unprocessable_entity": "no device id",
}
_TOO_MANY_DEVICES = {"conflict": f"{MAX_DEVICES} devices have one already"}

DeviceIdInPath = Annotated[str, Path(min_length=1, max_length=128, description="device id", examples=["camera-2"])]


class PresetBody(BaseModel):
    """A channel by name, with every parameter chosen."""

    name: str = Field(examples=["lossy"])
    description: str = Field(description="what it is like")
    impairment: Impairment = Field(description="what it stands for")


def control_plane(live: LiveImpairments, metrics: Metrics, health: Health, admission: Admission) -> FastAPI:
    """The HTTP application, for those whom `admission` lets in; the next frame meets what it changes."""
    app = FastAPI(
        title="Semlink channel emulator",
        summary="What the emulated channel does to whom. Every change holds from the next frame on.",
        docs_url=None,
        redoc_url=None,
    )
    install_service(
        app,
        admission,
        longest_body=lambda headers: MAX_BODY_BYTES,
        max_held_bytes=MAX_HELD_BYTES,
        admitted=Middleware(RefusalMiddleware, events=live.events),
    )
    app.include_router(health.router())
    _add_impairments(app, live)
    app.include_router(scenario_routes(live, REFUSED_BODIES))

    @app.get("/v1/presets", tags=["impairments"], summary="Channels by name")
    async def presets() -> list[PresetBody]:
        """Where an impairment is wanted, `{"preset": NAME}` stands for one of these."""
        return [
            PresetBody(name=name, description=each.description, impairment=PRESET_IMPAIRMENTS[name])
            for name, each in PRESETS.items()
        ]

    @app.get(
        "/v1/events",
        tags=["events"],
        summary="What happened to the channel",
        responses=problem_responses(unprocessable_entity="the cursor is of another process, or no cursor at all"),
    )
    async def events(
        after: Annotated[
            int, Query(ge=0, description="cursor: `next` of the answer before; 0: from the start")
        ] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_EVENTS, description="most events in the answer")] = 100,
    ) -> EventPage:
        """Settings that changed and by whom, what the scenario did, and changes that were refused; oldest first.

        A bounded number is held. Nothing waits here: ask again with `next`.
        """
        _ = live.now  # the scenario's steps until now are events too
        try:
            return live.events.after(after, limit)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None

    install_metrics(app, metrics.registry)
    return app


def _add_impairments(app: FastAPI, live: LiveImpairments) -> None:
    """Routes of who meets what. Between reading and changing there is no `await`: no change is lost to another."""

    @app.get(PATH, tags=["impairments"], summary="Who meets what")
    async def read_all() -> Impairments:
        return live.now

    @app.put(
        PATH, tags=["impairments"], summary="Replace who meets what", responses=problem_responses(**REFUSED_BODIES)
    )
    async def replace_all(new: Impairments) -> Impairments:
        """Replaces the default and all devices' own impairments, so that what GET answers can be put back.

        Parameters that are not named get their defaults, and without `devices` every device meets the default. The
        answer has everything that was set. To change some of it, use PATCH.
        """
        return live.change(new, f"PUT {PATH}")

    @app.patch(
        PATH,
        tags=["impairments"],
        summary="Change some of who meets what",
        responses=problem_responses(**REFUSED_BODIES),
    )
    async def change_all(patch: ImpairmentsPatch) -> Impairments:
        """Changes what is named, and nothing else. The answer has all settings as they are then."""
        try:
            new = live.now.patched(patch)
        except PatchError as error:
            raise HTTPException(422, str(error)) from None
        return live.change(new, f"PATCH {PATH}")

    @app.get(
        DEVICE_PATH,
        tags=["impairments"],
        summary="The impairment that a device has of its own",
        responses=problem_responses(**_NO_SUCH_DEVICE),
    )
    async def read_one(device_id: DeviceIdInPath) -> Impairment:
        return _own(live, device_id)

    @app.put(
        DEVICE_PATH,
        tags=["impairments"],
        summary="Give a device an impairment of its own",
        responses=problem_responses(**_TOO_MANY_DEVICES, **REFUSED_BODIES),
    )
    async def replace_one(
        device_id: DeviceIdInPath,
        impairment: Annotated[Impairment, Body(examples=[{"type": "bsc", "ber": 0.01}, {"preset": "lossy"}])],
    ) -> Impairment:
        """Parameters that are not named get their defaults; the answer has them all."""
        return _set_own(live, device_id, impairment, "PUT")

    @app.patch(
        DEVICE_PATH,
        tags=["impairments"],
        summary="Change some of what a device meets",
        responses=problem_responses(**_TOO_MANY_DEVICES, **REFUSED_BODIES),
    )
    async def change_one(
        device_id: DeviceIdInPath,
        patch: Annotated[ImpairmentPatch, Body(examples=[{"ber": 0.02}])],
    ) -> Impairment:
        """Changes what is named, and nothing else, of its own impairment, or else of the default's.

        It is its own then. Another `type` keeps the parameters that both types have.
        """
        try:
            changed = changed_by(patch, live.now.of(device_id))
        except PatchError as error:
            raise HTTPException(422, str(error)) from None
        return _set_own(live, device_id, changed, "PATCH")

    @app.delete(
        DEVICE_PATH,
        tags=["impairments"],
        summary="Let a device meet the default again",
        status_code=204,
        responses=problem_responses(**_NO_SUCH_DEVICE),
    )
    async def delete_one(device_id: DeviceIdInPath) -> None:
        _own(live, device_id)
        live.change(live.now.with_devices({device_id: None}), f"DELETE {PATH}/{device_id}")

    @app.post("/v1/reset", tags=["impairments"], summary="Back to what the process was started with")
    async def reset() -> Impairments:
        return live.reset("POST /v1/reset")


def _own(live: LiveImpairments, device_id: str) -> Impairment:
    own = live.now.devices.get(device_id)
    if own is None:
        raise HTTPException(404, f"device {device_id!r} has no impairment of its own: it meets the default")
    return own


def _set_own(live: LiveImpairments, device_id: str, impairment: Impairment, method: str) -> Impairment:
    try:
        new = live.now.with_devices({device_id: impairment})
    except PatchError as error:
        raise HTTPException(409, str(error)) from None
    live.change(new, f"{method} {PATH}/{device_id}")
    return impairment
