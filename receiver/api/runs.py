"""Runs over HTTP: planned, shown, started, paused, resumed and cancelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from msgspec import Meta
from sqlalchemy import RowMapping

from receiver.api.actions import BEFORE, IDEMPOTENCY_KEY, WHY, asked_by
from receiver.api.deliveries import CONFLICT, ENTITY, EVENT_TYPE, FROM, OUTCOME, STATE, TO
from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.parameters import LIMIT, SOURCE, flag, one_of
from receiver.api.tokens import Scope
from receiver.database.pages import LARGEST_PAGE
from receiver.dialects.sources import Source
from receiver.errors import BadRequest, ConfigurationError, KeyUsed, NotFound, ReasonWanted, RunConflict, Unavailable
from receiver.inbox.tables import ENDED
from receiver.runs import formatting
from receiver.runs.actions import Asked, Done
from receiver.runs.overlap import MOST_IN_COMMON
from receiver.runs.reconcile import RECONCILE, check_reconcilable
from receiver.runs.replay import REPLAY
from receiver.runs.runs import Verbs, recent
from receiver.runs.tables import RunState
from receiver.schemas import Moment, Shape
from receiver.search.arguments import is_id
from receiver.search.filters import DeliveryFilter, as_text

KindName = Literal["replay", "reconcile", "date_back", "repair", "prune"]


class PlannedKind(StrEnum):
    """The kinds of runs that can be planned over HTTP."""

    REPLAY = REPLAY
    RECONCILE = RECONCILE


class Run(Shape, frozen=True):
    """Work on many deliveries or rows that is planned, started, fed behind live work, and kept."""

    id: str
    kind: KindName
    sources: list[str]
    arguments: Annotated[dict[str, Any], Meta(description="The arguments of the request.")]
    state: RunState
    total: Annotated[int, Meta(description="Deliveries or rows to process, as far as known.")]
    done: Annotated[int, Meta(description="Finished deliveries or rows.")]
    tally: Annotated[dict[str, int], Meta(description="How those ended.")]
    forecast: Annotated[
        dict[str, Any] | None,
        Meta(description="The forecast: numbers by outcome, reasons, numbers of rows, and whether it is partial."),
    ]
    release: str
    wiring: str
    planned_by: str
    planned_at: Moment
    started_by: str | None
    started_at: Moment | None
    reason: str | None
    ended_at: Moment | None
    trouble: Annotated[str | None, Meta(description="Why it does not progress at present.")]


class ForecastRow(Shape, frozen=True):
    """A row that the run would change, according to its plan."""

    table: str
    source: str
    external_id: str
    operation: Literal["insert", "update", "deactivate", "reactivate"]
    before: dict[str, Any]
    after: dict[str, Any]


class OverlappingRun(Shape, frozen=True):
    """Another run that is not over and has deliveries of this one."""

    run: str
    state: RunState
    deliveries: Annotated[int, Meta(description=f"Counted up to {MOST_IN_COMMON:,}.")]
    says: str


class WholeRun(Run, frozen=True):
    """A run with the rows of its forecast."""

    rows: Annotated[list[ForecastRow], Meta(description=f"The first {LARGEST_PAGE} in key order.")]
    overlaps: Annotated[
        list[OverlappingRun], Meta(description="Whichever is fed first outdates the plans of the others.")
    ]


class RunPage(Shape, frozen=True):
    items: list[Run]
    next: Annotated[str | None, Meta(description="The value for the next `before`; null at the end.")]


class RunChanged(Shape, frozen=True):
    """A run and its state after the request."""

    run: str
    state: RunState


def _run_id(text: str) -> int:
    if not is_id(text):
        raise NotFound(f"There is no run {text[:64]!r}: `/api/v1/runs` lists them.", names=("/api/v1/runs",))
    return int(text)


RUN_ID = Parameter("id", {"type": "string"}, "The id of a run.", _run_id, 0)

#: The filters of a planned replay.
PLAN_FILTERS = (SOURCE, STATE, OUTCOME, EVENT_TYPE, ENTITY, FROM, TO, CONFLICT)

PLANNED_KIND: Parameter[PlannedKind] = Parameter(
    "kind",
    {"type": "string", "enum": [*map(str, PlannedKind)]},
    "The kind of run. A reconcile takes only `source` and `force`.",
    one_of(PlannedKind, "kind"),
    PlannedKind.REPLAY,
)
FORCE: Parameter[bool | None] = Parameter(
    "force", {"type": "boolean"}, "With a reconcile: deactivate missing rows beyond the brake.", flag("force"), None
)


class Runs:
    """Plans, lists, shows, starts and ends runs: `/api/v1/runs`."""

    def __init__(self, lookup: Lookup, verbs: Verbs, sources: Callable[[], Mapping[str, Source]]) -> None:
        """`sources` returns the sources of the settings in force."""
        self._lookup, self._verbs, self._sources = lookup, verbs, sources

    def operations(self) -> list[Operation]:
        refusals = (BadRequest, NotFound, Unavailable)
        return [
            Operation(
                name="list_runs",
                path="/api/v1/runs",
                summary="Runs, newest first",
                answer=self.list_runs,
                answers={200: RunPage},
                scope=Scope.READ,
                parameters=(BEFORE, LIMIT),
                refusals=(BadRequest, Unavailable),
            ),
            Operation(
                name="show_run",
                path="/api/v1/runs/{id}",
                summary="One run, with its forecast row by row",
                answer=self.show,
                answers={200: WholeRun},
                scope=Scope.READ,
                parameters=(RUN_ID,),
                refusals=refusals,
            ),
            Operation(
                name="plan_run",
                method="post",
                path="/api/v1/runs",
                summary="Plan a replay of the deliveries that match the filters, or a reconcile of a source; a process "
                "with a worker makes the plan",
                answer=self.plan,
                answers={202: RunChanged},
                scope=Scope.OPERATE,
                parameters=(PLANNED_KIND, *PLAN_FILTERS, FORCE, IDEMPOTENCY_KEY),
                refusals=(BadRequest, KeyUsed, Unavailable),
            ),
            *(self._verb(name, answer, scope) for name, answer, scope in self._changes()),
        ]

    def _changes(self) -> tuple[tuple[str, Callable[[Question], RunChanged], Scope], ...]:
        return (
            ("start", self._changing(self._verbs.start, "start run"), Scope.OPERATE),
            ("pause", self._changing(self._verbs.pause, "pause run"), Scope.OPERATE),
            ("resume", self._changing(self._verbs.resume, "resume run"), Scope.OPERATE),
            ("cancel", self._changing(self._verbs.cancel, "cancel run"), Scope.OPERATE),
        )

    def _verb(self, name: str, answer: Callable[[Question], RunChanged], scope: Scope) -> Operation:
        return Operation(
            name=f"{name}_run",
            method="post",
            path=f"/api/v1/runs/{{id}}/{name}",
            summary=f"{name.capitalize()} a run",
            answer=answer,
            answers={200: RunChanged},
            scope=scope,
            parameters=(RUN_ID, WHY, IDEMPOTENCY_KEY),
            refusals=(BadRequest, NotFound, ReasonWanted, RunConflict, KeyUsed, Unavailable),
        )

    def _changing(self, do: Callable[..., Done], what: str) -> Callable[[Question], RunChanged]:
        def answer(asked: Question) -> RunChanged:
            run = asked[RUN_ID]
            done = do(asked_by(asked, what, run=str(run)), run, now=datetime.now(UTC))
            return _changed(done)

        return answer

    def list_runs(self, asked: Question) -> RunPage:
        page = self._lookup.page(recent(before=asked[BEFORE]), _show, asked[LIMIT])
        return RunPage(page.items, str(page.last["id"]) if page.last is not None and page.more else None)

    def show(self, asked: Question) -> WholeRun:
        with self._lookup.database.read() as connection:
            run = formatting.whole_run(connection, asked[RUN_ID], rows=LARGEST_PAGE)
        rows = [ForecastRow(**row) for row in run.pop("rows")]
        overlaps = [OverlappingRun(**each) for each in run.pop("overlaps")]
        return WholeRun(**run, rows=rows, overlaps=overlaps)

    def plan(self, asked: Question) -> RunChanged:
        """Begin the plan of a run. Raises `BadRequest` for an invalid selection."""
        return self._plan_reconcile(asked) if asked[PLANNED_KIND] is PlannedKind.RECONCILE else self._plan_replay(asked)

    def _plan_reconcile(self, asked: Question) -> RunChanged:
        others: tuple[Parameter[Any], ...] = PLAN_FILTERS[1:]
        given = [each.name for each in others if asked[each] is not None]
        if given:
            raise BadRequest(
                f"A reconcile compares a whole source: leave `{given[0]}` out, or plan a replay.", names=(given[0],)
            )
        source = self._sources().get(asked[SOURCE] or "")
        if source is None:
            raise BadRequest("The source is missing: `source` takes a name in the settings.", names=("source",))
        try:
            check_reconcilable(source)
        except ConfigurationError as error:
            raise BadRequest(str(error)) from None
        arguments = {"source": source.name, "force": bool(asked[FORCE])}
        request = Asked(by=asked.by, what="plan reconcile", arguments=arguments, key=asked[IDEMPOTENCY_KEY])
        done = self._verbs.plan(request, RECONCILE, sources=[source.name], now=datetime.now(UTC))
        return _changed(done)

    def _plan_replay(self, asked: Question) -> RunChanged:
        """Begin the plan of a replay. Raises `BadRequest` without a filter, or for a state that is not final."""
        if asked[FORCE] is not None:
            raise BadRequest("`force` is for a reconcile: leave it out, or set `kind=reconcile`.", names=("force",))
        wanted = DeliveryFilter(
            source=self._lookup.source(asked[SOURCE]),
            state=asked[STATE],
            outcome=asked[OUTCOME],
            event_type=asked[EVENT_TYPE],
            entity=asked[ENTITY],
            begin=asked[FROM],
            end=asked[TO],
            conflict=asked[CONFLICT],
        )
        if wanted == DeliveryFilter():
            raise BadRequest(
                "No deliveries are selected: give `source`, `state`, `event_type` or another filter.",
                names=("source", "state", "event_type"),
            )
        if wanted.state not in (None, *ENDED):
            raise BadRequest(
                f"Deliveries that are {wanted.state} cannot be replayed: `state` takes one of {', '.join(ENDED)} here.",
                names=("state",),
            )
        request = Asked(by=asked.by, what="plan replay", arguments=as_text(wanted), key=asked[IDEMPOTENCY_KEY])
        return _changed(self._verbs.plan(request, REPLAY, now=datetime.now(UTC)))


def _show(row: RowMapping) -> Run:
    return Run(**formatting.run_as_json(row))


def _changed(done: Done) -> RunChanged:
    return RunChanged(done.result["run"], RunState(done.result["state"]))
