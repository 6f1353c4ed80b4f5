"""Bundles: finds the list of events in a captured body that holds several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from receiver.drafting.ids import id_in
from receiver.drafting.members import event_type_in, guess_envelope, is_event_type
from receiver.drafting.naming import words_in
from receiver.drafting.search import VERB

#: The levels of a body that are searched for a list of events.
DEEPEST_LIST = 4

#: Words in the names of lists of events.
_LISTS = frozenset({"events", "notifications", "changes", "messages", "value", "records", "items"})

#: Words in the names of members with an event type.
_SAYS_EVENT = frozenset({"event", "action", "topic"})


def items_in(document: Any) -> tuple[tuple[str, ...], Sequence[Any]] | None:
    """Find the list of events in a body: its path, which is empty if the body itself is the list, and its items.

    Returns None for a body with one event.
    """
    if isinstance(document, list):
        return (), document
    has_type = event_type_in(document) is not None
    if has_type and id_in(document) is not None:
        return None
    level: list[tuple[tuple[str, ...], Mapping[str, Any]]] = [((), document)]
    for _ in range(DEEPEST_LIST):
        lists = [each for path, value in level for each in _lists_in(path, value, is_strict=has_type)]
        if lists or has_type:
            return lists[0] if len(lists) == 1 else None
        level = [
            ((*path, name), inner) for path, value in level for name, inner in value.items() if isinstance(inner, dict)
        ]
    return None


def _lists_in(
    path: tuple[str, ...], document: Mapping[str, Any], *, is_strict: bool
) -> Iterator[tuple[tuple[str, ...], Sequence[Any]]]:
    """Yield the lists of events in an object. With `is_strict`, only a list with a usual name is one."""
    for name, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            is_usual = not path and not _LISTS.isdisjoint(words_in(name))
            if (is_usual and _may_be_an_event(value[0])) or (not is_strict and _is_an_event(value[0])):
                yield (*path, name), value


def _may_be_an_event(item: Mapping[str, Any]) -> bool:
    envelope = guess_envelope(item)
    return envelope.event_type is not None or envelope.time is not None


def _is_an_event(item: Mapping[str, Any]) -> bool:
    """Whether an item names an event, and its time or its id: a line of an order, for example, does not."""
    envelope = guess_envelope(item)
    if envelope.event_type is None or (envelope.time is None and envelope.key is None):
        return False
    named = not _SAYS_EVENT.isdisjoint(words_in(envelope.event_type.path[-1]))
    text = envelope.event_type.value
    return named or is_event_type(text) or VERB.fullmatch(text) is not None
