"""The record of findings: when each opened and closed, and who acknowledged it. Kept for a year."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from receiver.codec import storable
from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.findings.finding import Finding
from receiver.findings.tables import FINDINGS
from receiver.runs.actions import Asked, Effect, perform

#: A finding closes when its rule has not found the condition for this time, so that the finding does not flap.
CLOSES_AFTER = timedelta(minutes=3)

#: The retention period of closed findings, and how many of them one transaction drops.
KEPT, RECORDS_AT_ONCE = timedelta(days=365), 500

#: The number of open findings from which on only the first of each rule and source is recorded, a bound for a person
#: who reads them; and the most of one rule and source. No open finding closes because of others.
MOST_OPEN, MOST_OF_A_RULE = 200, 20

_IS_OPEN = FINDINGS.c.closed_at.is_(None)


class Changes(NamedTuple):
    """The findings that an update opened, and those that it closed."""

    opened: list[Finding]
    closed: list[RowMapping]


def update_record(database: Database, found: Sequence[Finding], *, now: datetime) -> Changes:
    """Record these findings: open the new ones, renew the known ones, and close the others."""
    by_id = {finding.id: finding for finding in found}
    return retry_transaction(lambda: _update(database, by_id, now))


def _update(database: Database, by_id: dict[str, Finding], now: datetime) -> Changes:
    with database.write() as connection:
        known = {row["id"]: row for row in connection.execute(select(FINDINGS).where(_IS_OPEN)).mappings()}
        new = list(_within_bounds((each for each in by_id.values() if each.id not in known), known.values()))
        for finding in new:
            connection.execute(insert(FINDINGS).values(id=finding.id, opened_at=now, **_content(finding, now)))
        for finding_id in by_id.keys() & known.keys():
            _set(connection, finding_id, **_content(by_id[finding_id], now, since=known[finding_id]["since"]))
        closed = []
        for row in (row for finding_id, row in known.items() if finding_id not in by_id):
            if row["seen_at"] > now:
                # The time lies ahead, so the clock has been set back since it was written.
                _set(connection, row["id"], seen_at=now)
            elif row["seen_at"] <= now - CLOSES_AFTER:
                _set(connection, row["id"], closed_at=max(now, row["opened_at"]))
                closed.append(row)
    return Changes(new, closed)


def _within_bounds(new: Iterable[Finding], known: Collection[RowMapping]) -> Iterator[Finding]:
    """The new findings that may be recorded beside the open ones."""
    number, of_a_rule = len(known), Counter((row["rule"], row["source"]) for row in known)
    for finding in new:
        before = of_a_rule[finding.rule, finding.source]
        if before and (number >= MOST_OPEN or before >= MOST_OF_A_RULE):
            continue
        number, of_a_rule[finding.rule, finding.source] = number + 1, before + 1
        yield finding


def _content(finding: Finding, now: datetime, since: datetime | None = None) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "source": finding.source,
        # A rule that counts the last hour would otherwise move the beginning later and later.
        "since": finding.since if since is None else min(since, finding.since),
        "says": storable(finding.says),
        "mend": storable(finding.mend),
        "evidence": dict(finding.evidence),
        "seen_at": now,
    }


def _set(connection: Connection, finding_id: str, **values: Any) -> None:
    connection.execute(update(FINDINGS).where(FINDINGS.c.id == finding_id, _IS_OPEN).values(**values))


def acknowledge(database: Database, asked: Asked, finding_id: str, *, now: datetime) -> RowMapping | None:
    """Acknowledge an open finding until it closes, and record the action. None for an unknown or closed one.

    A repeated request gets the finding, which may have closed since.
    """

    def effect(connection: Connection) -> Effect | None:
        noted = update(FINDINGS).where(FINDINGS.c.id == finding_id, _IS_OPEN)
        values = {"acknowledged_at": now, "acknowledged_by": storable(asked.by.who)}
        found = connection.execute(noted.values(**values)).rowcount
        return Effect(1, {"finding": finding_id}, thing="finding", wants_reason=False) if found else None

    done = perform(database, asked, effect, now=now)
    if done is None:
        return None
    found = select(FINDINGS).where(FINDINGS.c.id == finding_id).order_by(FINDINGS.c.opened_at.desc()).limit(1)
    with database.read() as connection:
        return connection.execute(found if done.again else found.where(_IS_OPEN)).mappings().first()


def open_findings(connection: Connection) -> list[RowMapping]:
    """The open findings, oldest first."""
    found = select(FINDINGS).where(_IS_OPEN).order_by(FINDINGS.c.opened_at, FINDINGS.c.id)
    return list(connection.execute(found).mappings())


def open_since(connection: Connection, rules: Collection[str]) -> dict[tuple[str, str], datetime]:
    """The beginnings of the open findings of these rules, by rule and source, for rules with one finding per source."""
    found = select(FINDINGS.c.rule, FINDINGS.c.source, FINDINGS.c.since).where(_IS_OPEN, FINDINGS.c.rule.in_(rules))
    return {(rule, source): since for rule, source, since in connection.execute(found)}


def open_numbers(connection: Connection) -> dict[tuple[str, str], int]:
    """The number of open findings that are not acknowledged, by rule and source."""
    columns = (FINDINGS.c.rule, FINDINGS.c.source)
    counted = select(*columns, func.count()).where(_IS_OPEN, FINDINGS.c.acknowledged_at.is_(None)).group_by(*columns)
    return {(rule, source): number for rule, source, number in connection.execute(counted)}


def closed_findings(connection: Connection, *, limit: int) -> list[RowMapping]:
    """The closed findings, those opened last first."""
    found = select(FINDINGS).where(FINDINGS.c.closed_at.is_not(None))
    newest_first = found.order_by(FINDINGS.c.opened_at.desc(), FINDINGS.c.id).limit(limit)
    return list(connection.execute(newest_first).mappings())


def occurrences(connection: Connection, finding_id: str, *, limit: int) -> list[RowMapping]:
    """The records of one finding, the latest first: a finding opens again if its condition returns."""
    found = select(FINDINGS).where(FINDINGS.c.id == finding_id).order_by(FINDINGS.c.opened_at.desc()).limit(limit)
    return list(connection.execute(found).mappings())


def prune(database: Database, now: datetime) -> int:
    """Drop one batch of closed findings past their retention, and return their number."""
    expired = (
        select(FINDINGS.c.id, FINDINGS.c.opened_at)
        .where(FINDINGS.c.opened_at < now - KEPT, FINDINGS.c.closed_at.is_not(None))
        .order_by(FINDINGS.c.opened_at)
        .limit(RECORDS_AT_ONCE)
    )
    with database.read() as connection:
        rows = connection.execute(expired).all()
    if rows:
        retry_transaction(lambda: _delete(database, rows))
    return len(rows)


def _delete(database: Database, rows: Iterable[Any]) -> None:
    with database.write() as connection:
        for row in rows:
            connection.execute(delete(FINDINGS).where(FINDINGS.c.id == row.id, FINDINGS.c.opened_at == row.opened_at))
