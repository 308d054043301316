"""Refusals: the reasons why a request is not served, with their gRPC status codes and HTTP statuses."""

from http import HTTPStatus

import grpc

from semlink.service.admission import Refusal


class BadFrame(Refusal):
    """A malformed frame, or one that the model can't take. `reason` is a slug, fit for a metric's label."""

    def __init__(self, message: str, reason: str) -> None:
        """The message names the reason too."""
        super().__init__(f"frame: {message} ({reason})")
        self.reason = reason


class NoDecoder(BadFrame):
    """The frame is well-formed, and the models of its source coder are not at this server."""

    reason = "no_decoder"
    code = grpc.StatusCode.FAILED_PRECONDITION
    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, message: str) -> None:
        """The message says which coder's."""
        super().__init__(message, self.reason)


class BadTag(Refusal):
    """The frame's header tag was not made with the key of its device.

    Over HTTP not 401, which calls for a scheme of HTTP authentication: the tag is the frame's, not the caller's.
    """

    reason = "tag"
    code = grpc.StatusCode.UNAUTHENTICATED
    status = HTTPStatus.FORBIDDEN


class AlreadyViewed(Refusal):
    """The device has sent another view of this object before."""

    reason = "already_viewed"
    code = grpc.StatusCode.ALREADY_EXISTS
    status = HTTPStatus.CONFLICT


class WrongViews(Refusal):
    """The object has all its views, or expects another number of them."""

    reason = "wrong_views"
    code = grpc.StatusCode.FAILED_PRECONDITION
    status = HTTPStatus.CONFLICT


class UnknownObject(Refusal):
    """No view of the object has arrived, or its vote has expired."""

    reason = "unknown_object"
    code = grpc.StatusCode.NOT_FOUND
    status = HTTPStatus.NOT_FOUND


class FixedRefusal(Refusal):
    """A refusal whose message is always the same; details are for the log."""

    message = ""

    def __init__(self) -> None:
        """The message is that of the class."""
        super().__init__(self.message)


class Unavailable(FixedRefusal):
    """The server can't serve the request now."""

    code = grpc.StatusCode.UNAVAILABLE
    status = HTTPStatus.SERVICE_UNAVAILABLE


class NotReady(Unavailable):
    """The model is still loading."""

    reason = "not_ready"
    message = "the model is still loading; try again"


class StoreAway(Unavailable):
    """The session store, Redis, can't be reached or fails."""

    reason = "store_away"
    message = "the store of views and votes can't be reached; send the same request again"


class DecoderLost(Unavailable):
    """The process that decodes the picture died, or can't be started."""

    reason = "decoder_lost"
    message = "the process that decodes pictures is not there; send the same request again"


class PictureTooSlow(FixedRefusal):
    """The picture is not decoded within the time that it may take."""

    reason = "picture_too_slow"
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    message = "the image takes too long to be decoded: send a smaller one, or one of fewer scans"


class Stopping(Unavailable):
    """The server is about to stop; waits for votes end."""

    reason = "stopping"
    message = "the server is about to stop; ask again"


class Expired(FixedRefusal):
    """The time that the caller gave has passed."""

    reason = "expired"
    code = grpc.StatusCode.DEADLINE_EXCEEDED
    status = HTTPStatus.GATEWAY_TIMEOUT
    message = "there was no answer in the time given; send the same frame again, or wait for longer"


class Overloaded(Refusal):
    """Too many requests wait. `retry_after` is when there should be room again, in seconds."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    status = HTTPStatus.TOO_MANY_REQUESTS

    reason = "queue_full"

    def __init__(self, message: str, retry_after: float) -> None:
        """The message says what is full."""
        super().__init__(message)
        self.retry_after = retry_after


class TooLate(Overloaded):
    """There would be no answer in time."""

    reason = "too_late"
