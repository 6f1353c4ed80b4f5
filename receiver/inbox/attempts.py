"""Attempts: what is kept of each run of a handler, written with its effect.

Nearly all go well, and those of a batch are alike but for the delivery and the time it took. So they travel as three
numbers each, and what they have in common once: per delivery it is the cheapest statement of a settlement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from time import perf_counter_ns
from typing import Any, NamedTuple

from sqlalchemy import Connection

from receiver.codec import storable
from receiver.database.bulk import insert_mappings, padded, portions, values
from receiver.database.columns import iso_text
from receiver.inbox.tables import ATTEMPTS, State, kept_reason
from receiver.release import release

#: Characters of a traceback that are kept, from its beginning and from its end.
LONGEST_TRACEBACK = 2_000

#: The largest number of microseconds that is kept, about 36 minutes: what its column takes.
MOST_MICROSECONDS = (1 << 31) - 1


@dataclass(slots=True)
class AttemptDetails:
    """What an attempt ran, and how long that took."""

    #: Where the handler is written; None until one is found.
    handler: str | None = None
    #: Microseconds; 0 for what was not done.
    hydrate_us: int = 0
    handle_us: int = 0
    #: Of the error that it failed with.
    traceback: str | None = None


class AttemptResult(NamedTuple):
    """How an attempt ended, to be recorded in the transaction that holds its effect."""

    delivery_id: int
    state: State
    outcome: str | None = None
    reason: str | None = None
    #: When to try again, if the state is pending.
    due_at: datetime | None = None
    #: What the worker read in the body, where that differs from what was known when it was accepted.
    event_type: str | None = None
    entity: tuple[str, str] | None = None
    occurred_at: datetime | None = None
    #: Whether the attempt failed; and which one it was, of which round.
    failed: bool = False
    number: int = 0
    round: int = 1
    #: None for an attempt whose worker did not end it.
    details: AttemptDetails | None = None


def keep(
    connection: Connection, worker: str, results: Sequence[AttemptResult], *, now: datetime, settle_us: int
) -> None:
    """Keep these attempts of the worker."""
    alike: dict[tuple[int, int, str | None], list[tuple[int, int, int]]] = defaultdict(list)
    failed = []
    for result in results:
        details = result.details
        if result.failed:
            failed.append(_failure(result, worker, now, settle_us))
        elif details is not None:
            times = (result.delivery_id, details.hydrate_us, details.handle_us)
            alike[result.round, result.number, details.handler].append(times)
    for (round_number, number, handler), rows in alike.items():
        common = (round_number, number, handler, worker, _release(), now, _bounded(settle_us))
        _insert_alike(connection, common, rows)
    insert_mappings(connection, ATTEMPTS, failed)


def microseconds_since(began: int) -> int:
    """Microseconds since a value of `perf_counter_ns`, at least 1."""
    return max((perf_counter_ns() - began) // 1_000, 1)


def shortened(traceback: str) -> str:
    """Its beginning and its end, if it is long."""
    if len(traceback) <= 2 * LONGEST_TRACEBACK:
        return storable(traceback)
    return storable(f"{traceback[:LONGEST_TRACEBACK]}\n[…]\n{traceback[-LONGEST_TRACEBACK:]}")


def _failure(result: AttemptResult, worker: str, now: datetime, settle_us: int) -> dict[str, Any]:
    details = result.details or AttemptDetails()
    return {
        "delivery_id": result.delivery_id,
        "ended_at": now,
        "round": result.round,
        "number": result.number,
        "worker": worker,
        "failed": True,
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


_COMMON = ("round", "number", "handler", "worker", "release", "ended_at", "settle_us")
_COLUMNS = ", ".join((*_COMMON, "failed", "delivery_id", "hydrate_us", "handle_us"))


def _insert_alike(connection: Connection, common: tuple[Any, ...], rows: list[tuple[int, int, int]]) -> None:
    """Insert attempts that have all in common but delivery, time to hydrate and time to handle."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_POSTGRESQL, (*common, *map(list, zip(*rows, strict=True))))
        return
    round_number, number, handler, worker, its_release, now, settle_us = common
    bound = (round_number, number, handler, worker, its_release, iso_text(now), settle_us)
    for some, size in portions(rows):
        connection.exec_driver_sql(_sqlite(size), (*bound, *padded(some, size, 3)))


# 0 microseconds stand for what was not done.
_POSTGRESQL = (
    f"INSERT INTO attempts ({_COLUMNS}) SELECT %s, %s, %s, %s, %s, %s, %s, false, delivery_id, "  # noqa: S608 (our own names)
    f"nullif(least(hydrate, {MOST_MICROSECONDS}), 0), nullif(least(handle, {MOST_MICROSECONDS}), 0) "
    "FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS given (delivery_id, hydrate, handle)"
)


@cache
def _sqlite(size: int) -> str:
    times = f"nullif(min(column2, {MOST_MICROSECONDS}), 0), nullif(min(column3, {MOST_MICROSECONDS}), 0)"
    return (
        f"INSERT INTO attempts ({_COLUMNS}) SELECT ?, ?, ?, ?, ?, ?, ?, false, column1, {times} "  # noqa: S608 (our own names)
        f"FROM ({values(3, size)})"
    )
