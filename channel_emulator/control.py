"""Control plane: the impairment of every device, read and changed over HTTP while frames pass."""

from typing import Annotated

import structlog
from fastapi import Body, FastAPI, HTTPException, Path
from pydantic import BaseModel, Field, StringConstraints

from channel_emulator.impairments import Impairment
from channel_emulator.metrics import Metrics
from semlink.channel.base import Channel
from semlink.service.admission import Admission
from semlink.service.correlation import RequestMiddleware
from semlink.service.http_server import NAME, BodyLimits, install_admission, install_metrics
from semlink.service.listener import Health
from semlink.service.problems import install_problems, problem_responses

log = structlog.get_logger(__name__)

MAX_DEVICES = 1024
"""Most devices with an impairment of their own."""
MAX_BODY_BYTES = 1 << 20
MAX_HELD_BYTES = 16 << 20
"""Of all bodies that arrive at once."""
DEVICE_PATH = f"/v1/impairments/{{device_id:{NAME}}}"

_EXAMPLE = {
    "default": {"type": "bsc", "ber": 0.01},
    "devices": {"camera-2": {"type": "bsc", "ber": 0.1}, "camera-3": {"type": "mimo_ofdm", "snr_db": 10}},
}

_REFUSED_BODIES = {
    "bad_request": "the body broke off, or can't be read as JSON at all",
    "request_timeout": "the body took too long to arrive",
    "request_entity_too_large": "the body is too long",
    "unprocessable_entity": "no such impairment, or a parameter out of its range",
    "too_many_requests": "too many bodies arrive at once",
}
_NO_SUCH_DEVICE = {
    "not_found": "the device has none of its own: it meets the default",
    "unprocessable_entity": "no device id",
}

DeviceId = Annotated[str, StringConstraints(min_length=1, max_length=128)]
DeviceIdInPath = Annotated[str, Path(min_length=1, max_length=128, description="device id", examples=["camera-2"])]


class Impairments(BaseModel, extra="forbid", json_schema_extra={"examples": [_EXAMPLE]}):
    """Who meets what: the default, and the devices that meet something else."""

    default: Impairment = Field(description="what every device meets that is not named in `devices`")
    devices: dict[DeviceId, Impairment] = Field(
        {}, max_length=MAX_DEVICES, description="device id → what this device meets instead"
    )

    def met_by(self, device_id: str) -> Channel:
        """The channel that this device's frames meet."""
        return self.devices.get(device_id, self.default).channel


def control_plane(impairments: Impairments, metrics: Metrics, health: Health, admission: Admission) -> FastAPI:
    """The HTTP application, for those whom `admission` lets in; the next frame meets what it changes.

    What `impairments` holds now is what `/v1/reset` goes back to.
    """
    started_with = impairments.model_copy(deep=True)
    app = FastAPI(
        title="Semlink channel emulator",
        summary="What the emulated channel does to whom. Every change holds from the next frame on.",
        redoc_url=None,
    )
    install_problems(app)
    app.include_router(health.router())
    app.add_middleware(BodyLimits, max_bytes=lambda headers: MAX_BODY_BYTES, max_held_bytes=MAX_HELD_BYTES)
    install_admission(app, admission)
    app.add_middleware(RequestMiddleware)

    def replace(new: Impairments) -> Impairments:
        impairments.default, impairments.devices = new.default, dict(new.devices)
        log.info("impairments replaced", default=new.default.model_dump(), devices_with_their_own=len(new.devices))
        return impairments

    @app.get("/v1/impairments", tags=["impairments"], summary="Who meets what")
    async def read_all() -> Impairments:
        return impairments

    @app.put(
        "/v1/impairments",
        tags=["impairments"],
        summary="Replace who meets what",
        description="Replaces the default and all devices' own impairments, so that what GET answers can be put "
        "back. Without `devices`, every device meets the default.",
        responses=problem_responses(**_REFUSED_BODIES),
    )
    async def replace_all(new: Impairments) -> Impairments:
        return replace(new)

    @app.get(
        DEVICE_PATH,
        tags=["impairments"],
        summary="The impairment that a device has of its own",
        responses=problem_responses(**_NO_SUCH_DEVICE),
    )
    async def read_one(device_id: DeviceIdInPath) -> Impairment:
        if device_id not in impairments.devices:
            raise _no_own_impairment(device_id)
        return impairments.devices[device_id]

    @app.put(
        DEVICE_PATH,
        tags=["impairments"],
        summary="Give a device an impairment of its own",
        responses=problem_responses(
            conflict=f"{MAX_DEVICES} devices have one already",
            **_REFUSED_BODIES,
        ),
    )
    async def replace_one(
        device_id: DeviceIdInPath, impairment: Annotated[Impairment, Body(examples=[_EXAMPLE["default"]])]
    ) -> Impairment:
        if device_id not in impairments.devices and len(impairments.devices) >= MAX_DEVICES:
            raise HTTPException(409, f"{MAX_DEVICES} devices have an impairment of their own: delete one first")
        impairments.devices[device_id] = impairment
        log.info("impairment of a device replaced", device_id=device_id, impairment=impairment.model_dump())
        return impairment

    @app.delete(
        DEVICE_PATH,
        tags=["impairments"],
        summary="Let a device meet the default again",
        status_code=204,
        responses=problem_responses(**_NO_SUCH_DEVICE),
    )
    async def delete_one(device_id: DeviceIdInPath) -> None:
        if impairments.devices.pop(device_id, None) is None:
            raise _no_own_impairment(device_id)
        log.info("impairment of a device deleted", device_id=device_id)

    @app.post("/v1/reset", tags=["impairments"], summary="Back to what the process was started with")
    async def reset() -> Impairments:
        return replace(started_with)

    install_metrics(app, metrics.registry)
    return app


def _no_own_impairment(device_id: str) -> HTTPException:
    return HTTPException(404, f"device {device_id!r} has no impairment of its own: it meets the default")
