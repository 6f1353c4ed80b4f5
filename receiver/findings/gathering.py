"""Reads the situation from the database. Each statement is bounded by minutes, by rows, or by an index."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, func, literal, select, union_all

from receiver.database.database import Database
from receiver.database.errors import LOCK_HELD
from receiver.database.shared_results import SharedResult
from receiver.dialects.sources import Source
from receiver.findings import faults, tallies
from receiver.findings.counting import LATE, RUNNING
from receiver.findings.faults import Fault
from receiver.findings.finding import Finding
from receiver.findings.rules import findings
from receiver.findings.signature_histories import read_signatures
from receiver.findings.silences import read_silences, silences_that_last
from receiver.findings.situation import (
    RECENT,
    Followed,
    LockedDeliveries,
    Reconciled,
    RunningProcess,
    Situation,
    SourceFacts,
    Start,
    StillRun,
    Unhandled,
    total,
)
from receiver.findings.tallies import MINUTE, Tallied
from receiver.inbox import refused
from receiver.inbox.ids import first_id_at
from receiver.inbox.inbox import Inbox
from receiver.inbox.locked import LONGEST_LOCKED_PAUSE, read_locked_reason
from receiver.inbox.tables import DELIVERIES, State, has_body, in_state
from receiver.likeness import likely_event_type
from receiver.metrics.few_names import OTHERS
from receiver.mirror.versions import AHEAD

#: Periods to look back: for ignored deliveries, for ignored ones that have a handler now, and for releases that ran.
DAY, MONTH, WHAT_RAN = timedelta(days=1), timedelta(days=30), timedelta(days=2)

#: How long before a run began the events may have arrived that it did not date back, because they were handled later.
LATELY_ARRIVED = timedelta(minutes=10)

#: The number of deliveries at which counting stops.
MOST_WANTED, MOST_LOCKED_COUNTED = 1_000, 1_000

#: How long ago a delivery that waits for a lock may have become due, and how many pending deliveries are read for such.
LATELY_DUE, MOST_DUE_READ = timedelta(minutes=1), 5_000

#: The webhooks of the last hour from which the rules are evaluated once for all readers of a moment.
MANY_WEBHOOKS = 5_000


class Examination(NamedTuple):
    """The results of the rules."""

    findings: list[Finding]
    #: The number of webhooks that were accepted in the last hour.
    webhooks: int

    @property
    def is_large(self) -> bool:
        return self.webhooks >= MANY_WEBHOOKS


@dataclass(frozen=True, slots=True)
class Facts:
    """The inputs of the rules that the calling process knows without the tables read here."""

    sources: Mapping[str, Source]
    max_body_bytes: int
    max_backlog_seconds: float
    running: Callable[[Connection, datetime], Sequence[RunningProcess]]
    #: The results of recent reconciles.
    reconciles: Callable[[Connection, datetime], Sequence[Reconciled]] = lambda *_: ()
    #: The beginnings of the latest runs that dated news back since a moment, by source.
    dated_back: Callable[[Connection, datetime], Mapping[str, datetime]] = lambda *_: {}
    #: The followers of the change feed.
    followers: Callable[[Connection, datetime], Sequence[Followed]] = lambda *_: ()
    #: The runs at work that make no progress.
    still_runs: Callable[[Connection, datetime], Sequence[StillRun]] = lambda *_: ()
    #: The latest examination, for readers who ask at the same time.
    shared: SharedResult[Examination] = field(
        default_factory=lambda: SharedResult(is_large=lambda found: found.is_large), compare=False
    )


def examine(database: Database, facts: Facts, *, now: datetime) -> list[Finding]:
    """Evaluate the rules on the present situation. Writes nothing. Raises SQLAlchemy's error."""
    return _examined(database, facts, now).findings


