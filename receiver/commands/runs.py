"""`hookmirror runs`: lists, plans, starts, pauses, resumes and cancels runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from receiver.codec import encode
from receiver.commands.options import JsonFlag, meant_deliveries, source_named
from receiver.commands.progress import progress
from receiver.database.pages import LARGEST_PAGE
from receiver.errors import ConfigurationError
from receiver.inbox.tables import State
from receiver.logs.escapes import visible
from receiver.logs.safe_text import told
from receiver.mirror.versions import Outcome
from receiver.runs import formatting
from receiver.runs.actions import Asked, Done, by_command
from receiver.runs.reconcile import check_reconcilable
from receiver.runs.runs import Verbs, find, has_worker, recent
from receiver.search.arguments import is_id, parse_moment
from receiver.search.filters import DeliveryFilter
from receiver.server.runtime import Runtime, install

#: The most runs that are listed.
MOST_LISTED = 50

NO_RUN = "There is no run yet: `hookmirror runs plan` makes one."

NO_WORKER = "No process with a worker is alive, so no run progresses: start `hookmirror serve` or `hookmirror worker`."


class Verb(StrEnum):
    LIST = "list"
    SHOW = "show"
    PLAN = "plan"
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


class KindOfRun(StrEnum):
    REPLAY = "replay"
    RECONCILE = "reconcile"
    PRUNE = "prune"


def runs(
    verb: Annotated[Verb, typer.Argument(help="What to do.")] = Verb.LIST,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="The run; with plan, deliveries, or `reconcile SOURCE`, or `prune`."),
    ] = None,
    kind: Annotated[KindOfRun, typer.Option(help="With plan: the kind of run.")] = KindOfRun.REPLAY,
    source: Annotated[str | None, typer.Option(help="With plan: deliveries of this source.")] = None,
    state: Annotated[State | None, typer.Option(help="With plan: deliveries in this state, which has ended.")] = None,
    event_type: Annotated[str | None, typer.Option(help="With plan: deliveries of this event type.")] = None,
    entity: Annotated[str | None, typer.Option(help="With plan: deliveries about this entity.")] = None,
    force: Annotated[bool, typer.Option("--force", help="With a reconcile: deactivate beyond the brake.")] = False,
    outcome: Annotated[Outcome | None, typer.Option(help="With plan: deliveries with this outcome.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="With plan: arrived then or later; or 2h.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="With plan: arrived before; or 2h ago.")] = None,
    reason_has: Annotated[str | None, typer.Option(help="With plan: with this text in their reason.")] = None,
    conflict: Annotated[bool | None, typer.Option("--conflict/--no-conflict", help="With plan: a used key.")] = None,
    reason: Annotated[str | None, typer.Option(help="The reason; start requires it.")] = None,
    before: Annotated[int | None, typer.Option(help="With list: runs older than this one.")] = None,
    after: Annotated[int, typer.Option(min=0, help="With show: skip so many rows of the forecast.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, max=1_000, help="At most so many runs, or rows.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Plan, forecast, start and watch work on many deliveries."""
    kind, source, named = _kind_and_source(verb, words or [], kind, source)
    ids = [_number(word) for word in named]
    filters = {"source": source, "state": state, "outcome": outcome, "event_type": event_type, "entity": entity}
    wanted = _wanted(since, until, filters | {"reason": reason_has, "conflict": conflict})
    _refuse_mixtures(verb, ids, is_plan=wanted != DeliveryFilter() or kind is not KindOfRun.REPLAY or force)
    runtime = install()
    runtime.open()
    if verb is Verb.LIST:
        _list(runtime, as_json, before=before, limit=limit or MOST_LISTED)
    elif verb is Verb.PLAN:
        run = plan(runtime, ids, wanted, kind=kind, force=force, reason=reason)
        _show(runtime, run, as_json, after=after, limit=limit or LARGEST_PAGE)
    else:
        run = _change(runtime.runs, verb, _only(ids, verb), reason)
        _show(runtime, run, as_json, after=after, limit=limit or LARGEST_PAGE)


def _wanted(since: str | None, until: str | None, filters: Mapping[str, Any]) -> DeliveryFilter:
    return DeliveryFilter(**filters, begin=_time("--since", since), end=_time("--until", until))


def _refuse_mixtures(verb: Verb, ids: list[int], *, is_plan: bool) -> None:
    """Raise `ConfigurationError` for words that do not belong to the verb."""
    if verb is not Verb.PLAN and is_plan:
        raise ConfigurationError(f"`{verb}` takes a run and no filters, which are for `plan`.")
    if verb is Verb.LIST and ids:
        raise ConfigurationError("`list` takes no run: `hookmirror runs show ID` shows one.")


