"""Why the server refuses a request: one set of reasons, told over gRPC and over HTTP."""

from http import HTTPStatus

import grpc


class Refusal(Exception):
    """A request that can't be served; the message says why and what would help."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    status = HTTPStatus.BAD_REQUEST


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
