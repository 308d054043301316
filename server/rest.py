"""REST API: the same answers as the gRPC service's, over HTTP with JSON."""

import asyncio
import traceback
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Header, Path, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect

from semlink.frame import MAX_FRAME_BYTES
from semlink.service.admission import CALLER, Admission, Refusal
from semlink.service.http_server import NAME, install_metrics, install_service
from semlink.service.interceptor import MAX_WAIT_SECONDS
from semlink.service.listener import Health
from semlink.service.problems import ProblemError, problem_responses
from semlink.vision.images import MAX_IMAGE_BYTES, ImageError
from server.metrics import CALLER_GONE, CLASSIFY_PATH, CountingMiddleware, Metrics
from server.model import Prediction
from server.recognition import Answer, Recognizer, ViewRequest
from server.sessions import Sessions, Vote, VoteStatus, Wish

FRAME_TYPE = "application/vnd.semlink.frame"
PICTURE_TYPES = ("image/jpeg", "image/png")
MAX_LISTED_VOTES = 100
"""Votes in one answer."""

T = TypeVar("T")


class VoteStatusBody(BaseModel):
    """The vote on an object, or how many views it lacks."""

    vote: Vote | None = Field(description="null while views are missing, or where there is no object")
    missing_views: int = Field(
        examples=[0], description="views that have not arrived, or not completely; 0 where more is wished for"
    )
    wish: Wish | None = Field(
        examples=[None], description="what is wished of the device's view; null: nothing now"
    )


class TakenVoteBody(BaseModel):
    """A vote, and the object that it was on."""

    object_id: str = Field(examples=["chelsea"])
    taken: datetime = Field(description="when, by the clock of the server, or of Redis")
    expected_views: int = Field(examples=[4], description="views that the object expected")
    vote: Vote
    cursor: str = Field(examples=["1764000000000-0"], description="of this vote; later ones have higher numbers")


class VotesBody(BaseModel):
    """Votes in the order in which they were taken."""

    votes: list[TakenVoteBody] = Field(description="oldest first")
    next: str = Field(examples=["1764000000000-0"], description="`after` of the next request")


class TimingsBody(BaseModel):
    """Milliseconds that the server spent."""

    decode: float = Field(examples=[1.9], description="from the bytes to the model's input")
    queue: float = Field(examples=[0.1], description="waiting for the model")
    inference: float = Field(examples=[81.0], description="of its batch in the vision transformer")


class AnswerBody(VoteStatusBody):
    """The classes of a view, and the vote status of its object."""

    predictions: Sequence[Prediction] = Field(description="likeliest first")
    model: str = Field(examples=["deit_small_patch16_224 (models/)"], description="which model answered")
    repeated: bool = Field(description="the answer to an earlier request with the same ids")
    timings_ms: TimingsBody


class CallerGone(Exception):
    """The caller has hung up."""


