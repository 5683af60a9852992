"""Structured logging: readable lines on a terminal, JSON elsewhere."""

import logging
import sys
from typing import Any

import structlog


def configure(*, format: str, level: str) -> None:
    """`format` is auto, json or text. Everything goes to standard error, each line in that one form.

    What others say by the standard library's `logging`, pipelines and libraries, comes from warnings on, with the name
    of its `logger`; so do Python's own warnings.
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    text = format == "text" or (format == "auto" and sys.stderr.isatty())
    # Plain tracebacks in both forms: the richer ones show local variables, which hold people's input.
    renderer: Any = structlog.processors.JSONRenderer()
    if text:
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        *([] if text else [structlog.processors.format_exc_info]),
    ]
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        # In one piece each: a process that is killed leaves no line open for the next one to go on with.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    others = logging.StreamHandler(sys.stderr)
    others.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(), *processors],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=max(logging.WARNING, least), handlers=[others])
    logging.captureWarnings(capture=True)
