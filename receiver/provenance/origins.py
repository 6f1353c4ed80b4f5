"""Origins: the delivery or reconcile that brought a value, read from the arrival number in its version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, Row, bindparam, func, select

from receiver.database.columns import Many, among
from receiver.inbox.ids import arrived
from receiver.inbox.tables import DELIVERIES, IDS
from receiver.mirror.versions import Version, microseconds
from receiver.moments import EPOCH
from receiver.provenance.candidates import Candidates, RecordedChange
from receiver.runs.tables import RUNS


class Bringer(StrEnum):
    """The kinds of origins."""

    DELIVERY = "delivery"
    RECONCILE = "reconcile"
    #: A delivery or a reconcile, older than every delivery that is kept.
    FORGOTTEN = "forgotten"


class OriginRun(NamedTuple):
    """The run that brought news, with the person who started it and the reason."""

    id: int
    #: `reconcile`, or `repair` for a single row.
    kind: str
    started_by: str | None
    reason: str | None


class Origin(NamedTuple):
    """The origin of a value."""

    kind: Bringer
    #: The delivery's id; None for a reconcile.
    delivery_id: int | None
    event_type: str | None
    #: The time of arrival; for a reconcile or a repair, the time at which the source was asked.
    arrived_at: datetime
    #: The run, for a reconcile or a repair; None if no change of the row names it.
    run: OriginRun | None = None


def origins_of(
    connection: Connection, source: str, versions: Iterable[Version], candidates: Candidates
) -> dict[int, Origin]:
    """Find the origins of the versions of one row, by arrival."""
    by_arrival = {version.arrival: version for version in versions}
    known = {row.id: row for row in connection.execute(_KNOWN, {"ids": sorted(by_arrival)}) if row.source == source}
    oldest = connection.execute(select(func.min(DELIVERIES.c.id))).scalar()
    others = [version for arrival, version in by_arrival.items() if arrival not in known]
    let_in = {version.arrival: _change_of(version, candidates.changes) for version in others}
    runs = _runs(connection, [change.run for change in let_in.values() if change is not None])
    told = {arrival: _of_delivery(row) for arrival, row in known.items()}
    for version in others:
        change = let_in[version.arrival]
        run = None if change is None or change.run is None else runs.get(change.run)
        told[version.arrival] = _of_what_is_not_kept(version, candidates, oldest, change is not None, run)
    return told


def _of_delivery(row: Row[Any]) -> Origin:
    return Origin(Bringer.DELIVERY, row.id, row.event_type, row.received_at)


def _of_what_is_not_kept(
    version: Version, candidates: Candidates, oldest: int | None, is_let_in: bool, run: OriginRun | None
) -> Origin:
    moment = EPOCH + timedelta(microseconds=arrived(version.arrival))
    if version.arrival in candidates.changed_it:
        return Origin(Bringer.DELIVERY, version.arrival, None, moment)
    # Deliveries are dropped in the order of ids, so an unknown id above the oldest kept one was never a delivery.
    is_reconcile = is_let_in or (oldest is not None and version.arrival > oldest)
    return Origin(Bringer.RECONCILE if is_reconcile else Bringer.FORGOTTEN, None, None, moment, run)


def _change_of(version: Version, changes: Sequence[RecordedChange]) -> RecordedChange | None:
    """The first change without a delivery that was recorded with this news, by the time of the version.

    Changes recorded before the window of this news opened cannot belong to it.
    """
    opened = EPOCH + timedelta(microseconds=arrived(version.arrival))
    of_its_time = [
        change for change in changes if change.delivery_id is None and microseconds(change.changed_at) == version.time
    ]
    after = [change for change in of_its_time if change.recorded_at >= opened]
    return min(after or of_its_time, key=lambda change: change.seq, default=None)


def _runs(connection: Connection, numbers: Iterable[int | None]) -> dict[int, OriginRun]:
    wanted = sorted({number for number in numbers if number is not None})
    if not wanted:
        return {}
    return {row.id: OriginRun(*row) for row in connection.execute(_RUNS, {"ids": wanted})}


_KNOWN = select(*DELIVERIES.c["id", "source", "event_type", "received_at"]).where(IDS)

_RUNS = select(*RUNS.c["id", "kind", "started_by", "reason"]).where(
    among(RUNS.c.id, bindparam("ids", type_=Many(BigInteger)))
)
