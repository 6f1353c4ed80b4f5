"""Provenance over HTTP: explains rows, and lists the changes of a delivery."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from receiver.api.deliveries import ID, no_delivery
from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.pages import NEXT
from receiver.api.parameters import CURSOR, LIMIT, table_in_path
from receiver.api.tokens import Scope
from receiver.codec import plain
from receiver.database.damage import read_choice
from receiver.errors import BadRequest, NotFound, Unavailable
from receiver.inbox.tables import State
from receiver.mirror.rows import Key, MirrorRow, table_name
from receiver.mirror.versions import Rank, Version
from receiver.provenance import telling
from receiver.provenance.origins import Bringer, Origin
from receiver.provenance.traces import NO_VALUE, Defeat, Loss
from receiver.provenance.why import Checked, Explain, Reason, Why, not_in_force
from receiver.schemas import Moment, Shape
from receiver.search.changes import Change, follow_changes, show_change
from receiver.search.filters import ChangeFilter
from receiver.search.replayable import unknown_ids
from receiver.worker.trial import Obstacle

#: The most unprocessed deliveries that are shown.
MOST_NOT_IN_FORCE = 20

#: Seconds that a request waits for the previous one, because only one at a time may run handlers.
TURN_SECONDS = 2.0

# ── schemas ───────────────────────────────────────────────────────────────────────────────────────────────────────


class ValueOrigin(Shape, frozen=True):
    """The origin of a value."""

    kind: Annotated[Bringer, Meta(description="`forgotten`: older than every delivery that is kept.")]
    delivery: Annotated[str | None, Meta(description="The id of the delivery.")]
    event_type: str | None
    arrived_at: Annotated[Moment, Meta(description="The arrival; for a reconcile or repair, the time of the request.")]
    run: Annotated[str | None, Meta(description="The run that brought it, for a reconcile or a repair.")]
    run_kind: Annotated[str | None, Meta(description="`reconcile` or `repair`.")]


class LostValue(Shape, frozen=True):
    """The last different news that lost against a value."""

    value: Any
    absent: Annotated[bool, Meta(description="Whether the news was a document without this member.")]
    changed_at: Annotated[Moment, Meta(description="At the source.")]
    delivery: str
    how: Annotated[
        Defeat,
        Meta(description="`overtaken`: it was the previous value; `stale`: newer news was there; `tie`: equal times."),
    ]


class UnreadValue(Shape, frozen=True):
    """A value in the source's object with the name of an empty column, which the column could not hold."""

    path: Annotated[str, Meta(description="The path of the value, such as `data.price`.")]
    value: Any


class WhyColumn(Shape, frozen=True):
    """The explanation of a column, or of a member of a document."""

    column: Annotated[str, Meta(description="`price`; for a member `data.price`.")]
    value: Annotated[
        Any,
        Meta(description="Null for a document whose members follow one by one, the first 200."),
    ]
    changed_at: Annotated[Moment, Meta(description="The time of the news, at the source.")]
    rank: Annotated[str, Meta(description="The rank among news of one time: `delete` beats `update` beats `absent`.")]
    origin: ValueOrigin
    lost: LostValue | None
    check: Annotated[
        Checked,
        Meta(
            description="Whether running the deliveries again gives this value; `recorded`: its origin cannot be run, "
            "but the recorded change has this value."
        ),
    ]
    because: Annotated[str | None, Meta(description="The reason why that is unknown, or the difference.")]
    tie: Annotated[bool, Meta(description="Whether only the order of arrival decided the value.")]
    unread: Annotated[UnreadValue | None, Meta(description="The value that an empty column could not hold.")]


class LostWithParent(Shape, frozen=True):
    """The news that made a row inactive through its parent."""

    external_id: Annotated[str, Meta(description="The parent.")]
    changed_at: Moment
    origin: ValueOrigin


class NotInForce(Shape, frozen=True):
    """A delivery about the row that was never processed."""

    id: str
    event_type: str | None
    occurred_at: Moment | None
    state: State
    reason: str | None


class NotRun(Shape, frozen=True):
    """Deliveries that could not be run again."""

    obstacle: Obstacle
    deliveries: int
    newest: str


class WhyRow(Shape, frozen=True):
    """The explanation of a row."""

    table: str
    source: str
    external_id: str
    asked_at: Moment
    active: bool
    changed_at: Moment
    deactivated_at: Moment | None
    damage: Annotated[str | None, Meta(description="What is damaged in the row, and what repairs it.")]
    askable: Annotated[bool, Meta(description="Whether the source can be asked for the row.")]
    check: Annotated[Checked, Meta(description="Whether the row equals the result of its kept deliveries.")]
    says: Annotated[list[str], Meta(description="The explanation in sentences.")]
    columns: list[WhyColumn]
    differing: Annotated[
        list[str], Meta(description="Columns and members in which the deliveries differ from the row.")
    ]
    lost_with_parent: LostWithParent | None
    not_in_force: Annotated[list[NotInForce], Meta(description="Newest first, at most 20.")]
    ran: Annotated[int, Meta(description="Deliveries that were run again.")]
    not_run: list[NotRun]
    milliseconds: float


class ChangesOfDelivery(Shape, frozen=True):
    items: Annotated[list[Change], Meta(description="In commit order.")]
    next: Annotated[str | None, Meta(description=NEXT)]


