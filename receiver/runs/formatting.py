"""Formats runs and forecasts as JSON and as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from receiver import codec
from receiver.database.damage import damage_of
from receiver.database.pages import LARGEST_PAGE_BYTES, Page, read_page_on
from receiver.logs.wording import counted, grouped
from receiver.moments import time_text
from receiver.runs.leased_walk import read_so_far
from receiver.runs.outdated import plan_command, why_outdated
from receiver.runs.overlap import overlapping
from receiver.runs.runs import find, thing_of
from receiver.runs.tables import RUN_DELIVERIES, RUN_ROWS, RunState
from receiver.worker.processes import Wiring

#: The most rows of a forecast that are printed as text, unless more are asked for.
MOST_FORECAST_LINES = 20

#: The longest value in a line of a forecast, in characters, and the note about longer ones.
LONGEST_FORECAST_VALUE = 200
CUT_VALUES = "A value that ends in … is cut: --json shows all of it."

#: Internal columns of feeders, not shown.
_HIDDEN = frozenset({"mark", "fed_by", "fed_until"})

#: The columns with JSON, and the values shown in place of damaged ones.
_DOCUMENTS = ("sources", "arguments", "tally", "mark", "forecast")
_WITHOUT: Mapping[str, Any] = {"sources": [], "tally": {}, "forecast": None}


def run_as_json(run: RowMapping) -> dict[str, Any]:
    """Format a run for the API and `--json`."""
    shown = {**{name: value for name, value in run.items() if name not in _HIDDEN}, "id": str(run["id"])}
    damages = {name: damage for name in _DOCUMENTS if (damage := damage_of(run[name])) is not None}
    if damages:
        told = " ".join(f"Its {name} cannot be read. {damage}" for name, damage in damages.items())
        shown["trouble"] = " ".join(filter(None, (run["trouble"], told)))
    return shown | {name: _WITHOUT[name] for name in damages if name in _WITHOUT}


def whole_run(
    connection: Connection,
    run: int,
    *,
    rows: int,
    wiring: Wiring,
    now: datetime,
    most_bytes: int = LARGEST_PAGE_BYTES,
) -> dict[str, Any]:
    """Read a run with the first `rows` rows of its forecast, and the runs that it overlaps. Raises `NotFound`.

    Large rows reduce their number. `wiring` is that of the process that would start it.
    """
    found = find(connection, run)
    foreseen = forecast_rows(connection, run, limit=rows, most_bytes=most_bytes).items
    is_planned = found["state"] == RunState.PLANNED
    return run_as_json(found) | {
        "read": read_so_far(found["mark"]),
        "rows": [codec.decode(bytes(row)) for row in foreseen],
        "overlaps": [each.as_json() for each in overlapping(connection, found)],
        "outdated": why_outdated(connection, found, wiring, now) if is_planned else None,
    }


def forecast_rows(connection: Connection, run: int, *, limit: int, most_bytes: int, after: int = 0) -> Page:
    """A page of the rows that the run would change by its plan, in key order, without the first `after` rows."""
    found = select(RUN_ROWS).where(RUN_ROWS.c.run == run)
    ordered = found.order_by(RUN_ROWS.c.table, RUN_ROWS.c.source, RUN_ROWS.c.external_id)
    return read_page_on(connection, ordered.offset(after), forecast_row_as_json, limit=limit, most_bytes=most_bytes)


def deliveries_of_run(
    connection: Connection, run: int, *, limit: int, after: int | None = None
) -> list[dict[str, Any]]:
    """The deliveries of the run's set, in the order of arrival, behind the one with the id `after`."""
    found = select(RUN_DELIVERIES).where(RUN_DELIVERIES.c.run == run)
    if after is not None:
        found = found.where(RUN_DELIVERIES.c.delivery_id > after)
    rows = connection.execute(found.order_by(RUN_DELIVERIES.c.delivery_id).limit(limit)).mappings()
    return [{**row, "delivery": str(row["delivery_id"])} for row in rows]


def forecast_row_as_json(row: RowMapping) -> dict[str, Any]:
    """Format a row of a forecast for the API and `--json`."""
    return {name: value for name, value in row.items() if name != "run"}


