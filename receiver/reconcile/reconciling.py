"""The verbs: `reconcile` walks through a source's list to its end, `date_back` does only what comes before it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

from receiver.database.database import Database
from receiver.dialects.sources import Source
from receiver.errors import ConfigurationError, HookmirrorError
from receiver.logs.safe_text import told_with_type
from receiver.reconcile.lease import Holding
from receiver.reconcile.mark import Mark, new_mark
from receiver.reconcile.question import Asking
from receiver.reconcile.report import Report
from receiver.reconcile.walk import Walk

#: Called with the number of rows read so far.
RowsRead = Callable[[int], None]


class Stopped(HookmirrorError):
    """The walk was asked to stop; it is resumed from its mark."""


def reconcile(
    database: Database,
    source: Source,
    *,
    dry_run: bool = False,
    force: bool = False,
    scheduled: bool = False,
    progress: RowsRead = lambda _: None,
    before_page: Callable[[], None] = lambda: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Report:
    """Walk through the source's list to its end, comparing and repairing page by page.

    A walk that broke off within the last hour is gone on with. `before_page` may wait, or raise `Stopped`. Raises
    `ConfigurationError` for a source without a list or an API, or one that is being reconciled already, and
    `ApiError` if the list breaks off.
    """
    check_listing(source)
    with closing(Asking(source, clock)) as asking:
        if dry_run:
            mark = new_mark(source.name, now=clock(), force=force, plan=True)
            return _to_the_end(Walk(database, source, asking, clock=clock), mark, progress, before_page)
        holding = Holding(database, source.name, clock=clock)
        mark, is_resumed = holding.take(force=force, scheduled=scheduled)
        walk = Walk(database, source, asking, clock=clock, keep=holding.keep)
        try:
            report = _to_the_end(walk, mark, progress, before_page, ended=holding.end)
        except BaseException as error:
            holding.break_off(_reason(error))
            raise
    report.resumed = mark.began_at if is_resumed else None
    return report


def date_back(
    database: Database,
    source: Source,
    *,
    dry_run: bool = False,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Report:
    """Only what a reconcile does first: date back what is misdated. It needs no list."""
    mark = new_mark(source.name, now=clock(), plan=dry_run, only_misdated=True)
    return _to_the_end(Walk(database, source, None, clock=clock), mark, lambda _: None, lambda: None)


def check_listing(source: Source) -> None:
    """Raises `ConfigurationError` for a source without a list."""
    if source.dialect.listing_of is None:
        raise ConfigurationError(
            f"The dialect {source.dialect.name} knows no list of its source, so there is nothing to compare with."
        )


def _to_the_end(
    walk: Walk,
    mark: Mark,
    progress: RowsRead,
    before_page: Callable[[], None],
    *,
    ended: Callable[[Mark], None] = lambda _: None,
) -> Report:
    report = Report(mark.source, mark.began_at, dry_run=mark.plan)
    try:
        while not mark.is_done:
            before_page()
            mark, changes = walk.step(mark)
            report.add(changes)
            progress(mark.read)
        ended(mark)
    finally:
        if mark.is_done or mark.plan:
            walk.finish(mark)
    report.take(mark)
    return report


def _reason(error: BaseException) -> str | None:
    if isinstance(error, Stopped):
        return None
    return str(error) if isinstance(error, HookmirrorError) else told_with_type(error)
