"""A run: what it would do, does or did, row by row, and the buttons that start and end it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from receiver.api.actions import Action, ActionPage
from receiver.api.processes import ProcessList
from receiver.api.runs import DeliveryInRun, DeliveryInRunPage, ForecastPage, ForecastRow, Run, WholeRun
from receiver.codec import encode
from receiver.console.lists import Listing, listing
from receiver.console.page import Button, ConsolePage
from receiver.console.visit import Visit
from receiver.runs.tables import RunState

#: Rows of the forecast on the page of a run, rows of a page of all, and actions.
FORESEEN_SHOWN, ROWS_OF_A_PAGE, ACTIONS_SHOWN = 30, "100", "20"

#: The filters of a plan by their names in a run's arguments, where these differ.
FILTER_NAMES = {"begin": "from", "end": "to", "reason": "reason_has"}

#: What a run of each kind does, said of its number.
DEEDS = {
    "replay": "replay of",
    "reconcile": "reconcile of",
    "date_back": "dating back of",
    "repair": "repair of a row of",
    "prune": "prune of what has expired",
}


class ForecastColumn(NamedTuple):
    """A column that a row would have another value in."""

    name: str
    before: Any
    after: Any


class ForeseenRow(NamedTuple):
    """A row of a forecast, and what would change in it."""

    row: ForecastRow
    changes: list[ForecastColumn]


class RunShown(NamedTuple):
    """What the template shows."""

    run: WholeRun
    deed: str
    #: What was asked for: each filter with its value.
    arguments: list[tuple[str, str]]
    rows: list[ForeseenRow]
    #: Rows of the forecast that are not on the page.
    more_rows: int
    forecast_at: datetime | None
    #: Finished deliveries or rows in a second, and how long the rest takes; None while that is not known.
    rate: float | None
    rest: timedelta | None
    #: Whether it waits for a worker, and none is alive.
    nobody_works: bool
    #: The fields of a plan of the same; None for a kind that is not planned here.
    again: dict[str, str] | None
    actions: list[Action]


class TypedActionPage(ActionPage, frozen=True):
    """A page whose items are values again."""

    items: list[Action]


def show_one_run(visit: Visit) -> RunShown:
    """The run as it stands, the first rows of its forecast, and who did what with it."""
    run = visit.ask(WholeRun, "show_run", id=visit.path["id"])
    counted = sum(sum(numbers.values()) for numbers in (run.forecast or {}).get("rows", {}).values())
    rate = _rate(run, visit.now)
    return RunShown(
        run=run,
        deed=DEEDS[run.kind],
        arguments=_arguments(run),
        rows=[foreseen(row) for row in run.rows[:FORESEEN_SHOWN]],
        more_rows=max(counted, len(run.rows)) - len(run.rows[:FORESEEN_SHOWN]),
        forecast_at=datetime.fromisoformat(run.forecast["made_at"]) if run.forecast else None,
        rate=rate,
        rest=timedelta(seconds=(run.total - run.done) / rate) if rate and run.total > run.done else None,
        nobody_works=run.state in (RunState.PLANNING, RunState.RUNNING) and not _works(visit),
        again=_again(run),
        actions=visit.ask(TypedActionPage, "list_actions", run=run.id, limit=ACTIONS_SHOWN).items,
    )


def foreseen(row: ForecastRow) -> ForeseenRow:
    """A row with the columns that would have another value."""
    changes = [
        ForecastColumn(name, row.before.get(name), after)
        for name, after in row.after.items()
        if row.before.get(name) != after
    ]
    return ForeseenRow(row, changes)


def _rate(run: Run, now: datetime) -> float | None:
    if run.state is not RunState.RUNNING or run.started_at is None or not run.done:
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
    """What plans the same: with the same filters, or the same deliveries if all of them are recorded."""
    arguments = run.arguments
    if run.kind == "prune":
        return {"kind": "prune"}
    if run.kind == "reconcile":
        # Beyond the brake only by a command, where its number is typed.
        return {"kind": "reconcile", "source": run.sources[0]} if run.sources else None
    if run.kind != "replay":
        return None
    if "ids" in arguments:
        whole = len(arguments["ids"]) == arguments.get("deliveries")
        return {"kind": "replay", "ids": ",".join(arguments["ids"])} if whole else None
    words = {FILTER_NAMES.get(name, name): _word(value) for name, value in arguments.items() if value is not None}
    return {"kind": "replay"} | words


class ForeseenList(NamedTuple):
    """What the template of all rows shows."""

    run: str
    rows: list[ForeseenRow]
    listing: Listing


class TypedForecastPage(ForecastPage, frozen=True):
    """A page whose items are values again."""

    items: list[ForecastRow]


def show_rows_of_run(visit: Visit) -> ForeseenList:
    """The forecast of a run, row by row, page by page."""
    page = visit.ask_listed(TypedForecastPage, "list_run_rows", limit=ROWS_OF_A_PAGE)
    around = listing(visit, ROWS_PAGE, following=page.next)
    return ForeseenList(visit.path["id"], [foreseen(row) for row in page.items], around)


class DeliveriesOfRun(NamedTuple):
    """What the template of its deliveries shows."""

    run: str
    items: list[DeliveryInRun]
    listing: Listing


class TypedDeliveryInRunPage(DeliveryInRunPage, frozen=True):
    """A page whose items are values again."""

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


def _verb(verb: str, label: str, says: str, *, fields: tuple[str, ...] = ()) -> Button:
    return Button(
        name=f"{verb}_run",
        path=f"/runs/{{id}}/{verb}",
        label=label,
        operation=f"{verb}_run",
        command=f"hookmirror runs {verb} {{id}}",
        says=says,
        then="/runs/{id}",
        fields=fields,
    )


BUTTONS = (
    _verb("start", "Start", "It is started, and gives way to live deliveries.", fields=("reason",)),
    _verb("pause", "Pause", "It is paused: what was fed goes on, and nothing more is fed."),
    _verb("resume", "Go on", "It goes on."),
    _verb("cancel", "Cancel", "It is cancelled: what was fed goes on, and the rest stays as it is."),
)
