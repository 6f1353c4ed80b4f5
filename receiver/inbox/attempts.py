"""Attempts: the record of each run of a handler, written in the transaction of its effect.

Nearly all attempts succeed, and a row for each would be the largest cost of rounds to a worker. So the successful
attempts of a settlement share one row, a few numbers each; a failed attempt has a row of its own.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from time import perf_counter_ns
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, RowMapping, bindparam, select

from receiver.codec import storable
from receiver.database.bulk import insert_mappings
from receiver.database.damage import damage_of
from receiver.inbox.documents import AttemptGroup
from receiver.inbox.tables import ATTEMPTS, SETTLEMENTS, State, kept_reason
from receiver.release import release

#: The most characters of a traceback that are kept from its beginning, and from its end.
LONGEST_TRACEBACK = 2_000

#: Settlements per query.
SETTLEMENTS_AT_ONCE = 20

#: The largest duration that the columns hold, in microseconds: about 36 minutes.
MOST_MICROSECONDS = (1 << 31) - 1


class AttemptDetails(Struct):
    """The handler of an attempt, and the durations of its steps."""

    #: The handler as `module.function`; None until one is found.
    handler: str | None = None
    #: Microseconds; 0 for a step that did not run.
    hydrate_us: int = 0
    handle_us: int = 0
    #: The traceback of the error that failed the attempt.
    traceback: str | None = None


class AttemptResult(Struct, frozen=True):
    """The result of an attempt, to be recorded in the transaction of its effect."""

    delivery_id: int
    state: State
    outcome: str | None = None
    reason: str | None = None
    #: The time of the next attempt, if the state is pending.
    due_at: datetime | None = None
    #: Values that the worker read in the body, if one of them differs from the recorded one.
    event_type: str | None = None
    entity: tuple[str, str] | None = None
    occurred_at: datetime | None = None
    #: Whether the attempt failed; below, its round and its number.
    failed: bool = False
    number: int = 0
    round: int = 1
    #: None for an attempt that its worker never ended.
    details: AttemptDetails | None = None

    @property
    def of_the_delivery(self) -> tuple[object, ...]:
        """The values that are written into the delivery's row; one statement writes equal ones."""
        return self.state, self.outcome, self.reason, self.due_at, self.event_type, self.entity, self.occurred_at


def keep(
    connection: Connection, worker: str, results: Sequence[AttemptResult], *, now: datetime, settle_us: int
) -> None:
    """Record these attempts of the worker."""
    alike: dict[tuple[str | None, int, int], list[tuple[int, int, int]]] = defaultdict(list)
    failed = []
    for result in results:
        details = result.details
        if result.failed:
            failed.append(_failure(result, worker, now, settle_us))
        elif details is not None:
            times = (result.delivery_id, details.hydrate_us, details.handle_us)
            alike[details.handler, result.round, result.number].append(times)
    if alike:
        groups = [_group(*common, members) for common, members in alike.items()]
        insert_mappings(connection, SETTLEMENTS, [_settlement(groups, worker, now, settle_us)])
    insert_mappings(connection, ATTEMPTS, failed)


def history(
    connection: Connection, delivery_id: int, ends: Mapping[datetime, int], *, most: int
) -> list[dict[str, Any]]:
    """Read the newest attempts of a delivery, at most `most`, and return them oldest first.

    `ends` are the ends of its rounds, each with the round's number, by which the settlements with its successful
    attempts are found.
    """
    failed = connection.execute(_FAILED, {"id": delivery_id, "most": most}).mappings()
    found = [{**row, "failed": True} for row in failed]
    found += _good(connection, delivery_id, ends)
    return sorted(found, key=lambda each: (each["ended_at"], each["round"], each["number"]))[-most:]


def microseconds_since(began: int) -> int:
    """Microseconds since a value of `perf_counter_ns`, at least 1."""
    return (perf_counter_ns() - began) // 1_000 or 1


