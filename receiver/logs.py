"""Logging: structured events through structlog, as lines for people or JSON for machines."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from receiver.telling import traced


class Unfailing:
    """Standard error that loses lines rather than raise: a full disk must not stop whoever has something to say."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def _trace_exception(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put the traceback into the line. Not as structlog does: an exception whose parts raise would keep it out."""
    given = event.pop("exc_info", None)
    error = given[1] if type(given) is tuple else sys.exc_info()[1] if given is True else given
    if error is not None and issubclass(type(error), BaseException):
        event["exception"] = traced(error)
    return event


def configure(level: str, form: str) -> None:
    """Log to standard error from `level` up, as "console" lines or as "json". The libraries' logs join ours."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _trace_exception,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", Unfailing())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(Unfailing())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # httpx logs every request with its URL at info, and alembic how it is made; they would drown everything else.
    for library in ("httpx", "alembic"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))
