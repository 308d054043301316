"""Why the server refuses a request: one set of reasons, told over gRPC and over HTTP."""

from http import HTTPStatus

import grpc

from semlink.service.admission import Refusal


class BadFrame(Refusal):
    """A frame that is malformed, or none that the model takes. `reason` is a slug, fit for a metric's label."""

    def __init__(self, message: str, reason: str) -> None:
        """The message names the reason too."""
        super().__init__(f"frame: {message} ({reason})")
        self.reason = reason


class BadTag(Refusal):
    """The frame's header is not vouched for by a key of its device.

    Over HTTP not 401, which calls for a scheme of HTTP authentication: the tag is the frame's, not the caller's.
    """

    code = grpc.StatusCode.UNAUTHENTICATED
    status = HTTPStatus.FORBIDDEN


class AlreadyViewed(Refusal):
    """The device has given another view of this object before."""

    code = grpc.StatusCode.ALREADY_EXISTS
    status = HTTPStatus.CONFLICT


class WrongViews(Refusal):
    """The object has all its views, or expects another number of them."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    status = HTTPStatus.CONFLICT


class UnknownObject(Refusal):
    """No view of the object has arrived, or its vote has expired."""

    code = grpc.StatusCode.NOT_FOUND
    status = HTTPStatus.NOT_FOUND


class NotReady(Refusal):
    """The model is still loading."""

    code = grpc.StatusCode.UNAVAILABLE
    status = HTTPStatus.SERVICE_UNAVAILABLE


class StoreAway(Refusal):
    """The store of the sessions, Redis, can't be reached or can't do what it is asked."""

    code = grpc.StatusCode.UNAVAILABLE
    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self) -> None:
        """What is wrong with Redis is the operator's business, and in the log."""
        super().__init__("the store of views and votes can't be reached; send the same request again")


class Stopping(Refusal):
    """The server is about to stop, and nobody waits here any more."""

    code = grpc.StatusCode.UNAVAILABLE
    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self) -> None:
        """There is but one thing to say."""
        super().__init__("the server is about to stop; ask again")


class Overloaded(Refusal):
    """As many requests wait as may. `retry_after` is when there ought to be room again, in seconds."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, message: str, retry_after: float) -> None:
        """The message says what is full."""
        super().__init__(message)
        self.retry_after = retry_after


class Expired(Refusal):
    """The time that the caller gave has passed."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    status = HTTPStatus.GATEWAY_TIMEOUT

    def __init__(self) -> None:
        """There is but one thing to say."""
        super().__init__("there was no answer in the time given; send the same frame again, or wait for longer")