def shortened(traceback: str) -> str:
    """Shorten a long traceback to its beginning and its end."""
    if len(traceback) <= 2 * LONGEST_TRACEBACK:
        return storable(traceback)
    return storable(f"{traceback[:LONGEST_TRACEBACK]}\n[…]\n{traceback[-LONGEST_TRACEBACK:]}")


def _group(
    handler: str | None, round_number: int, number: int, members: Sequence[tuple[int, int, int]]
) -> AttemptGroup:
    deliveries, hydrate_us, handle_us = (list(column) for column in zip(*members, strict=True))
    return AttemptGroup(
        handler=handler,
        round=round_number,
        number=number,
        deliveries=deliveries,
        hydrate_us=hydrate_us if any(hydrate_us) else [],
        handle_us=handle_us,
    )


def _settlement(groups: list[AttemptGroup], worker: str, now: datetime, settle_us: int) -> dict[str, Any]:
    return {
        "ended_at": now,
        "id": secrets.randbits(63),
        "worker": worker,
        "release": _release(),
        "settle_us": _bounded(settle_us),
        "attempts": groups,
    }


def _failure(result: AttemptResult, worker: str, now: datetime, settle_us: int) -> dict[str, Any]:
    details = result.details or AttemptDetails()
    return {
        "delivery_id": result.delivery_id,
        "ended_at": now,
        "round": result.round,
        "number": result.number,
        "worker": worker,
        "reason": kept_reason(result.reason) or "no reason was given",
        "handler": details.handler,
        "release": None if result.details is None else _release(),
        "hydrate_us": _bounded(details.hydrate_us) or None,
        "handle_us": _bounded(details.handle_us) or None,
        "settle_us": _bounded(settle_us) or None,
        "traceback": details.traceback,
    }


@cache
def _release() -> str:
    return release()


def _bounded(microseconds: int) -> int:
    return min(microseconds, MOST_MICROSECONDS)


def _good(connection: Connection, delivery_id: int, ends: Mapping[datetime, int]) -> Iterator[dict[str, Any]]:
    """The successful attempts of a delivery."""
    # A few per query, because each settlement holds the attempts of a whole batch.
    settlements = connection.execute(
        _SETTLED, {"ends": list(ends)}, execution_options={"yield_per": SETTLEMENTS_AT_ONCE}
    )
    for settlement in settlements.mappings():
        damage = damage_of(settlement["attempts"])
        if damage is not None:
            yield _lost_attempt(settlement, damage, ends[settlement["ended_at"]])
            continue
        for group in settlement["attempts"]:
            if delivery_id in group["deliveries"]:
                yield _good_attempt(settlement, group, group["deliveries"].index(delivery_id))


def _good_attempt(settlement: RowMapping, group: AttemptGroup, place: int) -> dict[str, Any]:
    return _succeeded(settlement) | {
        **{name: group[name] for name in ("handler", "round", "number")},
        # A slice, because a list that was edited by hand may be shorter.
        "hydrate_us": sum(group["hydrate_us"][place : place + 1]) or None,
        "handle_us": sum(group["handle_us"][place : place + 1]) or None,
    }


def _lost_attempt(settlement: RowMapping, damage: str, round_number: int) -> dict[str, Any]:
    """The attempt that a damaged settlement must have held, since a round ended with it."""
    lost = {"handler": None, "round": round_number, "number": 1, "hydrate_us": None, "handle_us": None}
    return _succeeded(settlement) | lost | {"reason": f"Its record is damaged. {damage}"}


def _succeeded(settlement: RowMapping) -> dict[str, Any]:
    known = {name: settlement[name] for name in ("ended_at", "worker", "release", "settle_us")}
    return known | {"failed": False, "reason": None, "traceback": None}


_FAILED = (
    select(ATTEMPTS)
    .where(ATTEMPTS.c.delivery_id == bindparam("id"))
    .order_by(ATTEMPTS.c.ended_at.desc(), ATTEMPTS.c.round.desc(), ATTEMPTS.c.number.desc())
    .limit(bindparam("most"))
)

_SETTLED = select(SETTLEMENTS).where(SETTLEMENTS.c.ended_at.in_(bindparam("ends", expanding=True)))
