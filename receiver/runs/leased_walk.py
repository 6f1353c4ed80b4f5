"""A walk stepped by a feeder: each of its transactions also stores the run's mark and progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection

from receiver.database.database import Database
from receiver.dialects.sources import Source
from receiver.errors import ConfigurationError
from receiver.reconcile.mark import Mark
from receiver.reconcile.question import Asking
from receiver.reconcile.report import left_alone
from receiver.reconcile.walk import Walk
from receiver.runs.foreseen_rows import ForeseenRows
from receiver.runs.run_kind import Progress, RunLease

Result = TypeVar("Result")

#: The names of a walk's counts in the tally of its run.
COUNTED = ("repaired", "newer", "tied", "left", "unanswered", "unstorable", "misdated")


class LeasedWalk:
    """The walk of one run, from its last stored mark."""

    def __init__(
        self,
        database: Database,
        source: Source,
        asking: Asking | None,
        mark: Mark,
        held: RunLease,
        clock: Callable[[], datetime],
        *,
        waits: bool,
    ) -> None:
        self._held, self._asking, self._clock = held, asking, clock
        self._foreseen = ForeseenRows(held.run.id, held.run.mark)
        self._mark = self._kept = mark
        self._latest: Progress | None = None
        self._walk = Walk(
            database,
            source,
            asking,
            clock=clock,
            keep=self._keep,
            transact=self._transact,
            run=held.run.id,
            waits=waits,
            foresee=self._foreseen.add,
        )

    def step(self) -> Progress:
        """Process one page."""
        self._latest = None
        self._mark = self._walk.step(self._mark).mark
        return self._latest or Progress(self._held.run.mark)

    def finish(self) -> None:
        """Delete the keys that the walk has seen."""
        self._walk.finish(self._mark)

    def close(self) -> None:
        if self._asking is not None:
            self._asking.close()

    def _keep(self, _: Connection, mark: Mark) -> None:
        self._kept = mark

    def _transact(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` of the walk in a transaction of the run."""
        results: list[Result] = []

        def commit(connection: Connection) -> Progress:
            results[:] = [work(connection)]
            mark = self._kept
            if mark.plan:
                self._foreseen.keep(connection, mark, now=self._clock())
            return self._progress(mark)

        self._latest = self._held.commit(commit)
        self._foreseen.kept(self._kept)
        return results[0]

    def _progress(self, mark: Mark) -> Progress:
        run = self._held.run
        document = {"walk": mark.to_json(), "kept_at": self._clock().isoformat(), "rows": self._foreseen.counts}
        if mark.plan:
            total = mark.read if mark.listed is None else mark.listed
            return Progress(document, total=total, is_last=mark.is_done)
        before = _numbers(run.mark, mark.run)
        tally = {name: more for name in COUNTED if (more := getattr(mark, name) - before[name]) > 0}
        if mark.is_done and mark.braked:
            tally["braked"] = sum(mark.braked.values())
        done = _looked_at(mark) - before["looked_at"]
        known = [run.done + done, *mark.totals, *([] if mark.is_done else [run.total])]
        trouble = " ".join(left_alone(mark)) if mark.is_done else None
        return Progress(
            document, done=done, tally=tally, total=max(known), is_last=mark.is_done, trouble=trouble or None
        )


def mark_of(document: Mapping[str, Any]) -> Mark:
    """The walk's mark, read from the mark of its run. Raises `ConfigurationError` for one that was edited by hand."""
    try:
        return Mark.from_json(document["walk"])
    except (LookupError, TypeError, ValueError):
        raise ConfigurationError(
            "The place that the reconcile has reached was edited by hand: cancel the run, and begin another."
        ) from None


def walk_name(document: Any) -> str | None:
    """The name of the walk whose mark a run holds; None if the mark was edited by hand, so that no walk continues."""
    walk = document.get("walk") if isinstance(document, Mapping) else None
    name = walk.get("run") if isinstance(walk, Mapping) else None
    return name if isinstance(name, str) else None


def read_so_far(document: Any) -> dict[str, int] | None:
    """The numbers of `rows` and `pages` of the source's list that a run has read.

    None if its mark is not that of a walk through a list, cannot be read, or is of a release that counted no pages.
    """
    if not isinstance(document, Mapping) or "walk" not in document:
        return None
    try:
        mark = mark_of(document)
    except ConfigurationError:
        return None
    counts_pages = mark.pages > 0 or mark.read == 0
    return {"rows": mark.read, "pages": mark.pages} if counts_pages and not mark.only_misdated else None


def kept_at(document: Mapping[str, Any]) -> datetime:
    """The time at which the mark of a run was stored."""
    return datetime.fromisoformat(document["kept_at"])


def _looked_at(mark: Mark) -> int:
    return mark.misdated if mark.only_misdated else mark.read


def _numbers(document: Mapping[str, Any] | None, walk: str) -> Mapping[str, int]:
    """The counts of the same walk at its last stored mark."""
    names: Sequence[str] = COUNTED
    if document is None or document["walk"]["run"] != walk:
        return dict.fromkeys((*names, "looked_at"), 0)
    mark = mark_of(document)
    return {name: getattr(mark, name) for name in names} | {"looked_at": _looked_at(mark)}
