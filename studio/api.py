"""HTTP API of the studio: the page, its events (server-sent), and what it may ask for."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import httpx
from fastapi import Body, FastAPI, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.middleware import Middleware

from semlink.service.admission import Admission
from semlink.service.http_server import install_service
from semlink.service.listener import Health
from semlink.service.problems import ProblemError, problem_responses
from semlink.vision.images import MAX_IMAGE_BYTES, ImageError
from studio.comparison import SIDES, ComparisonError
from studio.control_plane import PATHS, may_be_called
from studio.curves import curves
from studio.events import TooManyFollowers
from studio.knobs import knobs
from studio.link_settings import MOST_CAMERAS, LinkSettings
from studio.page_files import PageFile, PageMiddleware, page_files
from studio.studio import Studio
from studio.uploads import TooManyPictures

MAX_BODY_BYTES, MAX_HELD_BYTES = 1 << 20, 64 << 20
"""Of a request that is no picture, and of all bodies that arrive at once."""
MOST_WANTED = 32
"""Rounds that wait to be sent, and comparisons."""
REFUSED_BODIES = {
    "bad_request": "the body broke off, or can't be read at all",
    "request_timeout": "the body took too long to arrive",
    "request_entity_too_large": "the body is too long",
    "unsupported_media_type": "the body is encoded, or of another type",
    "too_many_requests": "too many bodies arrive at once, or as much waits as may",
}
FOR_A_YEAR = {"Cache-Control": "private, max-age=31536000, immutable"}


Knobs = Annotated[dict[str, Any], Body(examples=[{"rho": 0.1}])]
LinkName = Literal[tuple(SIDES)]  # type: ignore[valid-type]  # as many as there are


class ComparisonBody(BaseModel, extra="forbid"):
    """Two links, and the camera whose picture goes over both."""

    left: LinkName  # type: ignore[valid-type]
    right: LinkName  # type: ignore[valid-type]
    camera: int = Field(1, ge=1, le=MOST_CAMERAS)
    equal_bits: bool = Field(True, description="one gets as many bits on the air as the other; `bits` says which")


class RoundBody(BaseModel):
    """A round that was sent."""

    number: int = Field(description="0: it could not be sent")


def create_app(studio: Studio, health: Health, admission: Admission) -> FastAPI:
    """The application, for those whom `admission` lets in; the page's own files are for everybody."""
    files = page_files()
    app = FastAPI(
        title="Semlink studio",
        summary="A page where one sees the link think, and what it is made of.",
        docs_url=None,
        redoc_url=None,
    )
    install_service(
        app,
        admission,
        longest_body=_longest_body,
        max_held_bytes=MAX_HELD_BYTES,
        everybody=Middleware(PageMiddleware, origins=admission.origins),
        public=files,
    )
    app.include_router(health.router())
    for path, file in files.items():
        app.add_api_route(path, _serving(file), include_in_schema=False)
    _add_state(app, studio)
    _add_rounds(app, studio)
    _add_channel(app, studio)
    return app


def _longest_body(headers: Headers) -> int:
    is_picture = headers.get("content-type", "").startswith("image/")
    return MAX_IMAGE_BYTES if is_picture else MAX_BODY_BYTES


