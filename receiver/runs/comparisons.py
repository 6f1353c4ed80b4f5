"""What the latest reconcile of each source came to, for who judges whether its webhooks suffice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, select

from receiver.runs.tables import RUNS, RunState

#: How long a reconcile says something about today, and how many runs are looked at for it.
TELLING, MOST_RUNS = timedelta(days=7), 1_000


class Comparison(NamedTuple):
    """A source and its mirror, compared."""

    source: str
    at: datetime
    compared: int
    wrong: int


def latest_comparisons(connection: Connection, now: datetime) -> Iterator[Comparison]:
    """Those of the last days, one for each source that had been reconciled before.

    The first reconcile of a source fills its mirror with what there was before any webhook, so what it repairs says
    nothing about webhooks.
    """
    found = (
        select(RUNS.c.sources, RUNS.c.ended_at, RUNS.c.total, RUNS.c.tally)
        .where(RUNS.c.kind == "reconcile", RUNS.c.state == RunState.DONE.value)
        .order_by(RUNS.c.id.desc())
        .limit(MOST_RUNS)
    )
    latest: dict[str, Comparison] = {}
    told: set[str] = set()
    for row in connection.execute(found):
        (source,) = row.sources
        if source not in latest:
            wrong = row.tally.get("repaired", 0) + row.tally.get("braked", 0)
            latest[source] = Comparison(source, row.ended_at, row.total, wrong)
        elif source not in told:
            told.add(source)
            if now - latest[source].at < TELLING:
                yield latest[source]
