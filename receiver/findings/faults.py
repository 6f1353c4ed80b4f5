"""Faults: dead and failing deliveries, grouped by cause. A cause is a reason without its variable parts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    union_all,
)

from receiver.findings.finding import finding_id
from receiver.findings.tables import FINDINGS
from receiver.inbox.tables import ATTEMPTS, DELIVERIES, IDS, ROUNDS, State, has_body, in_state

#: The most deliveries of each kind that are read: the newest dead ones, and those due next.
MOST_LOOKED_AT = 10_000

#: The longest cause, in characters.
LONGEST_CAUSE = 300

VARIES = "…"

#: The rule whose findings are about faults, and the digits that no id of a delivery has.
ONE_CAUSE = "one_cause"
_LONGEST_ID = 20

#: Fewest characters of a cause that are enough to find its deliveries.
SHORTEST_TELLING = 8

#: Variable parts, in this order: quoted text, the status of an HTTP answer (which is kept), words with a digit. Quotes
#: and words are tried at their first character only: trying each of a long word takes a time that grows by the square.
_VARIABLE = re.compile(
    r"""
    (?P<quoted> (?<![\w\\])'(?:[^'\\]|\\.)*'(?!\w) | (?<!\\)"(?:[^"\\]|\\.)*" )
    | (?P<status> answered\ [1-5]\d\d\b )
    | (?P<number> (?: (?<![\w%.:+-]) | (?<=answered\ [1-5]\d\d) ) [\w%.:+-]*\d[\w%:+-]*(?:\.\d[\w%:+-]*)* )
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Deliveries with one cause."""

    source: str
    cause: str
    #: The number of dead deliveries whose bodies are kept, and of those that wait for another attempt.
    dead: int
    waiting: int
    #: The time of the first failure for this cause, and that of the last; a replay does not move the first.
    first: datetime
    last: datetime
    #: The ids of the newest deliveries.
    delivery: int
    #: The complete reason of one delivery, as an example.
    example: str
    #: The time of the next attempt.
    until: datetime | None = None
    #: The most attempts that one of the waiting deliveries has had.
    attempts: int = 0
    #: Whether an attempt of the waiting deliveries fetched data from the source's API, and none reached its handler.
    fetching: bool = False
    #: The release that ran when the fault began, if a tally still has it.
    release: str | None = None

    @property
    def id(self) -> str:
        """An id that is stable for one cause at one source."""
        return hashlib.blake2s(f"{self.source}\n{self.cause}".encode(), digest_size=6).hexdigest()

    @property
    def number(self) -> int:
        return self.dead + self.waiting


@lru_cache(maxsize=4_096)
def cause_of(reason: str) -> str:
    """Strip a reason of the parts that differ between deliveries: quoted values, numbers, ids."""
    return " ".join(_VARIABLE.sub(_struck_out, reason).split())[:LONGEST_CAUSE]


def _struck_out(found: re.Match[str]) -> str:
    return found[0] if found["status"] else VARIES


def telling_part(cause: str, example: str) -> str | None:
    """The longest part of a cause that does not vary, by which a filter finds its deliveries; None without one.

    `example` is the reason of one of them, in which blanks may differ from those of the cause.
    """
    telling = max((part.strip() for part in cause.split(VARIES)), key=len)
    return telling if len(telling) >= SHORTEST_TELLING and telling in example else None


def read_faults(connection: Connection, *, now: datetime) -> list[Fault]:
    """The faults of the newest deliveries that are dead and can be replayed, or wait for another attempt.

    An open finding's fault is among them for as long as its newest delivery is dead, whatever died since. The largest
    fault is the first.
    """
    found = list(grouped([*_dead(connection), *_waiting(connection, now)]))
    found += _hidden(connection, found)
    return sorted(found, key=lambda fault: (-fault.number, fault.source, fault.cause))


def grouped(parts: Iterable[Fault]) -> Iterator[Fault]:
    """Merge faults of one source and cause; `cause` may still be a whole reason in `parts`."""
    together: dict[tuple[str, str], Fault] = {}
    for part in parts:
        part = replace(part, cause=cause_of(part.cause))
        before = together.get((part.source, part.cause))
        together[part.source, part.cause] = part if before is None else _sum(before, part)
    yield from together.values()


def _sum(one: Fault, other: Fault) -> Fault:
    newest = max(one, other, key=lambda fault: fault.delivery)
    dues = [fault.until for fault in (one, other) if fault.until is not None]
    return replace(
        newest,
        dead=one.dead + other.dead,
        waiting=one.waiting + other.waiting,
        first=min(one.first, other.first),
        last=max(one.last, other.last),
        until=min(dues, default=None),
        attempts=max(one.attempts, other.attempts),
        fetching=bool(one.waiting or other.waiting) and all(fault.fetching for fault in (one, other) if fault.waiting),
    )


def _dead(connection: Connection) -> list[Fault]:
    return [
        Fault(
            source,
            reason,
            dead=number,
            waiting=0,
            first=min(filter(None, firsts)),
            last=last,
            delivery=newest_id,
            example=reason,
        )
        for source, reason, number, last, newest_id, *firsts in connection.execute(_DEAD)
    ]


def _hidden(connection: Connection, found: Iterable[Fault]) -> list[Fault]:
    """The faults of open findings that the newest deliveries do not show: another source may have thousands of dead."""
    shown = {fault.id for fault in found}
    open_ones = {row.id: row for row in connection.execute(_FOUND_BEFORE)}
    newest = sorted({_newest_of(row.evidence) for row in open_ones.values()} - {0})
    hidden = []
    for delivery, source, reason, ended_at in connection.execute(_STILL_DEAD, {"ids": newest}) if newest else ():
        fault = Fault(source, cause_of(reason), 1, 0, ended_at, ended_at, delivery, example=reason)
        # Several findings may name one delivery, which died again for another cause.
        row = open_ones.get(finding_id(ONE_CAUSE, source, fault.id))
        if row is not None and fault.id not in shown and _newest_of(row.evidence) == delivery:
            hidden.append(replace(fault, dead=row.evidence["dead"] or 1, first=row.since))
    return hidden


def _newest_of(evidence: Any) -> int:
    """The newest delivery of a finding about dead deliveries; 0 for another finding, or one edited by hand."""
    known = evidence.get("delivery") if isinstance(evidence, dict) and type(evidence.get("dead")) is int else None
    return int(known) if isinstance(known, str) and known.isdecimal() and len(known) < _LONGEST_ID else 0


def _waiting(connection: Connection, now: datetime) -> list[Fault]:
    """The faults of deliveries that have failed and wait for another attempt."""
    found = []
    for *known, until, attempts, hydrated, handled in connection.execute(_WAITING, {"now": now}):
        source, reason, number, first, last, newest = known
        fault = Fault(source, reason, 0, number, first, last, newest, reason, until, attempts)
        found.append(replace(fault, fetching=hydrated is not None and handled is None))
    return found


def with_releases(faults: Sequence[Fault], started: Sequence[tuple[datetime, str]]) -> list[Fault]:
    """The faults, each with the newest of these releases that had started by its beginning."""
    newest_first = sorted(started, reverse=True)

    def named(fault: Fault) -> Fault:
        return replace(fault, release=next((release for at, release in newest_first if at <= fault.first), None))

    return [named(fault) for fault in faults]


# ── the statements, built once ────────────────────────────────────────────────────────────────────────────────────────


def _select_dead() -> Select[Any]:
    """Select the dead deliveries that can be replayed, by source and reason.

    The last columns are times of which the first is that of the first failure for this reason.
    """
    newest = (
        select(
            DELIVERIES.c.id,
            DELIVERIES.c.body_id,
            DELIVERIES.c.source,
            func.coalesce(DELIVERIES.c.reason, "").label("reason"),
            func.coalesce(DELIVERIES.c.ended_at, DELIVERIES.c.received_at, type_=DELIVERIES.c.received_at.type).label(
                "ended_at"
            ),
            _first_before(ATTEMPTS).label("attempted_at"),
            _first_before(ROUNDS).label("round_ended_at"),
        )
        .where(in_state(State.DEAD))
        .order_by(DELIVERIES.c.id.desc())
        .limit(MOST_LOOKED_AT)
        .subquery()
    )
    columns = (newest.c.source, newest.c.reason)
    # Outside of the limit, because years of deliveries without a body would have to be examined inside.
    counted = (func.count(), func.max(newest.c.ended_at), func.max(newest.c.id))
    firsts = (func.min(each) for each in (newest.c.ended_at, newest.c.attempted_at, newest.c.round_ended_at))
    return select(*columns, *counted, *firsts).where(has_body(newest)).group_by(*columns)


def _first_before(kept: Table) -> ColumnElement[datetime | None]:
    """The first end of a kept round or attempt of a dead delivery with the same reason; None without one."""
    first = select(func.min(kept.c.ended_at, type_=kept.c.ended_at.type)).where(
        kept.c.delivery_id == DELIVERIES.c.id, kept.c.reason == DELIVERIES.c.reason
    )
    # Most dead deliveries have failed once, and nothing is looked up for them.
    has_failed_before = or_(DELIVERIES.c.attempts > 1, DELIVERIES.c.round > 1)
    return case((has_failed_before, first.correlate(DELIVERIES).scalar_subquery()))


def _select_waiting() -> Select[Any]:
    """Select the deliveries that wait for another attempt after `now`, by source and reason."""
    due_later = union_all(*(_due_later(suspect) for suspect in (False, True))).subquery()
    columns = (due_later.c.source, due_later.c.reason)
    failed = and_(ATTEMPTS.c.delivery_id == due_later.c.id, ATTEMPTS.c.reason == due_later.c.reason)
    return (
        select(
            *columns,
            func.count(due_later.c.id.distinct()),
            func.min(ATTEMPTS.c.ended_at),
            func.max(ATTEMPTS.c.ended_at),
            func.max(due_later.c.id),
            func.min(due_later.c.due_at),
            func.max(due_later.c.attempts),
            func.max(ATTEMPTS.c.hydrate_us),
            func.max(ATTEMPTS.c.handle_us),
        )
        .join_from(due_later, ATTEMPTS, failed)
        .group_by(*columns)
    )


def _due_later(suspect: bool) -> Select[Any]:
    columns = (DELIVERIES.c.id, DELIVERIES.c.source, DELIVERIES.c.reason, DELIVERIES.c.due_at, DELIVERIES.c.attempts)
    later = DELIVERIES.c.due_at > bindparam("now", type_=DELIVERIES.c.due_at.type)
    wanted = (in_state(State.PENDING), DELIVERIES.c.suspect == literal(suspect), later)
    found = select(*columns).where(*wanted, DELIVERIES.c.reason.is_not(None))
    inner = found.order_by(DELIVERIES.c.due_at).limit(MOST_LOOKED_AT).subquery()
    return select(inner)


_DEAD, _WAITING = _select_dead(), _select_waiting()

_FOUND_BEFORE = select(FINDINGS.c.id, FINDINGS.c.since, FINDINGS.c.evidence).where(
    FINDINGS.c.closed_at.is_(None), FINDINGS.c.rule == ONE_CAUSE
)

_STILL_DEAD = select(DELIVERIES.c.id, DELIVERIES.c.source, DELIVERIES.c.reason, DELIVERIES.c.ended_at).where(
    IDS,
    in_state(State.DEAD),
    DELIVERIES.c.reason.is_not(None),
    DELIVERIES.c.ended_at.is_not(None),
    has_body(DELIVERIES),
)
