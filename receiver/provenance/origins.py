"""Origins: the delivery or reconcile that brought a value, read from the arrival number in its version."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, select

from receiver.inbox.ids import arrived
from receiver.inbox.tables import DELIVERIES, IDS
from receiver.mirror.versions import Version
from receiver.moments import EPOCH
from receiver.provenance.candidates import Candidates


class Bringer(StrEnum):
    """The kinds of origins."""

    DELIVERY = "delivery"
    RECONCILE = "reconcile"
    #: A delivery or a reconcile, older than every delivery that is kept.
    FORGOTTEN = "forgotten"


class Origin(NamedTuple):
    """The origin of a value."""

    kind: Bringer
    #: The delivery's id; None for a reconcile.
    delivery_id: int | None
    event_type: str | None
    #: When the delivery arrived; for a reconcile, when its list was requested.
    arrived_at: datetime
    #: The run that repaired the row with it, where it is known.
    run: int | None = None


def origins_of(
    connection: Connection, source: str, versions: Iterable[Version], candidates: Candidates
) -> dict[int, Origin]:
    """The origins of the versions of one row, by arrival."""
    by_arrival = {version.arrival: version for version in versions}
    known = {row.id: row for row in connection.execute(_KNOWN, {"ids": sorted(by_arrival)}) if row.source == source}
    oldest = connection.execute(select(func.min(DELIVERIES.c.id))).scalar()
    return {
        arrival: _of_delivery(known[arrival]) if arrival in known else _of_what_is_not_kept(version, candidates, oldest)
        for arrival, version in by_arrival.items()
    }


def _of_delivery(row: Row[Any]) -> Origin:
    return Origin(Bringer.DELIVERY, row.id, row.event_type, row.received_at)


def _of_what_is_not_kept(version: Version, candidates: Candidates, oldest: int | None) -> Origin:
    moment = EPOCH + timedelta(microseconds=arrived(version.arrival))
    if version.arrival in candidates.changed_it:
        return Origin(Bringer.DELIVERY, version.arrival, None, moment)
    # Deliveries are dropped in the order of ids, so an unknown id above the oldest kept one was never a delivery.
    is_reconcile = version.time in candidates.repaired_by or (oldest is not None and version.arrival > oldest)
    kind = Bringer.RECONCILE if is_reconcile else Bringer.FORGOTTEN
    return Origin(kind, None, None, moment, candidates.repaired_by.get(version.time))


_KNOWN = select(*DELIVERIES.c["id", "source", "event_type", "received_at"]).where(IDS)
