"""Traces: which step of which process took how long for a frame. Nothing at all unless the settings want them."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

from semlink.service.settings import ProcessSettings

Kind = Literal["internal", "client", "server"]
_NOTHING: AbstractContextManager[None] = nullcontext()


class Tracer:
    """Notes the steps that a process takes; this one notes nothing. See semlink/service/otlp.py for one that does.

    The step under way is that of the task, and of the tasks and threads that it starts. Attributes say more of a
    step, never the frame itself; what is empty is left out.
    """

    def span(
        self, name: str, *, kind: Kind = "internal", caller: Mapping[str, str] | None = None, **attributes: Any
    ) -> AbstractContextManager[None]:
        """A step, done within the context; an exception that leaves it makes it a failed one.

        Args:
            name: of the step; one of few.
            kind: a call of another process is `client` there and `server` here.
            caller: headers or metadata of a call that is served: the step is part of the caller's. Without it, it
                is part of the step under way.
            attributes: what else there is to say.
        """
        return _NOTHING

    def begin(self, name: str, **attributes: Any) -> None:
        """Begins a trace; from here on its first step is the one under way, until `end`."""

    def end(self, failure: str = "") -> None:
        """Ends the step under way, as one that failed if there is a reason; see `begin`."""

    def annotate(self, **attributes: Any) -> None:
        """Says more of the step under way."""

    def fail(self, reason: str) -> None:
        """Says that the step under way has failed, though no exception leaves it."""

    def record(self, name: str, began: float, ended: float, *, parent: Any = None, **attributes: Any) -> None:
        """A step that is over.

        Args:
            name: of the step.
            began: when, by `time.perf_counter`.
            ended: likewise.
            parent: what it was part of, as `current` gave it; without it, the step under way.
            attributes: what else there is to say.
        """

    def current(self) -> Any:
        """The step under way, for another task's `record`."""
        return None

    def headers(self) -> dict[str, str]:
        """The step under way as W3C trace context: headers or metadata of a call that is part of it."""
        return {}

    def log_ids(self) -> dict[str, str]:
        """The step under way, as log lines name it."""
        return {}


tracer = Tracer()
"""What this process notes its steps with."""


@contextmanager
def traced(settings: ProcessSettings, process: str) -> Iterator[None]:
    """Sends the traces of this process where its settings want them, while the context lasts."""
    global tracer
    if settings.otlp_endpoint is None:
        yield
        return
    from semlink.service.otlp import sending

    with sending(settings.otlp_endpoint, process) as installed:
        before, tracer = tracer, installed
        try:
            yield
        finally:
            tracer = before


def name_trace(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Adds to a log line which step it belongs to; a processor of structlog's."""
    return {**tracer.log_ids(), **event}
