"""`hookmirror replay`: replays finished deliveries, few at once and many as a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import Annotated, Any

import typer

from receiver.codec import encode
from receiver.commands.closing import closed_at_the_end
from receiver.commands.filters import (
    ConflictFilter,
    DedupKeyFilter,
    EntityFilter,
    EventTypeFilter,
    OutcomeFilter,
    ReasonHasFilter,
    SinceFilter,
    SourceFilter,
    StateFilter,
    UntilFilter,
)
from receiver.commands.options import JsonFlag, no_reason
from receiver.commands.plan_filters import parse_filter
from receiver.commands.planning import Wish, plan_here
from receiver.commands.runs import NO_WORKER
from receiver.commands.selection import meant_deliveries
from receiver.commands.wiring import tell_other_workers
from receiver.errors import HookmirrorError, RunConflict, RunTaken
from receiver.inbox.retries import RetrySchedule
from receiver.logs.escapes import visible
from receiver.logs.safe_text import sentence
from receiver.logs.wording import counted
from receiver.runs import formatting
from receiver.runs.actions import Asked, by_command
from receiver.runs.forecast import Forecast, forecast
from receiver.runs.immediate_actions import LARGEST_IMMEDIATE_REPLAY, replay_now
from receiver.runs.runs import find, has_worker
from receiver.search.filters import DeliveryFilter
from receiver.search.replayable import replayable_ids
from receiver.server.runtime import Runtime, install


def replay(
    ids: Annotated[list[int] | None, typer.Argument(help="Delivery ids; without ids, the options select.")] = None,
    source: SourceFilter = None,
    state: StateFilter = None,
    outcome: OutcomeFilter = None,
    event_type: EventTypeFilter = None,
    entity: EntityFilter = None,
    since: SinceFilter = None,
    until: UntilFilter = None,
    reason_has: ReasonHasFilter = None,
    conflict: ConflictFilter = None,
    dedup_key: DedupKeyFilter = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print a forecast, and record nothing.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only plan it: `hookmirror runs start` starts it.")] = False,
    reason: Annotated[str, typer.Option(help="The reason, for the record of actions.")] = no_reason("replay"),
    as_json: JsonFlag = False,
) -> None:
    """Replay deliveries, as after a fix. Each corrects what it left itself, and overwrites no newer news."""
    what = {"source": source, "state": state, "outcome": outcome, "event_type": event_type, "entity": entity}
    how = {"begin": since, "end": until, "reason": reason_has, "conflict": conflict, "dedup_key": dedup_key}
    wanted = parse_filter(**what, **how)
    runtime = closed_at_the_end(install(quiet=True))
    runtime.open()
    arguments = meant_deliveries(runtime.database, runtime.sources, ids or [], wanted)
    if ids:
        wanted = replace(wanted, ids=tuple(set(ids)))
    pages = replayable_ids(runtime.database, wanted)
    first = next(pages, [])
    if dry_run:
        found = [*first, *chain.from_iterable(pages)]
        answer = {"replayed": len(found), "run": None} | _foreseen(runtime, found)
    elif plan or len(first) > LARGEST_IMMEDIATE_REPLAY:
        named = [*first, *chain.from_iterable(pages)] if ids else []
        answer = _as_run(runtime, named, wanted, reason, start=not plan)
    else:
        answer = {"run": None} | _at_once(runtime, first, arguments, reason)
    left = len(wanted.ids) - answer["replayed"] - answer.get("refused", 0) if wanted.ids else 0
    answer |= {"left": left, "dry_run": dry_run}
    typer.echo(encode(answer) if as_json else "\n".join(map(visible, _lines(runtime, answer))))
    tell_other_workers(runtime)


def _at_once(runtime: Runtime, ids: Sequence[int], arguments: dict[str, Any], reason: str) -> dict[str, Any]:
    asked = Asked(by=by_command(), what="replay", arguments=arguments, reason=reason)
    done = replay_now(runtime.inbox, asked, ids, now=datetime.now(UTC)) if ids else None
    result = {} if done is None else done.result
    refused = {name: result[name] for name in ("refused", "reason") if name in result}
    return {"replayed": int(result.get("deliveries", 0))} | refused


def _as_run(runtime: Runtime, ids: list[int], wanted: DeliveryFilter, reason: str, *, start: bool) -> dict[str, Any]:
    """Plan a run; with `start`, also start it and feed its first slices."""
    wish = Wish(ids=tuple(ids), wanted=wanted if not ids else DeliveryFilter(), reason=reason)
    run = plan_here(runtime, wish, forecasts=not start)
    if start:
        _start(runtime, run, reason)
        feeder = runtime.feeder()
        with suppress(RunTaken):
            # A person may have paused or cancelled the run already, or a worker may have taken it over.
            feeder.step(run) and feeder.step(run)
        feeder.close()
    with runtime.database.read() as connection:
        total = find(connection, run)["total"]
    return {"replayed": total, "run": str(run), "started": start}


def _start(runtime: Runtime, run: int, reason: str) -> None:
    """Start the run, or cancel it if the start is refused, because this command cannot start it later."""
    arguments = {"run": str(run)}
    asked = Asked(by=by_command(), what="start run", arguments=arguments, reason=reason)
    try:
        runtime.runs.start(asked, run, now=datetime.now(UTC))
    except HookmirrorError:
        cancelling = Asked(by=by_command(), what="cancel run", arguments=arguments | {"only_plan": True})
        # A person may have started or cancelled it already.
        with suppress(RunConflict):
            runtime.runs.cancel(cancelling, run, now=datetime.now(UTC), only_plan=True)
        raise


def _foreseen(runtime: Runtime, ids: Sequence[int]) -> dict[str, Any]:
    retries = RetrySchedule(attempts=runtime.settings.max_attempts)
    made: Forecast = forecast(
        runtime.database, runtime.sources, ids, of=len(ids), retries=retries, clock=lambda: datetime.now(UTC)
    )
    rows = [change._asdict() for change in made.changed_rows()]
    return {"forecast": made.summary(), "rows": rows}


def _lines(runtime: Runtime, answer: dict[str, Any]) -> list[str]:
    found, run = answer["replayed"], answer["run"]
    lines = [f"Deliveries that {'would be' if answer['dry_run'] else 'are'} pending again: {found}."]
    if run is not None:
        lines = [f"Run {run} replays {counted(found, 'delivery')}; `hookmirror runs show {run}` shows its progress."]
        if not answer["started"]:
            with runtime.database.read() as connection:
                whole = formatting.whole_run(
                    connection,
                    int(run),
                    rows=formatting.MOST_FORECAST_LINES,
                    wiring=runtime.runs.wiring,
                    now=datetime.now(UTC),
                )
            return list(formatting.run_lines(whole))
        if not has_worker(runtime.database, now=datetime.now(UTC)):
            lines.append(NO_WORKER)
    if answer.get("refused"):
        lines[0] += f" {counted(answer['refused'], 'delivery')} cannot be replayed. {sentence(answer['reason'])}"
    if answer["left"]:
        lines[0] += (
            f" {answer['left']} of the given deliveries cannot be replayed: unfinished, or the body has expired."
        )
    if answer["dry_run"]:
        lines += formatting.forecast_lines(answer["forecast"], answer["rows"])
    return lines
