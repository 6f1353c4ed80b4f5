"""Logging: structured events through structlog, as lines for people or JSON for machines."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog

from receiver.logs.escapes import text_of, visible, visible_lines
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import traced
from receiver.logs.standard_error import Unfailing

#: Fields with several lines: a traceback, and the stack of a thread.
WITH_LINES = frozenset({"exception", "stack"})

#: Fields that structlog itself adds to a library's line.
OF_STRUCTLOG = frozenset({"_record", "_from_structlog"})


def _trace_exception(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the traceback. Unlike structlog's own function, this tolerates exceptions whose methods raise."""
    given = event.pop("exc_info", None)
    error = given[1] if type(given) is tuple else sys.exc_info()[1] if given is True else given
    if error is not None and issubclass(type(error), BaseException):
        event["exception"] = traced(error)
    return event


class Seldom(logging.Filter):
    """Lets the first of a library's repeated warnings through, because any stranger can cause those of the HTTP parser.

    Lines with the same template count as repetitions.
    """

    def __init__(self) -> None:
        super().__init__()
        self._repeats = Repeats(structlog.get_logger(__name__))

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno < logging.WARNING or self._repeats.lets_through(text_of(record.msg), {"by": record.name})


def escape(_: Any, __: str, fields: structlog.types.EventDict) -> structlog.types.EventDict:
    """Escape text from outside in all fields of a line."""
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
        # The level may be changed while the program runs.
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
    # At level info, httpx logs every request with its URL, and alembic its configuration, which would hide all other
    # lines.
    for library in ("httpx", "alembic"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))
