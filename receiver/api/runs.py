"""Runs over HTTP: shown, started, paused, resumed and cancelled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta
from sqlalchemy import RowMapping

from receiver.api.actions import BEFORE, IDEMPOTENCY_KEY, WHY, asked_by
from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.parameters import LIMIT, flag, number
from receiver.api.tokens import Scope
from receiver.codec import describe_shape
from receiver.database.page_sizes import LARGEST_PAGE
from receiver.errors import BadRequest, KeyUsed, NotFound, ReasonWanted, Refused, RunConflict, Unavailable
from receiver.runs import formatting
from receiver.runs.actions import Done, answer_of
from receiver.runs.overlap import MOST_IN_COMMON
from receiver.runs.runs import Verbs, find, recent
from receiver.runs.tables import ItemState, RunState
from receiver.schemas import Moment, Shape
from receiver.search.arguments import is_id

KindName = Literal["replay", "reconcile", "date_back", "repair", "prune"]


class Run(Shape, frozen=True):
    """A replay, reconcile, repair or prune: work that is planned, started, and done step by step behind live work."""

    id: str
    kind: KindName
    sources: list[str]
    arguments: Annotated[dict[str, Any], Meta(description="The arguments of the request.")]
    state: RunState
    total: Annotated[int, Meta(description="Deliveries or rows to process, as far as known.")]
    done: Annotated[int, Meta(description="Finished deliveries or rows.")]
    tally: Annotated[dict[str, int], Meta(description="The results of the finished ones.")]
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
    trouble: Annotated[
        str | None, Meta(description="The reason why it does not progress at present, or what it left undone.")
    ]


class ForecastRow(Shape, frozen=True):
    """A row that the run would change, according to its plan."""

    table: str
    source: str
    external_id: str
    operation: Literal["insert", "update", "deactivate", "reactivate"]
    before: dict[str, Any]
    after: dict[str, Any]


class OverlappingRun(Shape, frozen=True):
    """Another unfinished run with deliveries of this run."""

    run: str
    state: RunState
    deliveries: Annotated[int, Meta(description=f"Counted up to {MOST_IN_COMMON:,}.")]
    says: str


class ReadSoFar(Shape, frozen=True):
    """How much of a source's list a run has read, repeated rows and pages included."""

    rows: int
    pages: int


class WholeRun(Run, frozen=True):
    """A run with the rows of its forecast."""

    read: Annotated[
        ReadSoFar | None, Meta(description="How much of the source's list it has read; null for runs without a list.")
    ]
    rows: Annotated[list[ForecastRow], Meta(description=f"The first {LARGEST_PAGE} in key order, and at most a page.")]
    overlaps: Annotated[
        list[OverlappingRun], Meta(description="Runs with common deliveries. Feeding one outdates the others' plans.")
    ]
    outdated: Annotated[
        str | None,
        Meta(description="The reason why the plan can no longer be started here; null if it can, and for other runs."),
    ]


class ForecastPage(Shape, frozen=True):
    items: list[ForecastRow]
    next: Annotated[str | None, Meta(description="The value for the next `after`; null at the end.")]


class DeliveryInRun(Shape, frozen=True):
    """A delivery of a run's set, with its forecast and its actual outcome."""

    delivery: str
    state: Annotated[ItemState, Meta(description="Its state in the run.")]
    forecast: Annotated[str | None, Meta(description="The outcome in the forecast; null if it was not tried.")]
    forecast_reason: str | None
    outcome: Annotated[str | None, Meta(description="The outcome; null before its end.")]
    reason: str | None


class DeliveryInRunPage(Shape, frozen=True):
    items: list[DeliveryInRun]
    next: Annotated[str | None, Meta(description="The value for the next `after`; null at the end.")]


class RunPage(Shape, frozen=True):
    items: list[Run]
    next: Annotated[str | None, Meta(description="The value for the next `before`; null at the end.")]


class RunChanged(Shape, frozen=True):
    """A run and its state after the request."""

    run: str
    state: RunState
    again: Annotated[
        bool, Meta(description="Whether the same request was carried out before, so that nothing was done now.")
    ]


describe_shape(RunChanged)


def _run_id(text: str) -> int:
    if not is_id(text):
        raise NotFound(f"There is no run {text[:64]!r}: `/api/v1/runs` lists them.", names=("/api/v1/runs",))
    return int(text)


RUN_ID = Parameter("id", {"type": "string"}, "The id of a run.", _run_id, 0)

RUN_ROWS_AFTER: Parameter[int] = Parameter(
    "after",
    {"type": "integer", "minimum": 0, "default": 0},
    "The value of `next` in the page before.",
    number("after"),
    0,
)


RUN_DELIVERIES_AFTER: Parameter[int | None] = Parameter(
    "after", {"type": "string"}, "The value of `next` in the page before.", number("after"), None
)


ONLY_PLAN = Parameter(
    "only_plan",
    {"type": "boolean"},
    "Refuse if the run was started meanwhile, instead of ending it.",
    flag("only_plan"),
    False,
)


