"""States: finds the two objects of a captured body that hold a row of a database before and after its change.

Programs that read the log of a database, or its triggers, send such bodies. One without the later state is a delete.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from receiver.drafting.ids import CERTAIN_IDS, ID_NAMES
from receiver.drafting.naming import snake_case, words_in
from receiver.drafting.search import Member, first_member, is_id, is_name

#: The levels of a body that are searched for the two states.
DEEPEST_STATE = 3

#: Names of the later and the earlier state.
_PAIRS = frozenset(
    {
        *(("after", "before"), ("new", "old"), ("record", "old_record"), ("new_record", "old_record")),
        *(("new_image", "old_image"), ("new_row", "old_row"), ("new_data", "old_data"), ("current", "previous")),
    }
)

#: Names of the members that hold the table of the row, the likeliest first.
_TABLES = ("table", "table_name", "collection", "entity", "model", "resource", "object")

#: Names of the objects beside the states that may hold it.
_SOURCES = frozenset({"source", "meta", "metadata"})


@dataclass(frozen=True, slots=True)
class States:
    """The two states of a changed row."""

    after: Member
    before: Member
    #: The member that names the table of the row.
    table: Member | None
    #: The objects around the states, the innermost first, each with its path.
    around: list[tuple[tuple[str, ...], Mapping[str, Any]]]

    @property
    def known(self) -> Member:
        """The state that the capture has: the later one, unless the row was deleted."""
        return self.after if self.after.value else self.before


def states_in(document: Mapping[str, Any]) -> States | None:
    """Find the states of a row in the object of one event; None for an event without them."""
    for path, holder in _objects(document, (), DEEPEST_STATE):
        names = {snake_case(name): name for name in holder}
        for pair in sorted(_PAIRS):
            if not names.keys() >= {*pair}:
                continue
            after, before = (Member((*path, names[each]), holder[names[each]]) for each in pair)
            if _is_state(after.value) and _is_state(before.value) and (after.value or before.value):
                around = [(path[:length], _inside(document, path[:length])) for length in range(len(path), -1, -1)]
                # An object with an id of its own is the changed one, and the states are those of a part of it.
                if not any(first_member(inner, CERTAIN_IDS, depth=1) for where, inner in around if where):
                    return States(after, before, _table_in(around), around)
    return None


def _objects(
    document: Mapping[str, Any], path: tuple[str, ...], depth: int
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    yield path, document
    for name, value in document.items() if depth > 1 else ():
        if isinstance(value, dict):
            yield from _objects(value, (*path, name), depth - 1)


def _inside(document: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        document = document[name]
    return document


def _is_state(value: Any) -> bool:
    """Whether a value is a row, which has an id, or the state of a row that there is not."""
    if value is None:
        return True
    names = [snake_case(name) for name in value if is_id(value[name])] if isinstance(value, dict) else []
    return any(name in ID_NAMES or words_in(name)[-1] in ("id", *ID_NAMES) for name in names if name)


def _table_in(around: list[tuple[tuple[str, ...], Mapping[str, Any]]]) -> Member | None:
    """Find the name of the table: beside the states, in an object there about the source, or further out."""
    for path, holder in around:
        inner = [(name, value) for name, value in holder.items() if isinstance(value, dict)]
        for wanted in _TABLES:
            for name, value in holder.items():
                if snake_case(name) == wanted and is_name(value):
                    return Member((*path, name), value)
            for name, value in inner:
                found = value.get("name") if snake_case(name) == wanted else value.get(wanted)
                if is_name(found) and (snake_case(name) == wanted or snake_case(name) in _SOURCES):
                    return Member((*path, name, "name" if snake_case(name) == wanted else wanted), found)
    return None
