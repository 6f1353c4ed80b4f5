"""Overlap: finds other replays of the same deliveries, which make a plan's forecast wrong once they are fed."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Connection, RowMapping, bindparam, exists, func, or_, select

from receiver.database.columns import UtcDateTime
from receiver.database.damage import read_choice
from receiver.inbox.rounds import Cause
from receiver.inbox.tables import ROUNDS
from receiver.logs.wording import counted
from receiver.runs.actions import ACTIONS
from receiver.runs.tables import OVER, RUN_DELIVERIES, RUNS, RunState

#: The most other runs that are named, and the most deliveries in common that are counted.
MOST_OVERLAPPING, MOST_IN_COMMON = 10, 10_000


class Overlap(NamedTuple):
    """An unfinished run, and the number of deliveries that it has in common with another run."""

    run: int
    state: RunState
    #: The number, at most `MOST_IN_COMMON`.
    deliveries: int

    def as_json(self) -> dict[str, Any]:
        """Format the overlap for the API and `--json`."""
        return {"run": str(self.run), "state": self.state, "deliveries": self.deliveries, "says": self.says()}

    def says(self) -> str:
        """Format the overlap as a sentence."""
        number = "more than " * (self.deliveries == MOST_IN_COMMON) + counted(self.deliveries, "delivery")
        return (
            f"Run {self.run}, which is {self.state}, has {number} of this one, too: once one of the two has replayed "
            "them, the plan of the other is outdated."
        )


def overlapping(connection: Connection, run: RowMapping) -> list[Overlap]:
    """The other unfinished runs with deliveries of this run, newest first; an empty list for a finished run."""
    if run["state"] in OVER:
        return []
    others = select(RUNS.c.id, RUNS.c.state).where(
        RUNS.c.kind == run["kind"], RUNS.c.id != run["id"], RUNS.c.state.not_in([state.value for state in OVER])
    )
    newest = connection.execute(others.order_by(RUNS.c.id.desc()).limit(MOST_OVERLAPPING)).all()
    shared = [(each, connection.execute(_SHARED, {"run": run["id"], "other": each.id}).scalar_one()) for each in newest]
    return [Overlap(each.id, read_choice(RunState, each.state), number) for each, number in shared if number]


def replayed_since(connection: Connection, run: RowMapping) -> str | None:
    """How many deliveries of a planned run were replayed since its plan was begun, and by whom; None without any."""
    parameters = {"run": run["id"], "since": run["planned_at"]}
    if connection.execute(_ANY_REPLAY, parameters).first() is None:
        return None
    found = connection.execute(_REPLAYED, parameters).first()
    if found is None:
        return None
    who = found.who or "a person" if found.by is None else f"run {found.by}"
    were = "was" if found.number == 1 else "were"
    return (
        f"{counted(found.number, 'delivery')} of run {run['id']} {were} replayed by {who} since this plan, so its "
        "forecast no longer applies: plan it again."
    )


_RUN: BindParameter[Any] = bindparam("run")

_SINCE = bindparam("since", type_=UtcDateTime())

_OTHER = RUN_DELIVERIES.alias("others")

_SHARED = select(func.count()).select_from(
    select(RUN_DELIVERIES.c.delivery_id)
    .join(_OTHER, _OTHER.c.delivery_id == RUN_DELIVERIES.c.delivery_id)
    .where(RUN_DELIVERIES.c.run == _RUN, _OTHER.c.run == bindparam("other"))
    .limit(MOST_IN_COMMON)
    .subquery()
)

#: The action that began the plan. Later actions have larger numbers, even if the clock was set back since.
_PLANNED = select(func.min(ACTIONS.c.id)).where(ACTIONS.c.run == _RUN).scalar_subquery()

#: Whether any delivery was replayed since. The query is quick, and the whole set is examined only if so.
_ANY_REPLAY = (
    select(RUNS.c.id)
    .where(
        or_(
            exists().where(
                RUNS.c.kind == "replay",
                RUNS.c.id != _RUN,
                RUNS.c.started_at.is_not(None),
                or_(RUNS.c.ended_at.is_(None), RUNS.c.ended_at > _SINCE),
            ),
            exists().where(ACTIONS.c.what == "replay", ACTIONS.c.at > _SINCE),
            exists().where(ACTIONS.c.what.in_(("replay", "start run")), ACTIONS.c.id > _PLANNED),
        )
    )
    .limit(1)
)

#: A start of the run that began a round.
_STARTS = ACTIONS.alias("starts")

_BEGAN_SINCE = or_(
    ROUNDS.c.began_at > _SINCE,
    ACTIONS.c.id > _PLANNED,
    exists().where(_STARTS.c.run == ROUNDS.c.run, _STARTS.c.what == "start run", _STARTS.c.id > _PLANNED),
)

#: The run or the person that replayed most of the set since.
_REPLAYED = (
    select(ROUNDS.c.run.label("by"), ACTIONS.c.who, func.count().label("number"))
    .select_from(RUN_DELIVERIES)
    .join(ROUNDS, ROUNDS.c.delivery_id == RUN_DELIVERIES.c.delivery_id)
    .outerjoin(ACTIONS, ACTIONS.c.id == ROUNDS.c.action)
    .where(RUN_DELIVERIES.c.run == _RUN, ROUNDS.c.cause == Cause.REPLAY.value, _BEGAN_SINCE)
    .group_by(ROUNDS.c.run, ACTIONS.c.who)
    .order_by(func.count().desc())
    .limit(1)
)
