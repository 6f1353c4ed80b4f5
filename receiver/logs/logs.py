"""Logging: structured events through structlog, as lines for people or JSON for machines."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from receiver.logs.escapes import text_of, visible, visible_lines
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import traced

#: Fields of several lines: a traceback, and the stack of a thread.
WITH_LINES = frozenset({"exception", "stack"})

#: What structlog itself puts beside the fields of a library's line.
OF_STRUCTLOG = frozenset({"_record", "_from_structlog"})


class Unfailing:
    """Standard error that loses lines rather than raise: a full disk must not stop the code that logs."""

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


class Seldom(logging.Filter):
    """Lets the first of a library's like warnings through: a stranger can cause the HTTP parser's with every request.

    Lines are alike whose template is the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self._repeats = Repeats(structlog.get_logger(__name__))

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno < logging.WARNING or self._repeats.lets_through(text_of(record.msg), {"by": record.name})


def escape(_: Any, __: str, fields: structlog.types.EventDict) -> structlog.types.EventDict:
    """Make text from outside harmless to the reader of the line, and to the line itself."""
    return {
        visible(name): value if name in OF_STRUCTLOG else _escaped(value, with_lines=name in WITH_LINES)
        for name, value in fields.items()
    }


def _escaped(value: Any, *, with_lines: bool = False) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, dict):
        return {text_of(name): _escaped(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escaped(each) for each in value]
    return visible_lines(value) if with_lines and isinstance(value, str) else text_of(value)


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
        escape,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", Unfailing())),
        # Another level may be set while the program runs.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(Unfailing())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(Seldom())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # httpx logs every request with its URL at info, and alembic its configuration; they would drown everything else.
    for library in ("httpx", "alembic"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))
