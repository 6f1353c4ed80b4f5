"""Stored JSON that was edited by hand: every page and operation shows the rest, and names the damage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from console_stock import SOURCE, TABLE, ConsoleStock, console_stock
from damaging import UNDISTURBED, heartbeats_in_between
from in_turn import databases_in_turn
from sqlalchemy import Table, insert, select, text, update
from visiting import Visitor, text_of, visitor_at

from handlers.catalog import Product
from receiver.findings.tables import FINDINGS
from receiver.inbox.refused import REQUESTS
from receiver.inbox.tables import BODIES, SETTLEMENTS
from receiver.mirror.changes import CHANGES
from receiver.mirror.rows import sql_table
from receiver.runs.actions import ACTIONS
from receiver.runs.formatting import run_lines
from receiver.runs.tables import RUN_ROWS, RUNS
from receiver.worker.processes import PROCESSES

#: Texts in place of JSON objects, and the sentences about them. The last are objects of another shape.
NOT_OBJECTS = {
    "": "The text is empty.",
    "{edited": "is not JSON.",
    "[1]": "is JSON of another shape.",
}
ODD_OBJECTS = ("{}", '{"made_at": 5, "link": 5, "ids": 5, "walk": 5, "x": {"y": [5]}}')

CLOSED = "a closed finding"

DATA = sql_table(Product).c.data


@pytest.fixture(scope="module")
def stock(lend_database, tmp_path_factory) -> Iterator[ConsoleStock]:
    folder = tmp_path_factory.mktemp("damaged")
    with heartbeats_in_between(), lend_database(folder) as url, console_stock(url) as found:
        now = datetime.now(UTC)
        closed = {"id": CLOSED, "opened_at": now - timedelta(hours=2), "closed_at": now - timedelta(hours=1)}
        says = {
            "rule": "silence",
            "source": SOURCE,
            "says": "it was silent",
            "mend": "wait",
            "evidence": {"minutes": 5},
        }
        with found.served.beside.write() as connection:
            times = {"since": closed["opened_at"], "seen_at": closed["closed_at"]}
            connection.execute(insert(FINDINGS).values(**closed, **says, **times))
        yield found


@pytest.fixture(scope="module")
def visitor(stock: ConsoleStock) -> Iterator[Visitor]:
    with visitor_at(stock.site) as person:
        yield person


def addresses(stock: ConsoleStock) -> dict[Any, tuple[tuple[str, ...], tuple[str, ...]]]:
    """The operations and the pages that read each column."""
    delivery, planned, row = stock.deliveries["first"], stock.runs["differing"], stock.rows["contradicted"]
    path = "/".join(row)
    of_delivery = (f"/api/v1/deliveries/{delivery}",), (f"/deliveries/{delivery}",)
    of_run = ("/api/v1/runs", f"/api/v1/runs/{planned}"), ("/runs", f"/runs/{planned}", "/")
    of_actions = ("/api/v1/actions",), ("/actions",)
    of_rows = (f"/api/v1/runs/{planned}/rows",), (f"/runs/{planned}", f"/runs/{planned}/rows")
    one = f"/changes/{stock.newest_change}"
    of_changes = (
        ("/api/v1/changes", "/api/v1/changes?newest=true", f"/api/v1{one}"),
        ("/changes", one, f"/mirror/{path}"),
    )
    in_mirror = f"/api/v1/catalog/{TABLE}", f"/api/v1/catalog/{path}", f"/api/v1/catalog/{path}/why"
    return {
        BODIES.c.headers: of_delivery,
        SETTLEMENTS.c.attempts: of_delivery,
        REQUESTS.c.headers: (("/api/v1/refused",), (f"/refused/{stock.refused['newest']}",)),
        ACTIONS.c.arguments: of_actions,
        ACTIONS.c.result: of_actions,
        **dict.fromkeys((RUNS.c[name] for name in ("sources", "arguments", "tally", "mark", "forecast")), of_run),
        RUN_ROWS.c.before: of_rows,
        RUN_ROWS.c.after: of_rows,
        FINDINGS.c.evidence: (("/api/v1/findings?all=true",), (f"/findings/{CLOSED}", "/findings?all=true")),
        PROCESSES.c.settings: (("/api/v1/processes",), ("/system",)),
        PROCESSES.c.wiring: (("/api/v1/processes",), ("/system",)),
        CHANGES.c.before: of_changes,
        CHANGES.c.after: of_changes,
        DATA: (in_mirror, (f"/mirror/{TABLE}", f"/mirror/{path}")),
    }


COLUMNS = (
    *(BODIES.c.headers, SETTLEMENTS.c.attempts, REQUESTS.c.headers, ACTIONS.c.arguments, ACTIONS.c.result),
    *(
        RUNS.c.sources,
        RUNS.c.arguments,
        RUNS.c.tally,
        RUNS.c.mark,
        RUNS.c.forecast,
        RUN_ROWS.c.before,
        RUN_ROWS.c.after,
    ),
    *(FINDINGS.c.evidence, PROCESSES.c.settings, PROCESSES.c.wiring, CHANGES.c.before, CHANGES.c.after, DATA),
)


@contextmanager
def damaged(stock: ConsoleStock, column: Any, content: str) -> Iterator[None]:
    """Have this text in the column of all rows until the end of the block."""
    table: Table = column.table
    keys = list(table.primary_key.columns)
    with UNDISTURBED:
        with stock.served.beside.write() as connection:
            before = connection.execute(select(*keys, column)).all()
            connection.execute(text(f'UPDATE "{table.name}" SET "{column.name}" = :content'), {"content": content})
        try:
            yield
        finally:
            with stock.served.beside.write() as connection:
                for *values, value in before:
                    mine = [key == one for key, one in zip(keys, values, strict=True)]
                    connection.execute(update(table).where(*mine).values({column.name: value}))


@databases_in_turn("column", COLUMNS)
def test_a_damaged_text_is_told_on_every_page_and_the_rest_is_shown(stock: ConsoleStock, visitor: Visitor, column: Any):
    operations, pages = addresses(stock)[column]
    for content, says in NOT_OBJECTS.items():
        if column is DATA:
            # A mirror's document may have any shape. A row with damage is told about as a whole.
            says = "its column data holds text" if content in ("", "{edited") else ""
        with damaged(stock, column, content):
            for path in operations:
                answer = stock.served.get(path)
                assert answer.status_code == 200, (content, path, answer.text)
            told = [text_of(visitor.page(path)) for path in pages]
            assert any(says in words for words in told) or column is PROCESSES.c.wiring, (content, says, told)


@databases_in_turn("column", COLUMNS)
def test_objects_with_other_members_stop_no_page(stock: ConsoleStock, visitor: Visitor, column: Any):
    operations, pages = addresses(stock)[column]
    for content in ODD_OBJECTS:
        with damaged(stock, column, content):
            for path in operations:
                assert stock.served.get(path).status_code == 200, (content, path)
            for path in pages:
                visitor.page(path)


#: Changes of a sound forecast that leave its members in place.
ODD_FORECASTS = (
    {"reasons": [{}]},
    {"reasons": [{"reason": "held by the brake"}]},
    {"reasons": [{"deliveries": "x", "reason": 5}]},
    {"made_at": "0001-01-01T00:00:00+14:00"},
    {"outcomes": {"applied": "x"}},
    {"rows": {"products": [1]}},
)


def test_a_forecast_with_odd_members_stops_no_page_and_no_command(stock: ConsoleStock, visitor: Visitor):
    sound = {"made_at": "2026-06-01T12:00:00Z", "partial": None, "outcomes": {}, "reasons": [], "rows": {}}
    operations, pages = addresses(stock)[RUNS.c.forecast]
    for odd in ODD_FORECASTS:
        with damaged(stock, RUNS.c.forecast, json.dumps(sound | odd)):
            for path in operations:
                assert stock.served.get(path).status_code == 200, (odd, path)
            for path in pages:
                visitor.page(path)
            run = stock.served.get(f"/api/v1/runs/{stock.runs['differing']}").json()
            assert [*run_lines(run)], odd