def run_line(run: Mapping[str, Any]) -> str:
    """Format a run as one line of text."""
    of = f" of {', '.join(run['sources'])}" if any(run["sources"]) else ""
    who = run["started_by"] or run["planned_by"]
    reason = f": {run['reason']}" if run["reason"] else ""
    trouble = f" ({run['trouble']})" if run["trouble"] else ""
    return f"Run {run['id']}: {run['kind']}{of}, {_how_far(run)}, by {who}{reason}{trouble}"


def run_lines(run: Mapping[str, Any], *, most: int = MOST_FORECAST_LINES, after: int = 0) -> Iterator[str]:
    """Format a run, as `whole_run` returns it, as lines of text, with `most` of its rows.

    These are the rows behind the first `after` rows.
    """
    yield run_line(run)
    # A receiver of an earlier release does not say how much was read.
    if run.get("read"):
        yield f"Read so far: {_read_text(run['read'])} of the source's list."
    if run["tally"]:
        yield f"Became: {tally_text(run['tally'])}."
    if run["forecast"]:
        yield from forecast_lines(run["forecast"], run["rows"], most=most, after=after)
    for each in run["overlaps"]:
        yield each["says"]
    if run["state"] == RunState.PLANNED:
        yield from _next_step(run)


def _read_text(read: Mapping[str, int]) -> str:
    return f"{counted(read['rows'], 'row')} in {counted(read['pages'], 'page')}"


def _next_step(plan: Mapping[str, Any]) -> Iterator[str]:
    """Say how a plan is started, or why it cannot be, and how the same is planned again."""
    # A receiver of an earlier release does not say whether the plan is outdated.
    outdated, again = plan.get("outdated"), plan_command(plan)
    if not outdated:
        yield f"Start it with `hookmirror runs start {plan['id']} --reason '…'`."
        return
    yield f"The plan is outdated. {outdated}"
    if again is not None:
        yield f"Plan the same with `{again}`."


def forecast_lines(
    forecast: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    *,
    most: int = MOST_FORECAST_LINES,
    after: int = 0,
) -> Iterator[str]:
    """Format a forecast as lines of text: the totals, the reasons, and `most` of its rows.

    `rows` are those behind the first `after` rows.
    """
    yield f"Would become, as of {time_text(forecast['made_at'])}: {tally_text(forecast['outcomes']) or 'nothing'}."
    if forecast["partial"]:
        yield f"The forecast is partial: {forecast['partial']}"
    for each in forecast["reasons"]:
        yield f"  {each.get('deliveries', each.get('rows', 0))} × {each['reason']}"
    for table, operations in forecast["rows"].items():
        yield f"Rows of {table}: {tally_text(operations)}."
    differences = [_difference(row) for row in rows[:most]]
    for row, difference in zip(rows, differences, strict=False):
        yield f"  {row['operation']} {row['table']} {row['source']} {row['external_id']}: {difference}"
    more = sum(sum(operations.values()) for operations in forecast["rows"].values()) - after - len(rows[:most])
    if more > 0:
        yield f"  … and {more} more."
    if any("…" in difference for difference in differences):
        yield CUT_VALUES


def tally_text(tally: Mapping[str, int]) -> str:
    """Format a tally as text, the largest number first."""
    return ", ".join(f"{number} {name}" for name, number in sorted(tally.items(), key=lambda item: (-item[1], item[0])))


def _how_far(run: Mapping[str, Any]) -> str:
    if run["state"] == RunState.PLANNED:
        return f"planned, {counted(run['total'], thing_of(run['kind']))} to do, none done"
    if run["state"] in (RunState.RUNNING, RunState.PAUSED):
        return f"{run['state']}, {grouped(run['done'])} of {counted(run['total'], thing_of(run['kind']))}"
    return f"{run['state']}, {counted(run['done'], thing_of(run['kind']))}" if run["done"] else str(run["state"])


def _difference(row: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {_as_json(row['before'].get(name))} -> {_as_json(row['after'].get(name))}"
        for name in dict.fromkeys((*row["after"], *row["before"]))
        if row["before"].get(name) != row["after"].get(name)
    )


def _as_json(value: Any) -> str:
    return codec.shortened(value, LONGEST_FORECAST_VALUE)
