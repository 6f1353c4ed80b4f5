"""Drops finished runs, plans and actions as old as the oldest dedup keys, in small batches.

A paused run stays until somebody resumes or cancels it, because it was started.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, select, tuple_, update

from receiver.database.columns import UtcDateTime
from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.runs.actions import ACTIONS
from receiver.runs.tables import OVER, RUN_DELIVERIES, RUN_ROWS, RUNS, RunState

#: The most rows of one transaction, and the most rows of a forecast, because each may hold a large document twice.
DROP_BATCH, FORECAST_ROWS_BATCH = 500, 20


def drop_old(database: Database, *, before: datetime) -> int:
    """Drop a small batch of runs and actions older than `before`, and return the number of rows; 0 if none is left.

    Those that another session holds, such as another process that drops them, are left to it.
    """
    with database.read() as connection:
        old = [connection.execute(each, {"before": before}).first() for each in (_OLD_PLAN, _OLD_RUN, _OLD_ACTION)]
    if not any(old):
        return 0
    return retry_transaction(lambda: _drop(database, before))


def _drop(database: Database, before: datetime) -> int:
    with database.write() as connection:
        # A plan that has lost a part must not be started. Its end is dated back, so that it counts as an old run.
        plans = connection.execute(_OLD_PLANS, {"before": before}).scalars().all()
        if plans:
            connection.execute(_CANCEL.where(RUNS.c.id.in_(plans)))
        run = connection.execute(_FREE_OLD_RUN, {"before": before}).scalar()
        if run is None:
            actions = connection.execute(_OLD_ACTIONS, {"before": before}).scalars().all()
            return connection.execute(delete(ACTIONS).where(ACTIONS.c.id.in_(actions))).rowcount
        return _drop_run(connection, run)


def _drop_run(connection: Connection, run: int) -> int:
    """Drop a batch of the run's deliveries and rows, and the run itself once they are gone."""
    items = select(RUN_DELIVERIES.c.delivery_id).where(RUN_DELIVERIES.c.run == run)
    some = items.order_by(RUN_DELIVERIES.c.delivery_id).limit(DROP_BATCH)
    ids = connection.execute(some).scalars().all()
    if ids:
        gone = delete(RUN_DELIVERIES).where(RUN_DELIVERIES.c.run == run, RUN_DELIVERIES.c.delivery_id <= ids[-1])
        return connection.execute(gone).rowcount
    foreseen = select(*_ROW_KEY).where(RUN_ROWS.c.run == run).limit(FORECAST_ROWS_BATCH)
    keys = [tuple(key) for key in connection.execute(foreseen)]
    if keys:
        of_run = delete(RUN_ROWS).where(RUN_ROWS.c.run == run, tuple_(*_ROW_KEY).in_(keys))
        return connection.execute(of_run).rowcount
    return connection.execute(delete(RUNS).where(RUNS.c.id == run)).rowcount


_ROW_KEY = [RUN_ROWS.c[name] for name in ("table", "source", "external_id")]

_BEFORE = bindparam("before", type_=UtcDateTime())

_IS_OLD_PLAN = RUNS.c.state.in_([RunState.PLANNING.value, RunState.PLANNED.value]), RUNS.c.planned_at < _BEFORE

_OLD_PLAN = select(RUNS.c.id).where(*_IS_OLD_PLAN).limit(1)

_OLD_PLANS = _OLD_PLAN.limit(DROP_BATCH).order_by(RUNS.c.id).with_for_update(skip_locked=True)

_CANCEL = update(RUNS).values(state=RunState.CANCELLED.value, ended_at=RUNS.c.planned_at, fed_by=None, fed_until=None)

_OLD_RUN = (
    select(RUNS.c.id)
    .where(RUNS.c.state.in_([state.value for state in OVER]), RUNS.c.ended_at < _BEFORE)
    .order_by(RUNS.c.id)
    .limit(1)
)

_FREE_OLD_RUN = _OLD_RUN.with_for_update(skip_locked=True)

_OLD_ACTION = select(ACTIONS.c.id).where(ACTIONS.c.at < _BEFORE).order_by(ACTIONS.c.id).limit(1)

_OLD_ACTIONS = _OLD_ACTION.limit(DROP_BATCH).with_for_update(skip_locked=True)