def examine_shared(
    database: Database, facts: Facts, *, now: datetime, recorded: Collection[str]
) -> tuple[list[Finding], datetime]:
    """As `examine`, with the time of the examination: while many webhooks arrive, readers share one for a moment.

    Only readers with the same open findings on record (`recorded`, their ids) share one, because a live page is fetched
    when that record changes. Raises `Unavailable`, too, if another thread takes long to examine.
    """
    found, at = facts.shared.get(lambda: _examined(database, facts, now), now=now, state=frozenset(recorded))
    return found.findings, at


def _examined(database: Database, facts: Facts, now: datetime) -> Examination:
    situation = gather(database, facts, now=now)
    return Examination(list(findings(situation)), total(situation.tallied(None, "accepted")))


def gather(database: Database, facts: Facts, *, now: datetime) -> Situation:
    """Read the situation."""
    # Read before the transaction below, because with a single connection two reads cannot overlap.
    oldest_due = Inbox(database).oldest_due_seconds(facts.sources, now=now)
    with database.read() as connection:
        recent = tallies.between(connection, now - RECENT, now)
        starts = _starts(connection, now)
        kept = {each.source: each.number for each in refused.totals(connection)}
        past = read_signatures(connection, facts.sources, recent, kept, now)
        return Situation(
            now,
            sources={name: _facts_of(source) for name, source in facts.sources.items()},
            recent=recent,
            signatures=past.signatures,
            secrets_since=past.secrets_since,
            secret_uses=past.secret_uses,
            silences=dict(read_silences(connection, facts.sources, now)),
            silent_since=silences_that_last(connection, facts.sources, now),
            processes=facts.running(connection, now),
            starts=starts,
            faults=_faults(connection, starts, now),
            oldest_due_seconds=oldest_due,
            max_backlog_seconds=facts.max_backlog_seconds,
            max_body_bytes=facts.max_body_bytes,
            kept=kept,
            unhandled=list(_unhandled(connection, facts.sources, now - DAY, now)),
            wanted=list(_wanted(connection, facts.sources, now)),
            reconciles=facts.reconciles(connection, now),
            dated_back=dict(_dated_back(connection, facts, recent, now)),
            followers=facts.followers(connection, now),
            still_runs=facts.still_runs(connection, now),
            locked=list(_locked(connection, now)),
        )


def _dated_back(
    connection: Connection, facts: Facts, recent: Sequence[Tallied], now: datetime
) -> Iterator[tuple[str, datetime]]:
    """The moments before which misdated events need nothing any more, for the sources with such events."""
    last = {each.source: each.at for each in recent if each.kind == "misdated"}
    runs = facts.dated_back(connection, now - RECENT) if last else {}
    for name in last.keys() & runs.keys():
        began, counted = runs[name], last[name]
        if counted + MINUTE <= began:
            yield name, began
        # A tally is written up to a minute after its event, so it may count events from before the run.
        elif counted >= began + LATE or _is_dated_ahead(connection, name, began, counted + LATE):
            yield name, min(began, counted)
        else:
            yield name, counted + MINUTE


def _is_dated_ahead(connection: Connection, source: str, began: datetime, until: datetime) -> bool:
    """Whether an event that arrived before `until`, and was not handled before `began`, is dated a day after that."""
    ended = DELIVERIES.c.ended_at
    found = select(DELIVERIES.c.id).where(
        DELIVERIES.c.source == source,
        DELIVERIES.c.id >= first_id_at(began - LATELY_ARRIVED),
        DELIVERIES.c.id < first_id_at(until),
        DELIVERIES.c.occurred_at > began + AHEAD,
        ended.is_(None) | (ended >= began),
    )
    return connection.execute(found.limit(1)).first() is not None


def read_faults(database: Database, *, now: datetime) -> list[Fault]:
    """Read the faults, each with the release that ran when it began."""
    with database.read() as connection:
        return _faults(connection, _starts(connection, now), now)


def _facts_of(source: Source) -> SourceFacts:
    credentials = source.credentials
    is_scheduled = source.settings.reconcile is not None
    return SourceFacts(source.name, len(credentials.secrets), credentials.has_names, is_scheduled, credentials.marks)