def show_why(why: Why) -> WhyRow:
    """Format the explanation of a row for the API."""
    row, obstacles = why.row, why.recomputation.obstacles
    return WhyRow(
        table=table_name(row.key.table),
        source=row.key.source,
        external_id=row.key.external_id,
        asked_at=why.asked_at,
        active=row.active,
        changed_at=row.changed_at,
        deactivated_at=row.deactivated_at,
        damage=row.damage,
        askable=why.is_askable,
        check=telling.overall(why),
        says=telling.sentences(why),
        columns=[_show_reason(each) for each in why.reasons],
        differing=why.differing,
        lost_with_parent=_show_parted(why),
        not_in_force=[
            NotInForce(str(each.id), each.event_type, each.occurred_at, read_choice(State, each.state), each.reason)
            for each in not_in_force(why.candidates)[:MOST_NOT_IN_FORCE]
        ],
        ran=len(why.recomputation.ran),
        not_run=[
            NotRun(kind, number, str(max(id_ for id_, (each, _) in obstacles.items() if each is kind)))
            for kind, number in telling.obstacles(why).most_common()
        ],
        milliseconds=round(why.recomputation.seconds * 1_000, 3),
    )


def _show_reason(reason: Reason) -> WhyColumn:
    return WhyColumn(
        column=reason.path,
        value=_shown(reason.path, reason.value),
        changed_at=reason.version.moment,
        rank=Rank(reason.version.rank).name.lower(),
        origin=_show_origin(reason.origin),
        lost=None if reason.lost is None else _show_loss(reason.lost),
        check=reason.check,
        because=reason.because,
        tie=reason.is_tie,
        unread=None if reason.unread is None else UnreadValue(*reason.unread),
    )


def _show_loss(lost: Loss) -> LostValue:
    absent = lost.value is NO_VALUE
    return LostValue(
        value=None if absent else plain(lost.value),
        absent=absent,
        changed_at=lost.version.moment,
        delivery=str(lost.version.arrival),
        how=lost.how,
    )


def _show_origin(origin: Origin) -> ValueOrigin:
    delivery = None if origin.delivery_id is None else str(origin.delivery_id)
    run = None if origin.run is None else str(origin.run.id)
    kind = None if origin.run is None else origin.run.kind
    return ValueOrigin(origin.kind, delivery, origin.event_type, origin.arrived_at, run, kind)


def _show_parted(why: Why) -> LostWithParent | None:
    if why.lost_with_parent is None:
        return None
    version: Version = why.lost_with_parent[0]
    assert why.row.parent is not None
    return LostWithParent(why.row.parent.external_id, version.moment, _show_origin(why.lost_with_parent[1]))


def _shown(path: str, value: Any) -> Any:
    """Format the value; None for a document whose members are shown one by one."""
    return None if isinstance(value, dict) and value and "." not in path else plain(value)


# ── parameters ────────────────────────────────────────────────────────────────────────────────────────────────────

WHY_SOURCE = Parameter("source", {"type": "string"}, "The name of a source.", str, "")
WHY_ID = Parameter("external_id", {"type": "string"}, "The id at the source; its slashes as %2F.", str, "")


class Provenance:
    """Explains rows, and lists the changes of a delivery."""

    def __init__(self, lookup: Lookup, tables: Mapping[str, type[MirrorRow]], explain: Explain) -> None:
        self._lookup = lookup
        self._explain = explain
        self._tables = tables
        self._table = table_in_path(tables)
        self._turn = threading.Lock()

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="explain_row",
                path="/api/v1/catalog/{table}/{source}/{external_id:path}/why",
                summary="The provenance of a row of {table}: the origin of each value, and the news that lost",
                answer=self.explain,
                by_table={name: {200: WhyRow} for name in self._tables},
                scope=Scope.READ,
                parameters=(self._table, WHY_SOURCE, WHY_ID),
                refusals=(BadRequest, NotFound, Unavailable),
            ),
            Operation(
                name="list_changes_of_delivery",
                path="/api/v1/deliveries/{id}/changes",
                summary="The rows and columns that one delivery changed",
                answer=self.changes,
                answers={200: ChangesOfDelivery},
                scope=Scope.READ,
                parameters=(ID, CURSOR, LIMIT),
                refusals=(BadRequest, NotFound, Unavailable),
            ),
        ]

    def explain(self, asked: Question) -> WhyRow:
        """Explain a row by running its deliveries again. Raises `NotFound`, and `Unavailable` if it must wait."""
        source, external_id = asked[WHY_SOURCE], asked[WHY_ID]
        key = Key(self._tables[asked[self._table]], source, external_id)
        if not self._turn.acquire(timeout=TURN_SECONDS):
            raise Unavailable("Another request is running handlers, one at a time: ask again in a moment.")
        try:
            why = self._explain(self._lookup.database, key)
        finally:
            self._turn.release()
        if why is None:
            raise self._lookup.no_row(source, external_id)
        return show_why(why)

    def changes(self, asked: Question) -> ChangesOfDelivery:
        """List the changes of one delivery. Raises `NotFound` for a delivery that is not kept and changed nothing."""
        database, wanted = self._lookup.database, ChangeFilter(delivery=asked[ID])
        listed = self._lookup.listed_in("changes of a delivery", wanted)
        bounds = self._lookup.bounds(self._lookup.cursors.read(listed, asked[CURSOR]), asked[LIMIT])
        page = follow_changes(database, wanted, show_change, bounds).listing
        if not page.items and unknown_ids(database, [asked[ID]]):
            raise no_delivery(str(asked[ID]))
        return ChangesOfDelivery(page.items, self._lookup.cursors.write(listed, page.next))
