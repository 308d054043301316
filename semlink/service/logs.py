"""Structured logs (structlog) on standard error: for people on a terminal, as JSON lines elsewhere."""

import logging
import sys
from typing import Any

import structlog

from semlink.service import tracing
from semlink.service.settings import ProcessSettings


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
