"""Reconciles a source in the foreground: begins or resumes a run, steps it to its end, and reports."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Connection

from receiver.dialects.sources import Source
from receiver.errors import HookmirrorError, RunTaken
from receiver.logs.safe_text import told, told_with_type
from receiver.mirror.changes import of_run
from receiver.reconcile.report import MOST_SHOWN, Report
from receiver.runs.actions import Asked, By
from receiver.runs.feeder import Feeder
from receiver.runs.leased_walk import mark_of
from receiver.runs.reconcile import DATE_BACK, RECONCILE, RECONCILE_LEASE, check_reconcilable
from receiver.runs.runs import Verbs, certain, find
from receiver.runs.tables import RunState
from receiver.runs.unplanned_run import UnplannedRun, begin_run

#: A function that is called with the number of rows finished so far.
RowsDone = Callable[[int], None]

#: The reason stored on a run whose command was interrupted.
COMMAND_INTERRUPTED = "The command that stepped it was interrupted."


def reconcile_now(
    verbs: Verbs,
    feeder: Feeder,
    source: Source,
    *,
    by: By,
    reason: str,
    force: bool = False,
    only_misdated: bool = False,
    progress: RowsDone = lambda _: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Report:
    """Begin a reconcile of the source, or resume a failed one, and step it to its end.

    `feeder` must belong to this call alone. Raises `RunConflict` while another reconcile is at work, and
    `ConfigurationError` for a source without a list or an API. If the list cannot be read, pauses the run with the
    reason, and raises `ApiError`.
    """
    if not only_misdated:
        check_reconcilable(source)
    kind = DATE_BACK if only_misdated else RECONCILE
    asked = Asked(by=by, what=kind, arguments={"source": source.name, "force": force}, reason=reason)
    wanted = UnplannedRun(kind=kind, source=source.name, lease=RECONCILE_LEASE, held_by=feeder.name)
    now = clock()
    done = certain(begin_run(verbs, asked, wanted, now=now))
    run = int(done.result["run"])
    try:
        for number in feeder.steps(run):
            progress(number)
    except RunTaken:
        raise
    except BaseException as error:
        feeder.break_off(run, _reason(error))
        raise
    with verbs.database.read() as connection:
        return report_of(connection, run, since=now)


def report_of(connection: Connection, run: int, *, since: datetime) -> Report:
    """Report the differences that the run found and repaired.

    Raises `RunTaken` if a person has stopped it.
    """
    row = find(connection, run)
    if row["state"] != RunState.DONE:
        raise RunTaken(f"Another person has made run {run} {row['state']}: see `hookmirror runs show {run}`.")
    mark = mark_of(row["mark"])
    report = Report(mark.source, mark.began_at, resumed=mark.began_at if mark.began_at < since else None)
    report.take(mark)
    report.repaired = of_run(connection, run, limit=MOST_SHOWN)
    report.repairs = row["tally"].get("repaired", 0)
    return report


def _reason(error: BaseException) -> str:
    if isinstance(error, HookmirrorError):
        return told(error)
    return told_with_type(error) if isinstance(error, Exception) else COMMAND_INTERRUPTED
