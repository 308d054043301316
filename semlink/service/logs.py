"""Structured logs (structlog) on standard error: for people on a terminal, as JSON lines elsewhere."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

import structlog

from semlink.service import tracing
from semlink.service.settings import ProcessSettings

SPARSE_SECONDS = 1.0
"""Of lines that strangers cause for the same reason, one is logged in so long a time."""


class Sparse:
    """Rate limit of log lines: one of each kind in SPARSE_SECONDS, with the number of those left out before it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds. Kinds are few: they are kept for ever."""
        self._clock = clock
        self._logged: dict[Hashable, float] = {}
        self._left_out: Counter[Hashable] = Counter()

    def admits(self, kind: Hashable) -> int | None:
        """How many lines of this kind were left out since the last one; None: leave this one out too."""
        now = self._clock()
        if kind in self._logged and now - self._logged[kind] < SPARSE_SECONDS:
            self._left_out[kind] += 1
            return None
        self._logged[kind] = now
        return self._left_out.pop(kind, 0)


class SparseFilter(logging.Filter):
    """The same as a filter of the standard library; lines are of one kind if their texts are before formatting."""

    def __init__(self) -> None:
        """All lines so far are forgotten."""
        super().__init__()
        self._sparse = Sparse()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log the record; it then tells how many were left out."""
        left_out = self._sparse.admits(record.msg)
        if left_out:
            record.msg = f"{record.msg} ({left_out} more like it before)"
        return left_out is not None


def configure_logs(settings: ProcessSettings, process: str) -> None:
    """Sets up structlog, and routes the standard library's loggers through it; every line names `process`."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())

    def name_process(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        return {"process": process, **event}

    shared: list[Any] = [
        name_process,
        structlog.contextvars.merge_contextvars,
        tracing.name_trace,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # Rich's would show local variables, among them the keys of callers.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    logging.captureWarnings(True)
    logging.getLogger(process).setLevel(level)
    logging.getLogger("semlink").setLevel(level)
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # semlink.service.otlp logs failed exports, once
