"""The REST API: the same answers as the link service's, for whoever would rather not speak gRPC."""

import asyncio
from http import HTTPStatus
from typing import Annotated

from fastapi import FastAPI, HTTPException, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from semlink.bitstream import MAX_FRAME_BYTES
from semlink.images import MAX_IMAGE_BYTES, ImageError
from semlink.runtime.listener import Health
from semlink.runtime.problems import install_problems, problem_responses
from server.link_service import MAX_WAIT_SECONDS
from server.recognition import Answer, Recognizer, ViewRequest
from server.refusals import Refusal
from server.sessions import Sessions, Standing, Vote

FRAME_TYPE = "application/vnd.semlink.frame"
PICTURE_TYPES = ("image/jpeg", "image/png")
BODY_SECONDS = 30.0


class PredictionBody(BaseModel):
    """One class and how likely it is."""

    label: int = Field(examples=[281], description="index of the class")
    name: str = Field(examples=["tabby"])
    confidence: float = Field(examples=[0.83], description="softmax probability")


class VoteBody(BaseModel):
    """What all views of an object agree on."""

    label: int = Field(examples=[281])
    name: str = Field(examples=["tabby"])
    votes: int = Field(examples=[3], description="views that named this label")
    views: int = Field(examples=[4], description="views that were counted")


class StandingBody(BaseModel):
    """How the vote on an object stands."""

    vote: VoteBody | None = Field(description="null while views are missing, or where there is no object")
    missing_views: int = Field(examples=[0], description="views that have not arrived yet")


class TimingsBody(BaseModel):
    """Milliseconds that the server spent."""

    decode: float = Field(examples=[1.9], description="from the bytes to the model's input")
    queue: float = Field(examples=[0.1], description="waiting for the model")
    inference: float = Field(examples=[81.0], description="in the vision transformer")


class AnswerBody(StandingBody):
    """What a view shows, and how the vote on its object stands."""

    predictions: list[PredictionBody] = Field(description="likeliest first")
    model: str = Field(examples=["deit_small_patch16_224 (models/)"], description="which model answered")
    repeated: bool = Field(description="the answer to an earlier request with the same ids")
    timings_ms: TimingsBody


def create_app(recognizer: Recognizer, sessions: Sessions, health: Health) -> FastAPI:
    """The REST API on top of `recognizer` and `sessions`."""
    app = FastAPI(
        title="Semlink server",
        summary="Recognises what cameras send over the semantic image link.",
        version="1",
        redirect_slashes=False,
    )
    install_problems(app)
    app.include_router(health.router())

    binary = {"schema": {"type": "string", "format": "binary"}}

    @app.post(
        "/v1/classify",
        summary="Classify a frame or a picture",
        openapi_extra={
            "requestBody": {"required": True, "content": dict.fromkeys((FRAME_TYPE, *PICTURE_TYPES), binary)}
        },
        responses=problem_responses(
            bad_request="The frame or picture is malformed; the detail says which rule it broke.",
            request_timeout="The body took too long to arrive.",
            conflict="The device gave another view before, or the object's views are all in.",
            request_entity_too_large="The body is too long.",
            unsupported_media_type="The body is neither a frame nor a JPEG or PNG.",
            unprocessable_entity="A query parameter is invalid.",
            service_unavailable="The model is still loading.",
        ),
    )
    async def classify(request: Request, view: Annotated[ViewRequest, Query()]) -> AnswerBody:
        """Says what the body shows, and counts it as the device's view if there is an object id.

        The body is one frame as a device sends it (application/vnd.semlink.frame), or, to compare with no link
        at all, a JPEG or PNG.
        """
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in (FRAME_TYPE, *PICTURE_TYPES):
            raise HTTPException(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Type must be {FRAME_TYPE}, {' or '.join(PICTURE_TYPES)}, not {media_type!r}",
            )
        body = await _read_body(request, MAX_FRAME_BYTES if media_type == FRAME_TYPE else MAX_IMAGE_BYTES)
        try:
            if media_type == FRAME_TYPE:
                return _answer_body(await recognizer.frame(body, view))
            return _answer_body(await recognizer.picture(body, view))
        except Refusal as refusal:
            raise HTTPException(refusal.status, str(refusal)) from None
        except ImageError as error:
            raise HTTPException(HTTPStatus.BAD_REQUEST, str(error)) from None

    @app.get(
        "/v1/votes/{object_id:path}",
        summary="How the vote on an object stands",
        responses=problem_responses(
            not_found="No view of the object has arrived, or it has been forgotten.",
            unprocessable_entity="A parameter is invalid.",
        ),
    )
    async def vote(
        object_id: Annotated[str, Path(min_length=1, max_length=128, examples=["chelsea"])],
        wait_seconds: Annotated[
            float, Query(ge=0, le=MAX_WAIT_SECONDS, description="wait so long for missing views")
        ] = 0,
    ) -> StandingBody:
        """The object's vote, or how many of its views are missing."""
        try:
            return StandingBody(**_standing(await sessions.wait(object_id, wait_seconds)))
        except Refusal as refusal:
            raise HTTPException(refusal.status, str(refusal)) from None

    return app


async def _read_body(request: Request, longest: int) -> bytes:
    """The body, never holding more than `longest` bytes and a chunk."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > longest:
                    raise HTTPException(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {longest} bytes are taken (oversized)"
                    )
    except TimeoutError:
        raise HTTPException(
            HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {BODY_SECONDS:.0f} s"
        ) from None
    except ClientDisconnect:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "the body broke off") from None
    return bytes(body)


def _answer_body(answer: Answer) -> AnswerBody:
    recognition = answer.recognition
    return AnswerBody(
        predictions=[PredictionBody(**vars(each)) for each in recognition.predictions],
        model=answer.model,
        repeated=answer.repeated,
        timings_ms=TimingsBody(
            decode=recognition.decode_ms, queue=recognition.queue_ms, inference=recognition.inference_ms
        ),
        **_standing(answer.standing or 0),
    )


def _standing(standing: Standing) -> dict:
    if isinstance(standing, Vote):
        return {"vote": VoteBody(**vars(standing)), "missing_views": 0}
    return {"vote": None, "missing_views": standing}