def _faults(connection: Connection, starts: Sequence[Start], now: datetime) -> list[Fault]:
    found = faults.read_faults(connection, now=now)
    return faults.with_releases(found, [(start.at, start.release) for start in starts])


def _starts(connection: Connection, now: datetime) -> list[Start]:
    """The releases and wirings that started within `WHAT_RAN`, newest first."""
    rows = tallies.details(connection, [""], RUNNING, now - WHAT_RAN, now)
    first = min((row.first for row in rows), default=now)
    starts = [Start(row.first, row.detail.partition(" ")[0], row.first > first) for row in rows]
    return sorted(starts, key=lambda start: start.at, reverse=True)


def _locked(connection: Connection, now: datetime) -> Iterator[LockedDeliveries]:
    """The deliveries that wait for a lock of another session, by source.

    After each try it is due again in a moment, so those due in a moment or since a moment are read.
    """
    by_source: dict[str, list[tuple[datetime, int, str]]] = defaultdict(list)
    for row in connection.execute(_WAIT_FOR_LOCK, {"after": now - LATELY_DUE, "until": now + LONGEST_LOCKED_PAUSE}):
        known = read_locked_reason(row.reason)
        if known is not None:
            lock, since = known
            by_source[row.source].append((since, row.id, lock))
    for source, waiting in by_source.items():
        since, first, lock = min(waiting)
        yield LockedDeliveries(source, len(waiting), first, since, lock)


def _unhandled(
    connection: Connection, sources: Mapping[str, Source], after: datetime, now: datetime
) -> Iterator[Unhandled]:
    rows = tallies.details(connection, list(sources), "unhandled", after, now)
    order = list(sources)
    for row in sorted(rows, key=lambda row: order.index(row.source)):
        dialect = sources[row.source].dialect
        handler = None if row.detail == OTHERS else dialect.handler_for(row.detail)
        named = handler.name if handler is not None else None
        likely = None
        if named is None and row.detail != OTHERS:
            likely = likely_event_type(row.detail, tuple(dialect.event_types))
        yield Unhandled(row.source, row.detail, row.number, row.first, row.last, named, likely)


def _wanted(connection: Connection, sources: Mapping[str, Source], now: datetime) -> Iterator[Unhandled]:
    """Event types whose deliveries were ignored without a handler, and for which a handler exists now."""
    for each in _unhandled(connection, sources, now - MONTH, now):
        if each.handler is None:
            continue
        newest = (
            select(DELIVERIES.c.id, DELIVERIES.c.body_id)
            .where(
                in_state(State.IGNORED),
                DELIVERIES.c.source == each.source,
                DELIVERIES.c.event_type == each.event_type,
                DELIVERIES.c.id >= first_id_at(each.first - LATE),
                # The reason may also name the event type that was perhaps meant.
                DELIVERIES.c.reason.startswith(f"No handler takes {each.event_type}.", autoescape=True),
            )
            .order_by(DELIVERIES.c.id.desc())
            .limit(MOST_WANTED)
            .subquery()
        )
        number = connection.execute(select(func.count()).select_from(newest).where(has_body(newest))).scalar_one()
        if number:
            yield Unhandled(each.source, each.event_type, number, each.first, each.last, each.handler)


def _wait_for_lock() -> Select[Any]:
    columns = DELIVERIES.c["id", "source", "reason"]
    time = DELIVERIES.c.due_at.type
    due = DELIVERIES.c.due_at.between(bindparam("after", type_=time), bindparam("until", type_=time))
    pending = select(*columns).where(in_state(State.PENDING), DELIVERIES.c.suspect == literal(False), due)
    pending = select(pending.order_by(DELIVERIES.c.due_at.desc()).limit(MOST_DUE_READ).subquery())
    found = union_all(pending, select(*columns).where(in_state(State.PROCESSING))).subquery()
    return select(found).where(found.c.reason.startswith(LOCK_HELD)).order_by(found.c.id).limit(MOST_LOCKED_COUNTED)


#: Selects the deliveries that wait for a lock.
_WAIT_FOR_LOCK = _wait_for_lock()