class Runs:
    """Lists, shows, starts and ends runs: `/api/v1/runs`."""

    def __init__(self, lookup: Lookup, verbs: Verbs, *, feed: Callable[[], None]) -> None:
        """`feed` is called when there is a new stage of a run for the feeders of this process."""
        self._lookup, self._verbs, self._feed = lookup, verbs, feed

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
            *self._parts(refusals),
            *(self._verb(name, answer, scope) for name, answer, scope in self._changes()),
        ]

    def _parts(self, refusals: tuple[type[Refused], ...]) -> list[Operation]:
        """The lists of one run, which are read page by page."""
        return [
            Operation(
                name="list_run_rows",
                path="/api/v1/runs/{id}/rows",
                summary="The rows that a run would change according to its plan, in key order",
                answer=self.list_rows,
                answers={200: ForecastPage},
                scope=Scope.READ,
                parameters=(RUN_ID, RUN_ROWS_AFTER, LIMIT),
                refusals=refusals,
            ),
            Operation(
                name="list_run_deliveries",
                path="/api/v1/runs/{id}/deliveries",
                summary="The deliveries of a replay's set, in the order of arrival",
                answer=self.list_deliveries,
                answers={200: DeliveryInRunPage},
                scope=Scope.READ,
                parameters=(RUN_ID, RUN_DELIVERIES_AFTER, LIMIT),
                refusals=refusals,
            ),
        ]

    def _changes(self) -> tuple[tuple[str, Callable[[Question], RunChanged], Scope], ...]:
        return (
            ("start", self._changing(self._verbs.start, "start run"), Scope.OPERATE),
            ("pause", self._changing(self._verbs.pause, "pause run"), Scope.OPERATE),
            ("resume", self._changing(self._verbs.resume, "resume run"), Scope.OPERATE),
            ("cancel", self._cancel, Scope.OPERATE),
        )

    def _verb(self, name: str, answer: Callable[[Question], RunChanged], scope: Scope) -> Operation:
        why = replace(WHY, is_required=True) if name == "start" else WHY
        return Operation(
            name=f"{name}_run",
            method="post",
            path=f"/api/v1/runs/{{id}}/{name}",
            summary=f"{name.capitalize()} a run",
            answer=answer,
            answers={200: RunChanged},
            scope=scope,
            parameters=(RUN_ID, *((ONLY_PLAN,) if name == "cancel" else ()), why, IDEMPOTENCY_KEY),
            refusals=(BadRequest, NotFound, ReasonWanted, RunConflict, KeyUsed, Unavailable),
        )

    def _cancel(self, asked: Question) -> RunChanged:
        run, only_plan = asked[RUN_ID], asked[ONLY_PLAN]
        request = asked_by(asked, "cancel run", run=str(run), **({"only_plan": True} if only_plan else {}))
        return show_changed(self._verbs.cancel(request, run, now=datetime.now(UTC), only_plan=only_plan))

    def _changing(self, do: Callable[..., Done], what: str) -> Callable[[Question], RunChanged]:
        def answer(asked: Question) -> RunChanged:
            run = asked[RUN_ID]
            done = do(asked_by(asked, what, run=str(run)), run, now=datetime.now(UTC))
            self._feed()
            return show_changed(done)

        return answer

    def list_runs(self, asked: Question) -> RunPage:
        page = self._lookup.page(recent(before=asked[BEFORE]), _show, asked[LIMIT])
        return RunPage(page.items, str(page.last["id"]) if page.last is not None and page.more else None)

    def show(self, asked: Question) -> WholeRun:
        with self._lookup.database.read() as connection:
            run = formatting.whole_run(
                connection,
                asked[RUN_ID],
                rows=LARGEST_PAGE,
                wiring=self._verbs.wiring,
                now=datetime.now(UTC),
                most_bytes=self._lookup.page_bytes,
            )
        rows = [ForecastRow(**row) for row in run.pop("rows")]
        overlaps = [OverlappingRun(**each) for each in run.pop("overlaps")]
        read = run.pop("read")
        return WholeRun(**run, read=read and ReadSoFar(**read), rows=rows, overlaps=overlaps)

    def list_rows(self, asked: Question) -> ForecastPage:
        after, limit = asked[RUN_ROWS_AFTER], asked[LIMIT]
        with self._lookup.database.read() as connection:
            find(connection, asked[RUN_ID])
            # A forecast keeps a few thousand rows at most, so skipping some costs little.
            page = formatting.forecast_rows(
                connection, asked[RUN_ID], limit=limit + 1, after=after, most_bytes=self._lookup.page_bytes
            )
        items = page.items[:limit]
        return ForecastPage(items, str(after + len(items)) if page.more else None)

    def list_deliveries(self, asked: Question) -> DeliveryInRunPage:
        limit = asked[LIMIT]
        with self._lookup.database.read() as connection:
            find(connection, asked[RUN_ID])
            after = asked[RUN_DELIVERIES_AFTER]
            rows = formatting.deliveries_of_run(connection, asked[RUN_ID], limit=limit + 1, after=after)
        items = [DeliveryInRun(**{name: row[name] for name in DeliveryInRun.__struct_fields__}) for row in rows[:limit]]
        return DeliveryInRunPage(items, items[-1].delivery if len(rows) > limit else None)


def _show(row: RowMapping) -> Run:
    return Run(**formatting.run_as_json(row))


def show_changed(done: Done) -> RunChanged:
    """Format the result of a verb for the API."""
    return answer_of(done, RunChanged, again=done.again)
