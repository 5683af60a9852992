"""Structured logging: readable lines on a terminal, JSON elsewhere."""

import logging
import sys
from typing import Any

import structlog


def configure(*, format: str, level: str) -> None:
    """`format` is auto, json or text. Everything goes to standard error; libraries' own loggers from warnings on."""
    text = format == "text" or (format == "auto" and sys.stderr.isatty())
    # Plain tracebacks in both forms: the richer ones show local variables, which hold people's input.
    renderer: Any = structlog.processors.JSONRenderer()
    if text:
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            *([] if text else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
