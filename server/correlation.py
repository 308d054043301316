"""One id for each request, in every line that is logged for it and in its answer."""

import re
import uuid

from structlog.contextvars import bind_contextvars, clear_contextvars

REQUEST_ID = "x-request-id"
_ACCEPTED = re.compile(r"[!-~]{1,128}")


def begin_request(given: str | None, **ids: object) -> str:
    """Binds a request's ids to all that its task logs from now on.

    Args:
        given: the id that the caller chose; one is made where it is missing, longer than 128 characters, or
            anything but visible ASCII.
        ids: whatever else names the request; what is empty is left out.

    Returns:
        The request's id.
    """
    request_id = given if given and _ACCEPTED.fullmatch(given) else uuid.uuid4().hex
    clear_contextvars()
    bind_contextvars(request_id=request_id, **{name: value for name, value in ids.items() if value != ""})
    return request_id
