"""A run: its forecast row by row, its progress, its actions, and the buttons that start, pause and cancel it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from receiver.api.actions import Action, ActionPage
from receiver.api.plans import PLAN_FILTERS
from receiver.api.processes import ProcessList
from receiver.api.runs import DeliveryInRun, DeliveryInRunPage, ForecastPage, ForecastRow, Run, RunChanged, WholeRun
from receiver.codec import encode, is_same
from receiver.console.lists import Listing, listing
from receiver.console.page import Button, ConsolePage
from receiver.console.visit import Visit
from receiver.database.damage import DAMAGED, damaged_moment
from receiver.moments import in_utc
from receiver.runs.tables import RunState

#: Rows of the forecast on the page of a run, rows on a page of the whole forecast, and actions of the run.
FORESEEN_SHOWN, ROWS_OF_A_PAGE, ACTIONS_SHOWN = 30, "100", "20"

#: The parameters of a plan, by their names in a run's arguments.
FILTER_NAMES = {name: parameter.name for name, parameter in PLAN_FILTERS.items()}

#: The phrase before the number of deliveries or rows, by run kind.
DEEDS = {
    "replay": "replay of",
    "reconcile": "reconcile of",
    "date_back": "dating back of",
    "repair": "repair of a row of",
    "prune": "prune of what has expired",
}


class ForecastColumn(NamedTuple):
    """A column of a row that would get another value."""

    name: str
    before: Any
    after: Any


class ForeseenRow(NamedTuple):
    """A row of a forecast, and the columns that would change."""

    row: ForecastRow
    changes: list[ForecastColumn]


class RunShown(NamedTuple):
    """The values for the template."""

    run: WholeRun
    deed: str
    #: Names and values of the run's filters.
    arguments: list[tuple[str, str]]
    rows: list[ForeseenRow]
    #: Number of rows of the forecast that are not on the page.
    more_rows: int
    forecast_at: datetime | None
    #: Deliveries or rows finished in a second, and seconds until the end; None while they are unknown.
    rate: float | None
    rest: timedelta | None
    #: Whether the run waits for a worker while no worker is alive.
    nobody_works: bool
    #: The fields of a plan with the same filters; None for a kind that the console does not plan.
    again: dict[str, str] | None
    actions: list[Action]
    #: Whether the run has more actions than these.
    more_actions: bool


class TypedActionPage(ActionPage, frozen=True):
    """A page of actions, with its items decoded from JSON."""

    items: list[Action]


def show_one_run(visit: Visit) -> RunShown:
    """The run with its progress, the first rows of its forecast, and its actions."""
    run = visit.ask(WholeRun, "show_run", id=visit.path["id"])
    counted = sum(sum(numbers.values()) for numbers in (run.forecast or {}).get("rows", {}).values())
    rate = _rate(run, visit.now)
    actions = visit.ask(TypedActionPage, "list_actions", run=run.id, limit=ACTIONS_SHOWN)
    return RunShown(
        run=run,
        deed=DEEDS.get(run.kind, f"{run.kind} of"),
        arguments=_arguments(run),
        rows=[foreseen(row) for row in run.rows[:FORESEEN_SHOWN]],
        more_rows=max(counted, len(run.rows)) - len(run.rows[:FORESEEN_SHOWN]),
        forecast_at=_moment_in(run.forecast["made_at"]) if run.forecast else None,
        rate=rate,
        rest=timedelta(seconds=(run.total - run.done) / rate) if rate and run.total > run.done else None,
        nobody_works=run.state in (RunState.PLANNING, RunState.RUNNING) and not _works(visit),
        again=_again(run),
        actions=actions.items,
        more_actions=actions.next is not None,
    )


def foreseen(row: ForecastRow) -> ForeseenRow:
    """A row of a forecast with the columns that would change."""
    changes = [
        ForecastColumn(name, row.before.get(name), row.after.get(name))
        for name in dict.fromkeys((*row.after, *row.before))
        if not is_same(row.before.get(name), row.after.get(name))
    ]
    return ForeseenRow(row, changes)


def _moment_in(text: str) -> datetime:
    """The time in a forecast, which may have been edited by hand to one that UTC does not have."""
    try:
        return in_utc(datetime.fromisoformat(text))
    except ValueError:
        return damaged_moment(text)


def _rate(run: Run, now: datetime) -> float | None:
    if run.state is not RunState.RUNNING or run.started_at is None or not run.done:
        return None
    if run.started_at > now:
        # The clock was set back since.
        return None
    return run.done / max((now - run.started_at).total_seconds(), 1.0)


def _works(visit: Visit) -> bool:
    processes = visit.ask(ProcessList, "list_processes").items
    return any(process.kind.works for process in processes)


def _arguments(run: Run) -> list[tuple[str, str]]:
    told = {name: value for name, value in run.arguments.items() if value not in (None, False) and name != "deliveries"}
    return [(FILTER_NAMES.get(name, name).replace("_", " "), _word(value)) for name, value in told.items()]


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else encode(value).decode()


def _again(run: Run) -> dict[str, str] | None:
    """The fields of a plan with the same filters, or with the same deliveries if the run recorded all their ids."""
    arguments = run.arguments
    if DAMAGED in arguments:
        return None
    if run.kind == "prune":
        return {"kind": "prune"}
    if run.kind == "reconcile":
        # Only a command plans beyond the brake, because a person must type `--force` there.
        return {"kind": "reconcile", "source": run.sources[0]} if run.sources else None
    if run.kind != "replay":
        return None
    if isinstance(arguments.get("ids"), list):
        whole = len(arguments["ids"]) == arguments.get("deliveries")
        return {"kind": "replay", "ids": ",".join(map(str, arguments["ids"]))} if whole else None
    words = {FILTER_NAMES.get(name, name): _word(value) for name, value in arguments.items() if value is not None}
    return {"kind": "replay"} | words


class ForeseenList(NamedTuple):
    """The values for the template of the whole forecast."""

    run: str
    rows: list[ForeseenRow]
    listing: Listing
    #: Why there are no rows.
    says: str


class TypedForecastPage(ForecastPage, frozen=True):
    """A page of a forecast, with its items decoded from JSON."""

    items: list[ForecastRow]


def show_rows_of_run(visit: Visit) -> ForeseenList:
    """One page of the forecast of a run."""
    page = visit.ask_listed(TypedForecastPage, "list_run_rows", limit=ROWS_OF_A_PAGE)
    around = listing(visit, ROWS_PAGE, following=page.next)
    says = "" if page.items else _says_of_no_rows(visit, around)
    return ForeseenList(visit.path["id"], [foreseen(row) for row in page.items], around, says)


def _says_of_no_rows(visit: Visit, around: Listing) -> str:
    if around.first:
        return "No further row would change."
    run = visit.ask(WholeRun, "show_run", id=visit.path["id"])
    if run.state is RunState.PLANNING:
        return "The forecast is being made: it is not known yet which rows would change."
    if run.forecast is None:
        return "This run has no forecast."
    return "No row would change."


class DeliveriesOfRun(NamedTuple):
    """The values for the template of the deliveries of a run."""

    run: str
    items: list[DeliveryInRun]
    listing: Listing


class TypedDeliveryInRunPage(DeliveryInRunPage, frozen=True):
    """A page of the deliveries of a run, with its items decoded from JSON."""

    items: list[DeliveryInRun]


def show_deliveries_of_run(visit: Visit) -> DeliveriesOfRun:
    """The frozen set of a replay, page by page."""
    page = visit.ask_listed(TypedDeliveryInRunPage, "list_run_deliveries", limit=ROWS_OF_A_PAGE)
    return DeliveriesOfRun(visit.path["id"], page.items, listing(visit, RUN_DELIVERIES_PAGE, following=page.next))


RUN_DELIVERIES_PAGE = ConsolePage(
    name="run_deliveries",
    path="/runs/{id}/deliveries",
    title="The deliveries of a run",
    template="run_deliveries.html",
    operation="list_run_deliveries",
    command="hookmirror runs show {id}",
    show=show_deliveries_of_run,
    follows_in="after",
    live=("runs",),
)

ROWS_PAGE = ConsolePage(
    name="run_rows",
    path="/runs/{id}/rows",
    title="The forecast of a run",
    template="run_rows.html",
    operation="list_run_rows",
    command="hookmirror runs show {id}",
    show=show_rows_of_run,
    follows_in="after",
)

PAGES = (
    ConsolePage(
        name="run",
        path="/runs/{id}",
        title="A run",
        template="run.html",
        operation="show_run",
        command="hookmirror runs show {id}",
        show=show_one_run,
        live=("runs", "deliveries"),
    ),
    ROWS_PAGE,
    RUN_DELIVERIES_PAGE,
)


#: The message after a form that was pressed before, such as one that the browser kept and showed again.
DONE_BEFORE = (
    "This form was pressed before, and did its work then. Nothing was done now: the page shows the state of the run."
)


def _saying(says: str) -> Callable[[RunChanged], str]:
    return lambda answer: DONE_BEFORE if answer.again else says


def _verb(verb: str, label: str, says: str, *, fields: tuple[str, ...] = ()) -> Button:
    return Button(
        name=f"{verb}_run",
        path=f"/runs/{{id}}/{verb}",
        label=label,
        operation=f"{verb}_run",
        command=f"hookmirror runs {verb} {{id}}",
        says=_saying(says),
        then="/runs/{id}",
        fields=fields,
    )


BUTTONS = (
    _verb("start", "Start", "The run is started. It gives way to live deliveries.", fields=("reason",)),
    _verb("pause", "Pause", "The run is paused: deliveries that were fed continue, and no more are fed."),
    _verb("resume", "Go on", "The run goes on."),
    _verb(
        "cancel", "Cancel", "The run is cancelled: deliveries that were fed continue, and the others stay unchanged."
    ),
    Button(
        name="drop_plan",
        path="/runs/{id}/drop",
        label="Drop the plan",
        operation="cancel_run",
        command="hookmirror runs cancel {id}",
        says=_saying("The plan is dropped. Nothing was changed."),
        then="/runs/{id}",
        given=(("only_plan", "true"),),
    ),
)
