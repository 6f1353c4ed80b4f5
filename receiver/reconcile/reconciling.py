"""Walks through a whole list without a run, for forecasts and for tests of a dialect's list."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

from receiver.database.database import Database
from receiver.dialects.sources import Source
from receiver.errors import ConfigurationError
from receiver.reconcile.mark import Mark, new_mark
from receiver.reconcile.question import Asking
from receiver.reconcile.report import Report
from receiver.reconcile.walk import Walk

#: Called with the number of rows read so far.
RowsRead = Callable[[int], None]


def reconcile(
    database: Database,
    source: Source,
    *,
    dry_run: bool = False,
    force: bool = False,
    progress: RowsRead = lambda _: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Report:
    """Walk through the source's list to its end, comparing and repairing page by page.

    Raises `ConfigurationError` for a source without a list or an API, and `ApiError` if the list cannot be read.
    """
    check_listing(source)
    with closing(Asking(source, clock)) as asking:
        mark = new_mark(source.name, now=clock(), force=force, plan=dry_run, alone=True)
        return _to_the_end(Walk(database, source, asking, clock=clock), mark, progress)


def date_back(
    database: Database,
    source: Source,
    *,
    dry_run: bool = False,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Report:
    """Date back misdated rows, the first stage of a reconcile. Needs no list."""
    mark = new_mark(source.name, now=clock(), plan=dry_run, only_misdated=True, alone=True)
    return _to_the_end(Walk(database, source, None, clock=clock), mark, lambda _: None)


def check_listing(source: Source) -> None:
    """Raise `ConfigurationError` for a source without a list."""
    if source.dialect.listing_of is None:
        raise ConfigurationError(
            f"The dialect {source.dialect.name} has no list of its source to compare with: write one with "
            f"@{source.dialect.name}.listing(…)."
        )


def _to_the_end(walk: Walk, mark: Mark, progress: RowsRead) -> Report:
    report = Report(mark.source, mark.began_at, dry_run=mark.plan)
    try:
        while not mark.is_done:
            following, changes = walk.step(mark)
            if following.run != mark.run:
                # The forecast began anew.
                report.repaired.clear()
            mark = following
            report.add(changes)
            progress(mark.read)
    finally:
        walk.finish(mark)
    report.take(mark)
    return report
