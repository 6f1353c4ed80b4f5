"""Event types without a handler: each is logged once, because a misspelt event type looks like an unwanted one."""

from __future__ import annotations

import structlog

from receiver.ingest.paths import SHOWN_OF_NAME
from receiver.ingest.source import VerifiableSource
from receiver.likeness import likely_event_type
from receiver.metrics.few_names import MOST_TYPES, OTHERS, TEST_EVENT_TYPE, Names

log = structlog.get_logger(__name__)

_told = Names(MOST_TYPES)


def tell_unhandled(source: VerifiableSource, event_type: str) -> None:
    """Log the first delivery of this source and event type; past `MOST_TYPES` of them, one line for all others."""
    if event_type == TEST_EVENT_TYPE:
        return
    name, is_first = _told.known(source.name, event_type)
    if not is_first:
        return
    shown = "and others" if name == OTHERS else name[:SHOWN_OF_NAME]
    close = likely_event_type(event_type, tuple(source.dialect.event_types))
    perhaps = {"perhaps": close} if close is not None else {}
    log.warning(
        "no handler takes an event type: its deliveries are kept as ignored",
        source=source.name,
        event_type=shown,
        **perhaps,
    )
