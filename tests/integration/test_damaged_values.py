"""Times, numbers, states and bytes that were edited by hand: everything else is shown, and nothing stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from commanding import Folder, Forks
from console_stock import SOURCE, TABLE, ConsoleStock, console_stock
from damaging import damaged, heartbeats_in_between, last_row
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from serving import token
from shopping import NOON, named, new_shop, states
from sqlalchemy import Boolean, Column, Integer, LargeBinary, Table, select, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel
from visiting import Visitor, strange_markup, text_of, visitor_at

from examples import examples
from handlers.catalog import Product
from receiver.api.tokens import Scope
from receiver.database.columns import Document, ExactDecimal, UtcDateTime, by_kind
from receiver.findings import tallies
from receiver.findings.counting import KindCount, TallyKey
from receiver.findings.retention import prune_tallies
from receiver.inbox.retention import Retention
from receiver.inbox.tables import DELIVERIES
from receiver.mirror.changes import CHANGES
from receiver.mirror.rows import sql_table
from receiver.runs.actions import ACTIONS
from receiver.runs.tables import RUNS
from receiver.testing import Webhooks

#: A value with markup, which no page may contain unescaped.
ODD_MARKUP = "<b>noon</b>"

#: Odd values by the type of a column.
ODD_TIMES = ("yesterday", "", "5", "2026-13-45T00:00:00Z", ODD_MARKUP, b"\xff", "0001-01-01T00:00:00+05:00")
ODD_NUMBERS = ("many", "", 5.5, -1, 2**62, b"\xff")
ODD_BYTES = ("edited text", "", 5)
ODD_FLAGS = ("maybe", 5)
ODD_TEXTS = ("odd", "", ODD_MARKUP)
ODD = (
    (UtcDateTime, ODD_TIMES),
    ((Document, ExactDecimal), ()),
    (Boolean, ODD_FLAGS),
    (Integer, ODD_NUMBERS),
    (LargeBinary, ODD_BYTES),
)

#: Tables that people do not see, or whose damage ends the session of the test's own person.
UNSEEN = {"alembic_version", "sessions", "unfinished"}

Addresses = Callable[[Mapping[str, Any]], tuple[str, ...]]


def of_delivery(number: object) -> tuple[str, ...]:
    return f"/api/v1/deliveries/{number}", f"/deliveries/{number}", f"/api/v1/search?q={number}"


def of_run(number: object) -> tuple[str, ...]:
    return f"/api/v1/runs/{number}", f"/runs/{number}", f"/api/v1/runs/{number}/rows", f"/runs/{number}/rows"


def of_mirror(row: Mapping[str, Any]) -> tuple[str, ...]:
    path = f"{TABLE}/{quote(row['source'])}/{quote(row['external_id'], safe='')}"
    read = f"/api/v1/catalog/{TABLE}", f"/api/v1/catalog/{path}", f"/api/v1/catalog/{path}/why"
    return *read, f"/mirror/{TABLE}", f"/mirror/{path}", f"/api/v1/search?q={quote(row['external_id'])}"


#: The addresses that read each table, given the damaged row. Those of the API begin with `/api`, the others are pages.
ADDRESSES: dict[str, Addresses] = {
    "deliveries": lambda row: (
        *of_delivery(row["id"]),
        *("/api/v1/deliveries", "/api/v1/deliveries?states=true&count=true", "/deliveries", "/deliveries?state=dead"),
        *("/api/v1/stats", "/api/v1/faults", "/faults", "/", f"/sources/{row['source']}", "/sources"),
    ),
    "bodies": lambda row: of_delivery(row["delivery_id"]),
    "dedup_keys": lambda row: (f"/api/v1/search?q={quote(row['dedup_key'])}",),
    "rounds": lambda row: of_delivery(row["delivery_id"]),
    "attempts": lambda row: (*of_delivery(row["delivery_id"]), "/api/v1/faults", "/faults"),
    "settlements": lambda row: ("/api/v1/deliveries",),
    "refused": lambda row: ("/api/v1/refused", "/refused", f"/refused/{row['id']}", f"/sources/{row['source']}"),
    "tallies": lambda row: (
        *("/api/v1/tallies", "/", "/?period=week", "/sources", f"/sources/{row['source'] or SOURCE}"),
        *("/api/v1/findings", "/findings"),
    ),
    "findings": lambda row: (
        *("/api/v1/findings", "/api/v1/findings?all=true", "/findings?all=true", "/"),
        *(f"/api/v1/findings/{quote(row['id'])}", f"/findings/{quote(row['id'])}"),
    ),
    "runs": lambda row: ("/api/v1/runs", "/runs", "/", *of_run(row["id"])),
    "run_deliveries": lambda row: (
        *of_run(row["run"]),
        f"/api/v1/runs/{row['run']}/deliveries",
        f"/runs/{row['run']}/deliveries",
    ),
    "run_rows": lambda row: of_run(row["run"]),
    "schedules": lambda row: ("/api/v1/stats", f"/sources/{row['source']}"),
    "changes": lambda row: (
        *("/api/v1/changes", "/api/v1/changes?newest=true", "/api/v1/changes?since=1h", "/changes"),
        *(f"/api/v1/changes/{row['seq']}", f"/changes/{row['seq']}"),
    ),
    "actions": lambda row: ("/api/v1/actions", "/actions", "/api/v1/findings"),
    "processes": lambda row: ("/api/v1/processes", "/api/v1/system", "/system", "/runs"),
    "followers": lambda row: ("/api/v1/followers", "/followers", "/"),
    "dead_changes": lambda row: ("/api/v1/followers", "/followers"),
    TABLE: of_mirror,
}


def tables() -> list[Table]:
    return [each for each in SQLModel.metadata.sorted_tables if each.name not in UNSEEN and each.name in ADDRESSES]


def odd_values(column: Column[Any]) -> tuple[Any, ...]:
    if column.primary_key and column.table.name == TABLE:
        # A row with another key is another row.
        return ()
    if column.primary_key and len(column.table.primary_key) == 1 and isinstance(column.type, Integer):
        # The row's own number, in which SQLite stores nothing else.
        return ()
    return tuple(by_kind(column.type, ODD, ODD_TEXTS))


CASES = [(column, value) for table in tables() for column in table.columns for value in odd_values(column)]


@pytest.fixture(scope="module")
def stock(tmp_path_factory) -> Iterator[ConsoleStock]:
    """A console with data on SQLite, which stores every kind of value in every column."""
    url = f"sqlite:///{tmp_path_factory.mktemp('odd') / 'hookmirror.db'}"
    with heartbeats_in_between(), console_stock(url) as found:
        yield found


@pytest.fixture(scope="module")
def visitor(stock: ConsoleStock) -> Iterator[Visitor]:
    with visitor_at(stock.site) as person:
        yield person


def read(stock: ConsoleStock, visitor: Visitor, address: str) -> str:
    """Read the address, which must exist, and return its text."""
    answer = stock.served.get(address) if address.startswith("/api") else visitor.get(address)
    assert answer.status_code == 200, (address, answer.text[:2_000])
    if not address.startswith("/api"):
        assert strange_markup(answer.text) == []
    return answer.text


@examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=st.sampled_from(CASES))
def test_any_odd_value_leaves_every_page_and_list_that_reads_it_readable(stock, visitor, case):
    column, value = case
    row = last_row(stock.served.beside, column.table)
    if row is None:
        return
    with suppress(IntegrityError), damaged(stock.served.beside, column, value, row=row):
        for address in ADDRESSES[column.table.name](row):
            read(stock, visitor, address)


#: Columns, the pages that list them, and the ends of the sentences about them.
SHOWN = [
    (DELIVERIES.c.received_at, "/deliveries", "is not a time. Correct it in the database."),
    (DELIVERIES.c.attempts, "/deliveries", "is not a whole number. Correct it in the database."),
    (DELIVERIES.c.state, "/deliveries", f"damaged: {ODD_MARKUP}"),
    (CHANGES.c.recorded_at, "/changes", "is not a time. Correct it in the database."),
    (CHANGES.c.operation, "/changes", f"{ODD_MARKUP}"),
    (ACTIONS.c.at, "/actions", "is not a time. Correct it in the database."),
    (ACTIONS.c.count, "/actions", "is not a whole number. Correct it in the database."),
    (RUNS.c.planned_at, "/runs", "is not a time. Correct it in the database."),
    (sql_table(Product).c.changed_at, f"/mirror/{TABLE}", "is not a time. Correct it in the database."),
]


@pytest.mark.parametrize(("column", "path", "says"), SHOWN, ids=lambda each: getattr(each, "name", ""))
def test_a_damaged_value_is_told_with_its_text_among_all_the_other_rows(stock, visitor, column, path, says):
    rows = visitor.page(path).count("<tr")
    with damaged(stock.served.beside, column, ODD_MARKUP):
        page = visitor.page(path)
    assert ODD_MARKUP in text_of(page)
    assert says in text_of(page)
    assert ODD_MARKUP not in page
    assert page.count("<tr") == rows


def test_the_api_has_a_sentence_in_place_of_a_damaged_time_or_number(stock):
    row = last_row(stock.served.beside, DELIVERIES)
    with (
        damaged(stock.served.beside, DELIVERIES.c.received_at, "yesterday", row=row),
        damaged(stock.served.beside, DELIVERIES.c.duplicates, "many", row=row),
    ):
        shown = stock.served.delivery(str(row["id"]))
        listed = stock.ask("/api/v1/deliveries?limit=1")["items"][0]
    assert shown["received_at"] == "damaged: The stored value 'yesterday' is not a time. Correct it in the database."
    assert shown["duplicates"] == "damaged: The stored value 'many' is not a whole number. Correct it in the database."
    assert (listed["received_at"], listed["duplicates"]) == (shown["received_at"], shown["duplicates"])


@pytest.mark.parametrize("path", ["/api/v1/deliveries?", "/api/v1/changes?newest=true&", "/api/v1/actions?"])
def test_a_list_goes_on_past_a_damaged_row_page_by_page(stock, path):
    column = {"d": DELIVERIES.c.received_at, "c": CHANGES.c.recorded_at, "a": ACTIONS.c.at}[path[len("/api/v1/")]]
    first = last_row(stock.served.beside, column.table)
    with damaged(stock.served.beside, column, "yesterday", row=first):
        found, place = [], ""
        while len(found) < 4:
            page = stock.ask(f"{path}limit=1{place}")
            found += [str(each.get("id", each.get("seq"))) for each in page["items"]]
            # The parameter of each list that takes the beginning of its next page.
            name = {"d": "cursor", "c": "cursor", "a": "before"}[path[len("/api/v1/")]]
            place = f"&{name}={page['cursor' if 'cursor' in page else 'next']}"
    with stock.served.beside.read() as connection:
        key = column.table.c.seq if "seq" in column.table.c else column.table.c.id
        newest = connection.execute(select(key).order_by(key.desc()).limit(4)).scalars()
        assert found == [str(each) for each in newest]


def test_changes_since_a_time_are_found_although_the_time_of_one_is_damaged(stock):
    with stock.served.beside.read() as connection:
        found = connection.execute(select(CHANGES.c.seq, CHANGES.c.recorded_at).order_by(CHANGES.c.seq)).all()
    # The binary search over the whole feed looks at this one first.
    middle = len(found) // 2
    since = found[middle - 3].recorded_at
    with stock.served.beside.read() as connection:
        this = text("SELECT seq, recorded_at FROM changes WHERE seq = :seq")
        broken = connection.execute(this, {"seq": found[middle].seq}).mappings().one()
    with damaged(stock.served.beside, CHANGES.c.recorded_at, "yesterday", row=broken):
        shown = stock.ask(f"/api/v1/changes?since={quote(since.isoformat())}&limit=1000")["items"]
    expected = [each.seq for each in found if each.recorded_at >= since]
    assert [each["seq"] for each in shown] == expected


def test_commands_print_damaged_values_as_sentences(stock, tmp_path):
    folder = Folder(tmp_path, environment={"HOOKMIRROR_TOKEN": token(Scope.READ)})
    beside = stock.served.beside
    newest = last_row(beside, DELIVERIES)
    with (
        Forks(1) as forks,
        damaged(beside, DELIVERIES.c.received_at, "yesterday", row=newest),
        damaged(beside, DELIVERIES.c.attempts, "many", row=newest),
        damaged(beside, CHANGES.c.changed_at, "yesterday"),
        damaged(beside, ACTIONS.c.at, "yesterday"),
        damaged(beside, RUNS.c.started_at, "yesterday"),
    ):
        for command in (
            ["deliveries"],
            ["show", str(newest["id"])],
            ["changes", "--limit", "1000"],
            ["actions"],
            ["runs"],
        ):
            done = forks.run(folder, *command, "--to", stock.site)
            assert done.returncode == 0, done.stderr
            assert command == ["runs"] or "damaged: The stored value 'yesterday' is not a time." in done.stdout, command


@pytest.mark.parametrize("column", ["created_at", "seen_at", "ends_at"])
def test_a_session_whose_times_are_damaged_has_ended_or_goes_on_and_the_list_is_shown(stock, column):
    person = Visitor(stock.site)
    assert person.sign_in(name="somebody else").status_code == 303
    with stock.served.beside.write() as connection:
        damage = text(f"UPDATE sessions SET {column} = '' WHERE name = 'somebody else'")
        connection.execute(damage)
    assert person.get("/").status_code == (200 if column == "created_at" else 401)
    assert stock.served.get("/api/v1/sessions").status_code == 200
    person.close()


# ── the worker and the retention ─────────────────────────────────────────────────────────────────────────────────────

#: A time that a database stores and Python's calendar does not have.
ODD_TIME = {"sqlite": "yesterday", "postgresql": "infinity"}


@pytest.fixture
def arrived(kit) -> list[int]:
    """Three deliveries, none of which has been processed."""
    return [
        int(kit.send("shop", "product.updated", id=f"A{each}", at=NOON, data=named()).delivery) for each in range(3)
    ]


def damage_times(kit, delivery: int, *columns: str) -> None:
    odd = ODD_TIME["postgresql" if kit.database.is_postgresql else "sqlite"]
    with kit.database.write() as connection:
        for column in columns:
            statement = text(f"UPDATE deliveries SET {column} = :odd WHERE id = :id")
            connection.execute(statement, {"odd": odd, "id": delivery})


def test_a_delivery_with_a_damaged_arrival_ends_dead_and_those_beside_it_are_processed(kit, arrived, worker):
    damage_times(kit, arrived[1], "received_at", "occurred_at")
    worker.work()
    assert states(kit) == ["processed", "dead", "processed"]
    assert "is not a time" in kit.delivery(str(arrived[1]))["reason"]
    assert sorted(str(each["received_at"]).startswith("damaged: ") for each in kit.deliveries()) == [False, False, True]
    assert kit.delivery(str(arrived[1]))["received_at"].startswith("damaged: ")


def test_retention_drops_a_delivery_with_damaged_times_with_the_others(kit, arrived, worker):
    worker.work()
    damage_times(kit, arrived[1], "received_at", "occurred_at", "ended_at")
    retention = Retention(bodies=timedelta(days=1), dedup_keys=timedelta(days=2))
    later = kit.now() + timedelta(days=10)
    assert [retention.prune(kit.database, now=later) for _ in range(3)] == [3, 3, 0]
    assert kit.deliveries() == []


def test_tallies_are_summed_up_past_one_with_a_damaged_time(kit):
    now = kit.now()
    with kit.database.write() as connection:
        for source in ("shop", "mall"):
            count = {TallyKey(source, "accepted", ""): KindCount(1, 0.0)}
            tallies.add(connection, "p", count, at=now - timedelta(days=30))
        odd = "-infinity" if kit.database.is_postgresql else ""
        connection.execute(text("UPDATE tallies SET at = :odd WHERE source = 'mall'"), {"odd": odd})
    while prune_tallies(kit.database, now):
        pass
    with kit.database.read() as connection:
        left = connection.execute(select(tallies.TALLIES.c.source, tallies.TALLIES.c.span)).all()
    assert left == [("shop", 3600)]


@pytest.fixture
def on_sqlite(tmp_path) -> Iterator[Webhooks]:
    with closing(Webhooks(tmp_path, {"shop": new_shop()})) as kit:
        yield kit


def test_a_body_that_was_edited_as_text_is_read_as_its_bytes(on_sqlite):
    delivery = on_sqlite.send("shop", "product.updated", id="A1", at=NOON, data=named())
    with on_sqlite.database.write() as connection:
        connection.execute(text("UPDATE bodies SET body = replace(CAST(body AS TEXT), 'Lamp', 'Lantern')"))
    on_sqlite.drain()
    assert on_sqlite.delivery(delivery)["state"] == "processed"
    assert on_sqlite.row(Product, "A1").name == "Lantern"


def test_an_attempt_is_counted_anew_where_its_number_was_edited(on_sqlite):
    on_sqlite.send("shop", "product.updated", id="A1", at=NOON, data=named())
    with on_sqlite.database.write() as connection:
        connection.execute(text("UPDATE deliveries SET attempts = 'many'"))
    on_sqlite.drain()
    assert states(on_sqlite) == ["processed"]


def test_a_row_of_the_mirror_takes_news_and_mends_its_times(on_sqlite):
    on_sqlite.send("shop", "product.updated", id="A1", at=NOON, data=named())
    on_sqlite.drain()
    with on_sqlite.database.write() as connection:
        connection.execute(text("UPDATE products SET changed_at = '5', deactivated_at = 'yesterday'"))
    later = NOON + timedelta(minutes=1)
    on_sqlite.send("shop", "product.updated", id="A1", at=later, data=named("Lantern"))
    on_sqlite.drain()
    row = on_sqlite.row(Product, "A1")
    assert (row.name, row.changed_at, row.deactivated_at) == ("Lantern", later, None)