def _serving(file: PageFile) -> Any:
    async def serve(request: Request) -> Response:
        headers = {"ETag": file.tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        return Response(file.data, media_type=file.media_type, headers=headers)

    return serve


def _add_state(app: FastAPI, studio: Studio) -> None:
    described = knobs()

    @app.get("/v1/knobs", tags=["settings"], summary="Every knob, from its declaration")
    async def read_knobs() -> dict[str, Any]:
        return described

    @app.get("/v1/state", tags=["events"], summary="All that is to be known at this moment")
    async def read_state() -> dict[str, Any]:
        return studio.snapshot()

    @app.get(
        "/v1/events",
        tags=["events"],
        summary="What happens, as server-sent events",
        response_class=StreamingResponse,
        responses=problem_responses(
            too_many_requests="As many pages follow as may.", unprocessable_entity="Last-Event-ID is no such id."
        ),
    )
    async def follow(last_event_id: Annotated[str, Header(max_length=64)] = "") -> Response:
        """Begins with `state`, all that is to be known, unless Last-Event-ID says what is known already."""
        try:
            stream = studio.events.follow(last_event_id)
        except TooManyFollowers as error:
            raise ProblemError(429, "too_many_followers", str(error), {"Retry-After": "5"}) from None
        return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    refusals = problem_responses(
        **REFUSED_BODIES, unprocessable_entity="no such knob, or a value out of its range"
    )

    @app.patch("/v1/settings", tags=["settings"], summary="Turn knobs", responses=refusals)
    async def change(changes: Knobs) -> dict[str, Any]:
        """Changes what is named. A round over the same noise follows at once, unless only the pace changed."""
        return turned(studio.change, changes)

    @app.put("/v1/settings", tags=["settings"], summary="Set all knobs", responses=refusals)
    async def replace(new: Knobs) -> dict[str, Any]:
        """What is not named gets its default, but for `running` and, while rounds run, `noise`."""
        return turned(studio.replace, new)

    def turned(turn: Callable[[Mapping[str, Any]], LinkSettings], values: dict[str, Any]) -> dict[str, Any]:
        try:
            return turn(values).knobs()
        except ValueError as error:
            raise ProblemError(422, "invalid", str(error)) from None


def _add_rounds(app: FastAPI, studio: Studio) -> None:
    no_round = {"not_found": "no such round is held", "unprocessable_entity": "no number of a round"}
    busy = {
        "too_many_requests": "as many rounds wait as may",
        "service_unavailable": "the channel emulator is away",
    }

    def check_room() -> None:
        if studio.running.is_channel_away:
            raise ProblemError(
                503, "no_channel", "no round can be sent: the channel emulator is away", {"Retry-After": "1"}
            )
        if studio.wanted >= MOST_WANTED:
            raise ProblemError(429, "busy", "as many rounds wait as may: try again", {"Retry-After": "1"})

    @app.post("/v1/rounds", tags=["rounds"], summary="Send one round", responses=problem_responses(**busy))
    async def step() -> RoundBody:
        """Over other noise than the last, unless it is frozen; answers when it is over."""
        check_room()
        return RoundBody(number=await studio.want("next"))

    @app.get(
        "/v1/rounds/{number}", tags=["rounds"], summary="All of a round", responses=problem_responses(**no_round)
    )
    async def read_round(number: Annotated[int, Path(ge=1)]) -> dict[str, Any]:
        found = studio.rounds.get(number)
        if found is None:
            raise ProblemError(404, "unknown_round", f"round {number} is not held: the last ones are")
        return found.as_json()

    @app.post(
        "/v1/rounds/{number}/replay",
        tags=["rounds"],
        summary="Send a round again",
        responses=problem_responses(**no_round, **busy),
    )
    async def replay(number: Annotated[int, Path(ge=1)]) -> RoundBody:
        """Same pictures, settings, channel and noise; the new round says whether every bit arrived as it did."""
        check_room()
        if studio.rounds.get(number) is None:
            raise ProblemError(404, "unknown_round", f"round {number} is not held: the last ones are")
        return RoundBody(number=await studio.want("replay", number))

    @app.get(
        "/v1/images/{digest}.png",
        tags=["rounds"],
        summary="An image by its digest",
        response_class=Response,
        responses=problem_responses(
            not_found="it is no longer held: replay the round", unprocessable_entity="no digest"
        ),
    )
    async def image(digest: Annotated[str, Path(pattern="^[0-9a-f]{32}$")]) -> Response:
        data = studio.images.get(digest)
        if data is None:
            raise ProblemError(404, "unknown_image", "this image is no longer held: replay the round")
        return Response(data, media_type="image/png", headers=FOR_A_YEAR)

    @app.get(
        "/v1/rounds/{number}/radio/{camera}",
        tags=["rounds"],
        summary="A frame on the air",
        responses=problem_responses(**no_round | {"not_found": "no such radio view is held"}),
    )
    async def radio(number: Annotated[int, Path(ge=1)], camera: Annotated[str, Path(max_length=16)]) -> Response:
        """Its plan, and the constellation of what arrived; null where there is none. Of the newest rounds."""
        text = studio.rounds.radio(number, camera)
        if text is None:
            raise ProblemError(404, "unknown_radio", "no such radio view is held: play the round again")
        return Response(text, media_type="application/json")

    @app.post(
        "/v1/comparisons",
        tags=["comparisons"],
        summary="Send one picture over two links",
        responses=problem_responses(
            **REFUSED_BODIES, unprocessable_entity="no such link, or none over this channel"
        ),
    )
    async def compare(wanted: ComparisonBody) -> dict[str, Any]:
        """Over the same noise, one after the other; what each became, as a round has it."""
        if studio.comparing >= MOST_WANTED:
            raise ProblemError(429, "busy", "as many comparisons wait as may: try again", {"Retry-After": "1"})
        try:
            return await studio.compare(wanted.camera, wanted.left, wanted.right, equal_bits=wanted.equal_bits)
        except ComparisonError as error:
            raise ProblemError(422, "comparison", str(error)) from None

    @app.get("/v1/curves", tags=["comparisons"], summary="Committed accuracy curves, with intervals")
    async def read_curves() -> list[dict[str, Any]]:
        return curves()

    @app.get("/v1/links", tags=["comparisons"], summary="Names of the links that can be compared")
    async def read_links() -> list[str]:
        return list(SIDES)

    @app.put(
        "/v1/pictures",
        tags=["pictures"],
        summary="Have cameras look at a picture",
        status_code=204,
        openapi_extra={"requestBody": {"required": True, "content": _pictures()}},
        responses=problem_responses(
            **REFUSED_BODIES
            | {
                "bad_request": "it can't be read as a picture",
                "unsupported_media_type": "the body is no JPEG, PNG or WebP",
                "unprocessable_entity": "no such camera",
            },
        ),
    )
    async def put_picture(
        request: Request,
        camera: Annotated[
            int | None, Query(ge=1, le=MOST_CAMERAS, description="which; without: all, four ways")
        ] = None,
    ) -> None:
        """The picture stays in this machine's memory."""
        if request.headers.get("content-type", "") not in PICTURE_TYPES:
            raise ProblemError(415, "media_type", f"a picture is one of {', '.join(PICTURE_TYPES)}")
        data = await request.body()
        names = studio.all_names[camera - 1 : camera] if camera else studio.all_names
        try:
            await studio.show(data, names, from_viewpoints=camera is None)
        except ImageError as error:
            raise ProblemError(400, error.reason, str(error)) from None
        except TooManyPictures as error:
            raise ProblemError(429, "busy", str(error), {"Retry-After": "1"}) from None

    @app.delete("/v1/pictures", tags=["pictures"], summary="Look at the first pictures again", status_code=204)
    async def forget_pictures() -> None:
        studio.forget_pictures()


PICTURE_TYPES = ("image/jpeg", "image/png", "image/webp")


def _pictures() -> Mapping[str, Any]:
    return {each: {"schema": {"type": "string", "format": "binary"}} for each in PICTURE_TYPES}


def _add_channel(app: FastAPI, studio: Studio) -> None:
    """The control plane of the channel emulator, as it is; whoever changed it, the next pictures follow."""

    async def pass_on(request: Request, path: str) -> Response:
        control, query = studio.running.control, request.url.query
        if not may_be_called(path, query):
            raise ProblemError(404, "not_found", f"the channel has {', '.join(PATHS)} for the page")
        content_type = request.headers.get("content-type", "application/json").encode("latin-1")
        body = await request.body()
        try:
            if request.method == "GET":
                answer = await control.call("GET", path, query)
            else:
                async with studio.running.steady:
                    answer = await control.call(request.method, path, query, body, content_type)
                    if answer.is_success:
                        await studio.channel_was_set()
        except httpx.HTTPError:
            raise ProblemError(
                503, "no_channel", "the channel emulator does not answer: is it running?", {"Retry-After": "1"}
            ) from None
        media_type = answer.headers.get("content-type")
        return Response(answer.content, answer.status_code, media_type=media_type)

    app.add_api_route(
        "/v1/channel/{path:path}",
        pass_on,
        methods=["GET", "PUT", "PATCH", "POST", "DELETE"],
        tags=["channel"],
        summary="The emulator's control plane",
        response_class=Response,
        include_in_schema=False,
    )
