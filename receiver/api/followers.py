"""Followers over HTTP: shows their lag and their dead changes, and sends or drops dead changes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta
from sqlalchemy import RowMapping

from receiver.api.actions import IDEMPOTENCY_KEY, WHY
from receiver.api.changes import CHANGE_SEQ
from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Question
from receiver.api.parameters import plain_text
from receiver.api.tokens import Scope
from receiver.errors import BadRequest, ConfigurationError, KeyUsed, NotFound, ReasonWanted, Unavailable
from receiver.following import dead_changes, followers, repair
from receiver.following.dead_changes import DeadState
from receiver.following.followers import is_silent
from receiver.following.lag import MOST_LAG, Lag, lags
from receiver.schemas import Moment, Shape
from receiver.worker.liveness import dead, host_and_pid

#: The most dead changes that are listed.
MOST_DEAD_LISTED = 1_000


#: A member of the answers to repairs.
SERVED = Annotated[bool, Meta(description="Whether a process posts its changes at present; if not, they wait for one.")]


class FollowerShown(Shape, frozen=True):
    """A follower and its lag."""

    name: str
    target: Annotated[str, Meta(description="The URL, without parts that may be secret.")]
    table: Annotated[str | None, Meta(description="Only changes of this table; null for all.")]
    source: Annotated[str | None, Meta(description="Only changes of this source; null for all.")]
    seq: Annotated[int, Meta(description="The number of the last finished change.")]
    behind: Annotated[
        int,
        Meta(
            description="The number of its changes among the next ones of the feed, of which "
            f"{MOST_LAG:,} are examined for all followers together."
        ),
    ]
    behind_seconds: Annotated[
        float,
        Meta(description="The age of the oldest of them; without any, that of the first change behind these."),
    ]
    dead: int
    waiting: Annotated[int, Meta(description="Changes that wait for a dead change of their row, or for a retry.")]
    accepted_at: Annotated[Moment | None, Meta(description="The time at which the target last accepted a change.")]
    process: Annotated[str | None, Meta(description="The process that posts the changes, and whether it is alive.")]
    trouble: Annotated[str | None, Meta(description="The reason why the target accepts no change at present.")]
    trouble_since: Moment | None


class DeadChangeShown(Shape, frozen=True):
    """A change that a follower's target refuses, or that waits behind such a change."""

    follower: str
    seq: int
    table: str
    source: str
    external_id: str
    state: DeadState
    status: Annotated[int | None, Meta(description="The status of the target's answer.")]
    reason: Annotated[str | None, Meta(description="The target's answer.")]
    attempts: int
    since: Moment


class FollowerList(Shape, frozen=True):
    followers: list[FollowerShown]
    dead: Annotated[list[DeadChangeShown], Meta(description=f"The first {MOST_DEAD_LISTED:,}, by follower and number.")]


class DeadChangesRetried(Shape, frozen=True):
    name: str
    retried: int
    served: SERVED


class DeadChangeDropped(Shape, frozen=True):
    name: str
    dropped: int
    served: SERVED


FOLLOWER = plain_text("name", "The name of a follower.")


def show_follower(lag: Lag, now: datetime) -> FollowerShown:
    """Format a follower for the API and the command."""
    row = lag.follower
    return FollowerShown(
        **{name: row[name] for name in ("name", "target", "table", "source", "seq")},
        behind=lag.changes,
        behind_seconds=round(lag.seconds, 1),
        dead=lag.dead,
        waiting=lag.waiting,
        accepted_at=row["accepted_at"],
        process=_process(row, now),
        trouble=row["trouble"],
        trouble_since=row["trouble_since"],
    )


def _process(follower: RowMapping, now: datetime) -> str | None:
    """Describe the process that posts the changes, and whether it is alive; None without a process."""
    holder = follower["holder"]
    if holder is None:
        return None
    if dead([holder]):
        return f"{host_and_pid(holder)}, which has ended"
    if is_silent(follower["seen_at"], now) and follower["seen_at"] > now:
        return f"{host_and_pid(holder)}, last seen at {follower['seen_at']:%Y-%m-%d %H:%M:%S UTC}, in the future"
    if is_silent(follower["seen_at"], now):
        return f"{host_and_pid(holder)}, silent since {follower['seen_at']:%Y-%m-%d %H:%M:%S UTC}"
    return host_and_pid(holder)


def show_dead(row: RowMapping) -> DeadChangeShown:
    """Format a dead change for the API and the command."""
    return DeadChangeShown(**{name: row[name] for name in DeadChangeShown.__struct_fields__})


class Followers:
    """Lists followers, and sends or drops their dead changes: `/api/v1/followers`."""

    def __init__(self, lookup: Lookup) -> None:
        self._database = lookup.database

    def operations(self) -> list[Operation]:
        refusals = (BadRequest, NotFound, KeyUsed, ReasonWanted, Unavailable)
        return [
            Operation(
                name="list_followers",
                path="/api/v1/followers",
                summary="Followers of the change feed, their lag and their dead changes",
                answer=self.list_followers,
                answers={200: FollowerList},
                scope=Scope.READ,
                refusals=(BadRequest, Unavailable),
            ),
            Operation(
                name="retry_dead_changes",
                method="post",
                path="/api/v1/followers/{name}/retry",
                summary="Send the dead changes of a follower again, each followed by the changes that wait for it",
                answer=self.retry,
                answers={200: DeadChangesRetried},
                scope=Scope.OPERATE,
                parameters=(FOLLOWER, WHY, IDEMPOTENCY_KEY),
                refusals=refusals,
            ),
            Operation(
                name="drop_dead_change",
                method="post",
                path="/api/v1/followers/{name}/dead/{seq}/drop",
                summary="Drop a dead change, so that the changes that wait for it are sent",
                answer=self.drop,
                answers={200: DeadChangeDropped},
                scope=Scope.OPERATE,
                parameters=(FOLLOWER, CHANGE_SEQ, WHY, IDEMPOTENCY_KEY),
                refusals=refusals,
            ),
        ]

    def list_followers(self, _: Question) -> FollowerList:
        now = datetime.now(UTC)
        with self._database.read() as connection:
            found = [show_follower(lag, now) for lag in lags(connection, now=now)]
            return FollowerList(
                found, [show_dead(row) for row in dead_changes.listed(connection, limit=MOST_DEAD_LISTED)]
            )

    def retry(self, asked: Question) -> DeadChangesRetried:
        name, how = asked[FOLLOWER] or "", {"reason": asked[WHY], "key": asked[IDEMPOTENCY_KEY]}
        number = _repaired(lambda: repair.retry_dead(self._database, name, by=asked.by, **how))
        return DeadChangesRetried(name, number, self._is_served(name))

    def drop(self, asked: Question) -> DeadChangeDropped:
        name, seq = asked[FOLLOWER] or "", asked[CHANGE_SEQ]
        how = {"reason": asked[WHY], "key": asked[IDEMPOTENCY_KEY]}

        def drop() -> int:
            repair.drop_dead(self._database, name, seq, by=asked.by, **how)
            return seq

        return DeadChangeDropped(name, _repaired(drop), self._is_served(name))

    def _is_served(self, name: str) -> bool:
        with self._database.read() as connection:
            return name in followers.served(connection, datetime.now(UTC))


def _repaired(repaired: Callable[[], int]) -> int:
    """Run the repair, and return its answer. Raises `NotFound` for an unknown follower or change."""
    try:
        return repaired()
    except ConfigurationError as error:
        raise NotFound(str(error)) from None