def create_app(
    recognizer: Recognizer,
    sessions: Sessions,
    metrics: Metrics,
    health: Health,
    admission: Admission,
    timeout_seconds: float,
    max_held_bytes: int,
) -> FastAPI:
    """The REST API on top of `recognizer` and `sessions`, for callers that `admission` admits.

    A request waits for the model no longer than the timeout; bodies of at most `max_held_bytes` are held at once.
    """
    app = FastAPI(
        title="Semlink server",
        summary="Recognises what cameras send over the semantic image link.",
        version="1",
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    install_service(
        app,
        admission,
        longest_body=_longest_body,
        max_held_bytes=max_held_bytes,
        admitted=Middleware(CountingMiddleware, metrics=metrics),
    )
    app.include_router(health.router())

    @app.exception_handler(CallerGone)
    async def caller_gone(request: Request, error: CallerGone) -> Response:
        return Response(status_code=CALLER_GONE)

    binary = {"schema": {"type": "string", "format": "binary"}}

    @app.post(
        CLASSIFY_PATH,
        summary="Classify a frame or a picture",
        openapi_extra={
            "requestBody": {"required": True, "content": dict.fromkeys((FRAME_TYPE, *PICTURE_TYPES), binary)}
        },
        responses=problem_responses(
            bad_request="The frame or picture is malformed; the detail says which rule it broke.",
            request_timeout="The body took too long to arrive.",
            not_found="The layer before this one has not arrived, or it has been forgotten.",
            forbidden="The devices have keys, and the header's tag is not by this device's.",
            conflict="The device gave another view before, or the object's views are all in.",
            request_entity_too_large="The body is too long.",
            unsupported_media_type="The body is neither a frame nor a JPEG or PNG, or is encoded.",
            unprocessable_entity="A query parameter is invalid, the server lacks the models of the frame's source "
            "coder, or the picture takes too long to be decoded.",
            too_many_requests="Too many requests wait for the model; Retry-After says for how many seconds.",
            service_unavailable="The model is still loading, Redis is away, or a decoder of pictures died.",
            gateway_timeout="There was no answer in the time that the server gives itself.",
        ),
    )
    async def classify(
        request: Request,
        view: Annotated[ViewRequest, Query()],
        semlink_header_tag: Annotated[
            str, Header(description="the frame's header tag in hexadecimal; needed where devices have keys")
        ] = "",
    ) -> AnswerBody:
        """Says what the body shows, and counts it as the device's view if there is an object id.

        The body is one frame as a device sends it (application/vnd.semlink.frame), or, to compare with no link
        at all, a JPEG or PNG.
        """
        media_type = _media_type(request.headers)
        if media_type not in (FRAME_TYPE, *PICTURE_TYPES):
            raise ProblemError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "media_type",
                f"Content-Type must be {FRAME_TYPE}, {' or '.join(PICTURE_TYPES)}, not {media_type!r}",
            )
        try:
            recognizer.check_room(view)
            body = await request.body()
            deadline = asyncio.get_running_loop().time() + timeout_seconds
            if media_type == FRAME_TYPE:
                answer = recognizer.frame(body, view, deadline, tag=_tag(semlink_header_tag))
            else:
                answer = recognizer.picture(body, view, deadline)
            return _answer_body(await _unless_gone(request, answer))
        except (ImageError, Refusal) as error:
            # Futures and frames hold each other, and these the picture: it must not wait for the collector.
            traceback.clear_frames(error.__traceback__)
            if isinstance(error, Refusal):
                raise
            raise ProblemError(HTTPStatus.BAD_REQUEST, error.reason, str(error)) from None
        except ClientDisconnect:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "body_broken", "the body broke off") from None

    @app.get(
        f"/v1/votes/{{object_id:{NAME}}}",
        summary="How the vote on an object stands",
        responses=problem_responses(
            not_found="No view of the object has arrived, or none of the device, or it has been forgotten.",
            unprocessable_entity="A parameter is invalid.",
            too_many_requests="Too many calls wait for votes.",
            service_unavailable="Redis is away.",
        ),
    )
    async def vote(
        request: Request,
        object_id: Annotated[str, Path(min_length=1, max_length=128, examples=["chelsea"])],
        wait_seconds: Annotated[
            float, Query(ge=0, le=MAX_WAIT_SECONDS, description="wait so long for missing views")
        ] = 0,
        device_id: Annotated[
            str,
            Query(max_length=128, description="who asks: then wishes for more of this device's view end the wait"),
        ] = "",
    ) -> VoteStatusBody:
        """The object's vote, or how many of its views are missing, or what is wished of the device's view.

        Devices that were started with `--run RUN` view NAME@RUN; for NAME the latest run's vote is the answer.
        """
        waiting = sessions.wait(object_id, wait_seconds, CALLER.get().owner, device_id)
        return VoteStatusBody(**_status(await _unless_gone(request, waiting)))

    @app.get(
        "/v1/votes",
        summary="The latest votes",
        responses=problem_responses(
            unprocessable_entity="A parameter is invalid.",
            service_unavailable="Redis is away.",
        ),
    )
    async def votes(
        after: Annotated[
            str, Query(pattern=r"^(\d{1,15}-\d{1,15})?$", description="cursor: only votes taken after this one")
        ] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED_VOTES, description="at most so many votes")] = 20,
    ) -> VotesBody:
        """The latest votes on objects of the caller's key or, with a cursor, the first ones after it.

        To see every vote once, ask again with the `next` of the answer before. A server lists the 1000 latest
        votes of each owner, and none for longer than it keeps an object.
        """
        listed = await sessions.votes(CALLER.get().owner, after, limit)
        bodies = [
            TakenVoteBody(
                object_id=each.object_id.encode(errors="replace").decode(),
                taken=datetime.fromtimestamp(int(each.cursor.partition("-")[0]) / 1e3, UTC),
                expected_views=each.expected_views,
                vote=each.vote,
                cursor=each.cursor,
            )
            for each in listed
        ]
        return VotesBody(votes=bodies, next=bodies[-1].cursor if bodies else after or "0-0")

    install_metrics(app, metrics.registry)
    return app


def _tag(text: str) -> bytes:
    """The bytes of a tag; empty, which no key makes, where the text is not hexadecimal."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Does the work, or gives it up when the caller hangs up; discards what was not read of the body."""

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.create_task(work), asyncio.create_task(hung_up())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            leaving.result()
            raise CallerGone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _longest_body(headers: Headers) -> int:
    return MAX_FRAME_BYTES if _media_type(headers) == FRAME_TYPE else MAX_IMAGE_BYTES


def _answer_body(answer: Answer) -> AnswerBody:
    recognition = answer.recognition
    return AnswerBody(
        predictions=recognition.predictions,
        model=answer.model,
        repeated=answer.repeated,
        timings_ms=TimingsBody(
            decode=recognition.decode_ms, queue=recognition.queue_ms, inference=recognition.inference_ms
        ),
        **_status(answer.status or 0),
    )


def _status(status: VoteStatus) -> dict[str, Any]:
    return {
        "vote": status if isinstance(status, Vote) else None,
        "missing_views": status if isinstance(status, int) else 0,
        "wish": status if isinstance(status, Wish) else None,
    }