def _only(ids: list[int] | None, verb: Verb) -> int:
    """Parse the single run in the arguments. Raises `ConfigurationError` for any other number of runs."""
    if not ids or len(ids) != 1:
        raise ConfigurationError(f"Give one run: `hookmirror runs {verb} ID`; `hookmirror runs` lists them.")
    return ids[0]


def _time(option: str, text: str | None) -> datetime | None:
    return None if text is None else parse_moment(option, text, now=datetime.now(UTC))


def plan(
    runtime: Runtime,
    ids: list[int],
    wanted: DeliveryFilter,
    *,
    kind: KindOfRun = KindOfRun.REPLAY,
    force: bool = False,
    reason: str | None = None,
    forecasts: bool = True,
) -> int:
    """Plan a run to its end in this process, and return its number. Raises `ConfigurationError` without a selection."""
    arguments: dict[str, Any] = {}
    sources: list[str] = []
    if force and kind is not KindOfRun.RECONCILE:
        raise ConfigurationError("--force is for a reconcile: leave it out.")
    if kind is KindOfRun.REPLAY:
        arguments = meant_deliveries(runtime.database, runtime.sources, ids, wanted)
    elif kind is KindOfRun.RECONCILE:
        sources = [_reconcilable(runtime, ids, wanted)]
        arguments = {"source": sources[0], "force": force}
    asked = Asked(by=by_command(), what=f"plan {kind}", arguments=arguments, reason=reason)
    done = runtime.runs.plan(asked, kind.value, ids=sorted(set(ids)), sources=sources, now=datetime.now(UTC))
    run = int(done.result["run"])
    feeder = runtime.reconciler() if kind is KindOfRun.RECONCILE else runtime.feeder(forecasts=forecasts)
    try:
        with progress("steps of the plan") as seen:
            for steps, _ in enumerate(feeder.steps(run), start=1):
                seen(steps)
    except Exception as error:
        feeder.break_off(run, told(error))
        raise
    finally:
        feeder.close()
    return run


def _kind_and_source(
    verb: Verb, words: list[str], kind: KindOfRun, source: str | None
) -> tuple[KindOfRun, str | None, list[str]]:
    """Parse the words of `plan reconcile SOURCE` and the like; return the kind, the source, and the other words."""
    if verb is not Verb.PLAN or not words or words[0] not in list(KindOfRun):
        return kind, source, words
    named, *rest = words
    if named == KindOfRun.RECONCILE and rest:
        source, *rest = rest
    return KindOfRun(named), source, rest


def _number(word: str) -> int:
    if not is_id(word):
        raise ConfigurationError(
            f"{word!r} is not the number of a run or delivery: `hookmirror runs` and `hookmirror deliveries` list them."
        )
    return int(word)


def _reconcilable(runtime: Runtime, ids: list[int], wanted: DeliveryFilter) -> str:
    """The source of a reconcile. Raises `ConfigurationError` without one, or with filters that do not apply."""
    if wanted.source is None:
        raise ConfigurationError("The source is missing: `hookmirror runs plan reconcile SOURCE`.")
    if ids or wanted != DeliveryFilter(source=wanted.source):
        raise ConfigurationError("A reconcile compares a whole source: give the source, and no deliveries.")
    source = source_named(runtime.sources, wanted.source)
    check_reconcilable(source)
    return source.name


def _change(verbs: Verbs, verb: Verb, run: int, reason: str | None) -> int:
    """Apply the verb to the run, and return its number."""
    if verb is Verb.SHOW:
        return run
    do: dict[Verb, Callable[..., Done]] = {
        Verb.START: verbs.start,
        Verb.PAUSE: verbs.pause,
        Verb.RESUME: verbs.resume,
        Verb.CANCEL: verbs.cancel,
    }
    asked = Asked(by=by_command(), what=f"{verb} run", arguments={"run": str(run)}, reason=reason)
    do[verb](asked, run, now=datetime.now(UTC))
    return run


def _list(runtime: Runtime, as_json: bool, *, before: int | None, limit: int) -> None:
    with runtime.database.read() as connection:
        found = connection.execute(recent(before=before).limit(limit)).mappings().all()
    lines = "\n".join(visible(formatting.run_line(run)) for run in found) or NO_RUN
    typer.echo(encode([formatting.run_as_json(run) for run in found]) if as_json else lines)


def _show(runtime: Runtime, run: int, as_json: bool, *, after: int, limit: int) -> None:
    with runtime.database.read() as connection:
        found = find(connection, run)
        rows = formatting.forecast_rows(connection, run, limit=limit, after=after)
    waits = found["state"] == "running" and not has_worker(runtime.database, now=datetime.now(UTC))
    if as_json:
        typer.echo(encode(formatting.run_as_json(found) | {"rows": rows, "worker": not waits}))
        return
    typer.echo("\n".join(map(visible, formatting.run_lines(found, rows))))
    if waits:
        typer.echo(NO_WORKER)
