"""`hookmirror runs`: lists, plans, starts, pauses, resumes and cancels runs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from receiver.codec import encode
from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.client_protocol import Client
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
from receiver.commands.options import JsonFlag
from receiver.commands.plan_filters import parse_filter
from receiver.commands.planning import RUN_PATH, RUNS_PATH, KindOfRun, Wish, has_worker, plan_with
from receiver.errors import ConfigurationError
from receiver.logs.escapes import visible
from receiver.logs.safe_text import quoted
from receiver.runs import formatting
from receiver.runs.tables import RunState
from receiver.search.arguments import is_id
from receiver.search.filters import DeliveryFilter

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


def runs(
    verb: Annotated[Verb, typer.Argument(help="What to do.")] = Verb.LIST,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="The run; with plan, deliveries, or `reconcile SOURCE`, or `prune`."),
    ] = None,
    kind: Annotated[KindOfRun, typer.Option(help="With plan: the kind of run.")] = KindOfRun.REPLAY,
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
    force: Annotated[bool, typer.Option("--force", help="With a reconcile: deactivate beyond the brake.")] = False,
    reason: Annotated[str | None, typer.Option(help="The reason; start requires it.")] = None,
    before: Annotated[int | None, typer.Option(help="With list: runs older than this one.")] = None,
    after: Annotated[int, typer.Option(min=0, help="With show: the number of forecast rows to skip.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, max=1_000, help="The most runs, or rows, to list.")] = None,
    to: ToOption = None,
    token: TokenOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Plan, forecast, start and watch work on many deliveries."""
    kind, source, named = _kind_and_source(verb, words or [], kind, source)
    ids = [_number(word) for word in named]
    what = {"source": source, "state": state, "outcome": outcome, "event_type": event_type, "entity": entity}
    how = {"begin": since, "end": until, "reason": reason_has, "conflict": conflict, "dedup_key": dedup_key}
    wanted = parse_filter(**what, **how)
    wish = Wish(kind=kind, ids=tuple(ids), wanted=wanted, force=force, reason=reason)
    run = None if verb is Verb.PLAN else _only(ids, verb, wish)
    client = client_of(to, token)
    if verb is Verb.LIST:
        _list(client, as_json, before=before, limit=limit)
        return
    run = plan_with(client, wish) if run is None else _change(client, verb, run, reason)
    _show(client, run, as_json, after=after, limit=limit)


def _change(client: Client, verb: Verb, run: int, reason: str | None) -> int:
    """Apply the verb to the run, and return its number."""
    if verb is not Verb.SHOW:
        client.do(f"{RUN_PATH}/{verb}", {"id": str(run)}, {"reason": reason})
    return run


def _only(ids: list[int], verb: Verb, wish: Wish) -> int | None:
    """The single run in the arguments; None for a list. Raises `ConfigurationError` for any other number of runs."""
    if wish.wanted != DeliveryFilter() or wish.kind is not KindOfRun.REPLAY or wish.force:
        raise ConfigurationError(f"`{verb}` takes a run and no filters, which are for `plan`.")
    if verb is Verb.LIST:
        if ids:
            raise ConfigurationError("`list` takes no run: `hookmirror runs show ID` shows one.")
        return None
    if len(ids) != 1:
        raise ConfigurationError(f"Give one run: `hookmirror runs {verb} ID`; `hookmirror runs` lists them.")
    return ids[0]


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
            f"{quoted(word)} is not the number of a run or delivery: `hookmirror runs` and `hookmirror deliveries` "
            "list them."
        )
    return int(word)


def _list(client: Client, as_json: bool, *, before: int | None, limit: int | None) -> None:
    found = client.ask(RUNS_PATH, {}, {"before": before, "limit": limit or MOST_LISTED})["items"]
    lines = "\n".join(visible(formatting.run_line(run)) for run in found) or NO_RUN
    typer.echo(encode(found) if as_json else lines)


def _show(client: Client, run: int, as_json: bool, *, after: int, limit: int | None) -> None:
    found: dict[str, Any] = client.ask(RUN_PATH, {"id": str(run)}, {})
    if after or limit:
        found |= {"rows": client.ask(f"{RUN_PATH}/rows", {"id": str(run)}, {"after": after, "limit": limit})["items"]}
    moves = found["state"] in (RunState.PLANNING, RunState.RUNNING)
    waits = moves and not has_worker(client)
    if as_json:
        typer.echo(encode(found | {"worker": not waits}))
        return
    most = limit or formatting.MOST_FORECAST_LINES
    typer.echo("\n".join(map(visible, formatting.run_lines(found, most=most, after=after))))
    if waits:
        typer.echo(NO_WORKER)
