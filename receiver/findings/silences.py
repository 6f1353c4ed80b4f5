"""Silences: what the rules about silence need to know of the past of each source."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from receiver.findings import tallies
from receiver.findings.counting import WATCHED
from receiver.findings.record import open_since
from receiver.findings.rules.silence import ALL_SOURCES, SILENCE_DAYS, all_sources_silent, source_silent
from receiver.findings.situation import RECENT, Silence
from receiver.findings.tallies import MINUTE
from receiver.inbox.tables import DELIVERIES

#: Minutes without a delivery, an endpoint running, after which a source's history is read.
QUIET_MINUTES = 10


def read_silences(connection: Connection, names: Collection[str], now: datetime) -> Iterator[tuple[str, Silence]]:
    """The silence of each source that has sent nothing for some minutes."""
    arrivals = tallies.last_arrivals(connection, names, now)
    for name in names:
        last = arrivals.get(name)
        if last is None:
            yield name, Silence((), 0)
            continue
        watched = len(tallies.minutes_of(connection, "", (WATCHED,), last, now)) if now - last > RECENT / 6 else 0
        if watched > QUIET_MINUTES:
            yield name, Silence(list(_arrivals(connection, name, now)), watched)


def _arrivals(connection: Connection, name: str, now: datetime) -> Iterator[datetime]:
    """The minutes in which something came, oldest first."""
    since = now - timedelta(days=SILENCE_DAYS)
    tallied = tallies.minutes_of(connection, name, ("accepted", "duplicate"), since, now)
    yield from tallied
    # The last tallies of a killed process are never written.
    newest = newest_arrival(connection, name)
    if newest is not None and newest >= (tallied[-1] + MINUTE if tallied else since):
        yield newest.replace(second=0, microsecond=0)


def silences_that_last(connection: Connection, names: Collection[str], now: datetime) -> dict[str, datetime]:
    """The beginnings of the silences that open findings name, if nothing has come since, by source or `ALL_SOURCES`."""
    found = open_since(connection, [source_silent.__name__, all_sources_silent.__name__])
    if not found:
        return {}
    heard = tallies.last_arrivals(connection, names, now)

    def lasts(name: str, since: datetime) -> bool:
        if heard.get(name, since) > since or since > now:
            return False
        # Deliveries outlive the tallies.
        delivery = newest_arrival(connection, name)
        return delivery is None or delivery < since + MINUTE

    return {
        source: since
        for (_, source), since in found.items()
        if (source == ALL_SOURCES or source in names)
        and all(lasts(name, since) for name in (names if source == ALL_SOURCES else [source]))
    }


def newest_arrival(connection: Connection, name: str) -> datetime | None:
    """The arrival of the newest delivery of a source; None without one."""
    newest = select(DELIVERIES.c.received_at).where(DELIVERIES.c.source == name).order_by(DELIVERIES.c.id.desc())
    at: datetime | None = connection.execute(newest.limit(1)).scalar()
    return at
