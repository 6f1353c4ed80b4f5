"""A row: the origin of each value, the answer of its source, and a timeline of its changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from receiver.api.ask import AskedRow
from receiver.api.catalog import Tables
from receiver.api.operations import Parameter
from receiver.api.parameters import number
from receiver.api.provenance import WhyColumn, WhyRow
from receiver.codec import decode
from receiver.console.asked_source import AnsweredQuestion, answered_question
from receiver.console.decoders import decoded
from receiver.console.page import Button, ConsolePage, written_part
from receiver.console.timeline import MOST_ENTRIES, TimelineEntry, timeline
from receiver.console.visit import Visit
from receiver.errors import NotFound, Unavailable
from receiver.logs.wording import counted
from receiver.mirror.versions import AHEAD
from receiver.schemas import Moment
from receiver.search.changes import Change

#: The id of the action that asked the source. The page shows the answer that it recorded.
ASKED: Parameter[int | None] = Parameter(
    "asked", {"type": "string"}, "The action that asked the source.", number("asked"), None
)

PATH_OF_A_ROW = "/mirror/{table}/{source}/{external_id:path}"

#: Columns of every row, which the page shows in its first sentences.
SHARED = frozenset({"source", "external_id", "active", "changed_at", "deactivated_at", "tie"})


class HeldRow(msgspec.Struct, frozen=True):
    """The columns that every row has."""

    source: str
    external_id: str
    active: bool
    changed_at: Moment
    deactivated_at: Moment | None
    tie: bool


class RowWithHistory(msgspec.Struct, frozen=True):
    """A row of any table, with its newest changes."""

    row: msgspec.Raw
    history: list[Change]


class RowShown(NamedTuple):
    """The values for the template."""

    table: str
    source: str
    external_id: str
    #: None if the mirror does not have the row.
    held: HeldRow | None
    #: The values of the table's other columns, by name.
    values: dict[str, Any]
    why: WhyRow | None
    #: The reason for which `why` is missing; empty if it is present.
    why_not: str
    #: Warnings, which stand above the values.
    notes: list[str]
    asked: AnsweredQuestion | None
    timeline: list[TimelineEntry]
    #: Whether there are entries before these. Their number is unknown, because the history is itself the newest part.
    has_earlier: bool


def show_row(visit: Visit) -> RowShown:
    """One row, or the page of a row that the mirror does not have. Raises `NotFound` for an unknown table."""
    table, source, external_id = (visit.path[name] for name in ("table", "source", "external_id"))
    if table not in visit.ask(Tables, "list_tables").tables:
        raise NotFound(f"The mirror has no table {table[:64]!r}: choose one on the page Mirror.")
    found = _found(visit)
    why, why_not = _why(visit) if found is not None else (None, "")
    history = found.history if found is not None else []
    held = None if found is None else decoded(HeldRow, found.row)
    entries = timeline(history, why)
    return RowShown(
        table=table,
        source=source,
        external_id=external_id,
        held=held,
        values={} if found is None else _own_values(found.row),
        why=why,
        why_not=why_not,
        notes=[*_notes(why)],
        asked=answered_question(visit, visit.value(ASKED), why, history),
        timeline=entries[:MOST_ENTRIES],
        has_earlier=len(entries) > MOST_ENTRIES,
    )


def path_of_row(table: str, source: str, external_id: str, **query: str) -> str:
    """The path of a row's page below the console."""
    path = "/".join(written_part(part) for part in (table, source, external_id))
    return f"/mirror/{path}" + (f"?{urlencode(query)}" if query else "")


def _found(visit: Visit) -> RowWithHistory | None:
    try:
        return visit.ask(RowWithHistory, "show_row", **visit.path)
    except NotFound:
        return None


def _why(visit: Visit) -> tuple[WhyRow | None, str]:
    """The provenance of the row; or None and the reason, so that the page shows the values without it."""
    try:
        return visit.ask(WhyRow, "explain_row", **visit.path), ""
    except Unavailable as error:
        return None, error.message


def _own_values(row: msgspec.Raw) -> dict[str, Any]:
    return {name: value for name, value in decode(bytes(row)).items() if name not in SHARED}


def _notes(why: WhyRow | None) -> Iterator[str]:
    if why and why.damage:
        yield why.damage
        return
    for column in why.columns if why else ():
        if column.tie:
            yield f"{column.column}: two deliveries with the same time of change disagreed; the later arrival won."
        if _is_misdated(column):
            yield f"{column.column}: dated in the future by its source, so no newer news can win; a reconcile mends it."
    if why and why.differing:
        yield f"The kept deliveries, run again, say something else about {', '.join(why.differing)}."
    if why and why.lost_with_parent:
        yield f"This row is not active because {why.lost_with_parent.external_id}, which it belongs to, lost its rows."


def _is_misdated(column: WhyColumn) -> bool:
    return column.changed_at > column.origin.arrived_at + AHEAD


def _asked_at(_: Visit, answer: AskedRow) -> str:
    """The path of the row's page with the answer of the source."""
    return path_of_row(answer.table, answer.source, answer.external_id, asked=answer.action)


def _says_asked(answer: AskedRow) -> str:
    if answer.again:
        return "This form was sent before, and nothing was asked now: this is its answer. Ask again for a new one."
    return "The source has answered."


def _says_repaired(answer: AskedRow) -> str:
    if answer.again:
        return "This form was sent before, and nothing was done now: this is its answer."
    if not answer.repaired:
        return "The source has answered, and nothing was written."
    return f"The source has answered. {counted(answer.repaired, 'row')} changed."


PAGES = (
    ConsolePage(
        name="row",
        path=PATH_OF_A_ROW,
        title="A row",
        template="row.html",
        operation="show_row",
        command="hookmirror row {table} {source} {external_id}",
        show=show_row,
        parameters=(ASKED,),
        runs_handlers=True,
    ),
)

BUTTONS = (
    Button(
        name="ask_source",
        path=f"{PATH_OF_A_ROW}/ask",
        label="Ask the source",
        operation="ask_source",
        command="hookmirror ask {table} {source} {external_id}",
        says=_says_asked,
        then=_asked_at,
    ),
    Button(
        name="repair_row",
        path=f"{PATH_OF_A_ROW}/repair",
        label="Repair this row",
        operation="repair_row",
        command="hookmirror ask {table} {source} {external_id} --repair",
        confirms="The source is asked again, and its answer is written unless the mirror has newer news by then.",
        says=_says_repaired,
        then=_asked_at,
        fields=("reason",),
    ),
)
