"""The tables partitioned by time with the SQL of docs/operations.md, and the whole program at work on them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from listed import listed_ids
from shopping import NOON, named, new_shop
from sqlalchemy import text

from handlers.catalog import Product
from receiver.api.stats import Counts
from receiver.database.schema import Schema
from receiver.inbox.ids import first_id_at
from receiver.inbox.retention import Retention
from receiver.inbox.tables import State
from receiver.search import deliveries
from receiver.search.filters import DeliveryFilter
from receiver.testing import Webhooks

OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")

#: The files of SQL in the docs, by name.
SQL = dict(re.findall(r"<!-- file: (\w+\.sql) -->\n```sql\n(.*?)```", OPERATIONS, re.DOTALL))

NOW = datetime.now(UTC)


def month_after(months: int) -> datetime:
    """Return the first instant of the month this many months from now."""
    year, month = divmod(NOW.year * 12 + NOW.month - 1 + months, 12)
    return datetime(year, month + 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def partitioned(databases, tmp_path_factory) -> Iterator[str]:
    """Make an installation that has worked for a while and is then partitioned. No test changes it."""
    folder = tmp_path_factory.mktemp("partitioned")
    with databases.lend(folder) as url:
        with closing(Webhooks(folder, {"shop": new_shop()}, database_url=url)) as webhooks:
            webhooks.send("shop", "product.updated", id="OLD", at=NOON, data=named("Old"))
            webhooks.drain()
            webhooks.send("shop", "product.updated", id="WAITS", at=NOON, data=named("Waits"))
            execute(url, SQL["partition.sql"])
        yield url


@pytest.fixture
def url(partitioned, databases, tmp_path) -> Iterator[str]:
    with databases.copy(partitioned, tmp_path) as url:
        yield url


@pytest.fixture
def kit(url, tmp_path) -> Iterator[Webhooks]:
    """Open a copy of the installation."""
    with closing(Webhooks(tmp_path, {"shop": new_shop()}, database_url=url)) as webhooks:
        webhooks.source("shop")
        yield webhooks


def execute(url, sql):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql)


def rows_in(kit, table):
    with kit.database.read() as connection:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar()


def test_existing_rows_form_the_first_partition_and_the_schema_fits_this_release(kit):
    assert (rows_in(kit, "deliveries_until_now"), rows_in(kit, "bodies_until_now")) == (2, 2)
    Schema(kit.database).check()
    assert not Schema(kit.database).upgrade().steps


def test_partitions_end_at_the_first_id_of_a_month(kit):
    with kit.database.read() as connection:
        found = connection.execute(text("SELECT arrival_id(:moment)"), {"moment": month_after(1)}).scalar()
        bounds = connection.execute(
            text(
                "SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class JOIN pg_inherits ON inhrelid = oid "
                "WHERE inhparent = 'deliveries'::regclass"
            )
        ).all()
    assert found == first_id_at(month_after(1))
    first, second = first_id_at(month_after(1)), first_id_at(month_after(2))
    assert (f"deliveries_{month_after(1):%Y_%m}", f"FOR VALUES FROM ('{first}') TO ('{second}')") in list(
        map(tuple, bounds)
    )
    assert len(bounds) == 14


def test_webhooks_are_accepted_recognised_as_duplicates_and_processed_as_before(kit):
    again = kit.send("shop", "product.updated", id="OLD", at=NOON, data=named("Old"))
    new = kit.send("shop", "product.updated", id="NEW", at=NOON, data=named("New"))
    assert (again.body["status"], new.body["status"]) == ("duplicate", "accepted")
    assert kit.drain() == 2
    assert {kit.row(Product, external_id).name for external_id in ("OLD", "WAITS", "NEW")} == {"Old", "Waits", "New"}
    assert kit.inbox.replay([int(new.delivery)], now=kit.now()) == 1
    assert kit.drain() == 1


HOUR = timedelta(hours=1)


def in_month(kit, months, *, state="processed", late=HOUR):
    """Add a delivery that arrived this long after the beginning of a month, and return its id."""
    moment = month_after(months) + late
    number = first_id_at(moment)
    with kit.database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO deliveries (id, source, entity_kind, entity_id, received_at, state, due_at, ended_at, "
                "dedup_key, conflict) VALUES (:id, 'shop', 'product', :entity, :at, :state, :at, :at, :key, false)"
            ),
            {"id": number, "at": moment, "state": state, "entity": f"M{months}", "key": str(number)},
        )
        connection.execute(
            text("INSERT INTO bodies (delivery_id, body, headers) VALUES (:id, '', '{}')"), {"id": number}
        )
        connection.execute(
            text("INSERT INTO dedup_keys VALUES ('shop', :key, '', :id)"), {"id": number, "key": str(number)}
        )
    return number


def test_each_month_has_a_partition_and_rows_of_other_months_are_kept(kit):
    in_month(kit, 2)
    in_month(kit, 40)
    assert rows_in(kit, f"deliveries_{month_after(2):%Y_%m}") == 1
    assert (rows_in(kit, "deliveries_later"), rows_in(kit, "bodies_later")) == (1, 1)


def test_running_the_sql_again_makes_further_months(kit, url):
    for _ in range(2):
        execute(url, SQL["months.sql"].replace("12", "14"))
    assert rows_in(kit, f"bodies_{month_after(14):%Y_%m}") == 0


def entity_of(kit, number: int) -> str:
    return kit.delivery(str(number))["entity"]


def test_the_api_lists_across_partitions_newest_first(kit):
    kit.drain()
    second, first = in_month(kit, 2), in_month(kit, 1)
    assert listed_ids(kit.database, limit=3)[:2] == [second, first]
    rest = listed_ids(kit.database, DeliveryFilter(state=State.PROCESSED), before=first)
    assert [entity_of(kit, number) for number in rest] == ["product:WAITS", "product:OLD"]
    assert listed_ids(kit.database, DeliveryFilter(entity="product:M2")) == [second]
    assert deliveries.delivery(kit.database, second).row["body"] is not None
    (told,) = Counts(kit.database, ["shop"]).per_source(now=kit.now())
    assert told.states[State.PROCESSED] == 4


def test_retention_works_across_partitions(kit):
    kit.drain()
    in_month(kit, 1)
    retention = Retention(bodies=timedelta(days=30), dedup_keys=timedelta(days=400))
    assert sum(iter(lambda: retention.prune(kit.database, now=month_after(3)), 0)) == 3
    assert (rows_in(kit, "bodies"), rows_in(kit, "deliveries")) == (0, 3)
    assert sum(iter(lambda: retention.prune(kit.database, now=month_after(20)), 0)) == 3
    assert {rows_in(kit, table) for table in ("deliveries", "bodies", "dedup_keys")} == {0}


def drop_month(month):
    return SQL["drop_month.sql"].replace("2026-12-01", f"{month:%Y-%m-%d}")


def test_a_month_of_bodies_is_dropped_at_once_and_prune_has_nothing_left_there(kit, url):
    kit.drain()
    in_month(kit, 1)
    execute(url, drop_month(month_after(1)))
    assert rows_in(kit, "bodies") == 2
    retention = Retention(bodies=timedelta(days=30), dedup_keys=timedelta(days=400))
    assert retention.prune(kit.database, now=month_after(3)) == 2


def test_a_month_with_open_deliveries_is_not_dropped(kit, url):
    in_month(kit, 1, state="pending")
    with pytest.raises(psycopg.errors.RaiseException, match="some deliveries still need its bodies"):
        execute(url, drop_month(month_after(1)))
    assert rows_in(kit, "bodies") == 3


def give_bounds(url, months, first, after):
    """Replace the partitions of the month by ones with other bounds, as an earlier `make_partitions` made them."""
    name = f"{month_after(months):%Y_%m}"
    for parent in ("deliveries", "bodies"):
        for near in (-1, 0, 1):
            execute(url, f"DROP TABLE IF EXISTS {parent}_{month_after(months + near):%Y_%m}")
        bounds = f"FROM ({first_id_at(first)}) TO ({first_id_at(after)})"
        execute(url, f"CREATE TABLE {parent}_{name} PARTITION OF {parent} FOR VALUES {bounds}")


def test_a_partition_with_the_name_of_another_month_is_not_dropped(kit, url):
    give_bounds(url, 1, month_after(2) - HOUR, month_after(3) - HOUR)
    in_month(kit, 2)
    with pytest.raises(psycopg.errors.RaiseException, match="holds bodies of a later month"):
        execute(url, drop_month(month_after(1)))
    assert rows_in(kit, "bodies") == 3


def test_a_partition_with_an_open_delivery_from_before_its_month_is_not_dropped(kit, url):
    give_bounds(url, 2, month_after(2) - timedelta(hours=2), month_after(3) - HOUR)
    in_month(kit, 2, state="pending", late=-HOUR)
    with pytest.raises(psycopg.errors.RaiseException, match="some deliveries still need its bodies"):
        execute(url, drop_month(month_after(2)))
    assert rows_in(kit, "bodies") == 3


def share_body(kit, number, *, of, state):
    """Turn a delivery into that of a further event of another delivery's body."""
    with kit.database.write() as connection:
        connection.execute(
            text("UPDATE deliveries SET body_id = :of, item = 1, state = :state WHERE id = :id"),
            {"id": number, "of": of, "state": state},
        )


def test_a_month_with_the_body_of_an_open_delivery_of_a_later_month_is_not_dropped(kit, url):
    """The items of a body that was unfolded late have later ids than the body."""
    kit.drain()
    share_body(kit, in_month(kit, 2), of=in_month(kit, 1), state="pending")
    with pytest.raises(psycopg.errors.RaiseException, match="still need its bodies"):
        execute(url, drop_month(month_after(1)))


def test_the_tracebacks_of_a_month_go_with_its_bodies(kit, url):
    kit.drain()
    first, other = in_month(kit, 1), in_month(kit, 2)
    late = in_month(kit, 3)
    share_body(kit, late, of=first, state="dead")
    failed = text(
        "INSERT INTO attempts (delivery_id, round, number, ended_at, worker, reason, traceback) "
        "VALUES (:id, 1, 1, now(), 'w', 'wrong', 'quotes the body')"
    )
    with kit.database.write() as connection:
        connection.execute(failed, [{"id": number} for number in (first, other, late)])
    execute(url, drop_month(month_after(1)))
    with kit.database.read() as connection:
        kept = connection.execute(text("SELECT delivery_id FROM attempts WHERE traceback IS NOT NULL")).scalars()
        assert list(kept) == [other]


def test_partitions_begin_with_the_month_in_any_time_zone(kit, url):
    execute(url, f"SET timezone TO 'Europe/Berlin'; {SQL['months.sql'].replace('12', '24')}")
    for months in range(1, 25):
        in_month(kit, months)
        assert rows_in(kit, f"deliveries_{month_after(months):%Y_%m}") == 1


#: The functions at the beginning of `partition.sql`.
FUNCTIONS = SQL["partition.sql"].partition("-- First part")[0]


@pytest.fixture
def shifted(url) -> str:
    """Replace some of the coming months by partitions that an earlier release made across daylight saving time."""
    for parent in ("deliveries", "bodies"):
        for months in range(4, 13):
            execute(url, f"DROP TABLE {parent}_{month_after(months):%Y_%m}")
        for months in range(4, 12):
            bounds = [first_id_at(month_after(months + more) - HOUR) for more in (1, 2)]
            partition = f"{parent}_{month_after(months):%Y_%m} PARTITION OF {parent}"
            execute(url, f"CREATE TABLE {partition} FOR VALUES FROM ({bounds[0]}) TO ({bounds[1]})")
    return url


def months_of(kit, count):
    """Add a delivery to each of the coming months, and return the partitions that hold them."""
    numbers = [in_month(kit, months) for months in range(1, count + 1)]
    with kit.database.read() as connection:
        found = text("SELECT tableoid::regclass::text FROM deliveries WHERE id = ANY(:ids) ORDER BY id")
        return list(connection.execute(found, {"ids": numbers}).scalars())


def test_months_that_an_earlier_release_made_in_another_time_zone_can_be_made_again(kit, shifted):
    with pytest.raises(psycopg.errors.InvalidObjectDefinition, match="would overlap partition"):
        execute(shifted, SQL["months.sql"].replace("12", "24"))
    execute(shifted, FUNCTIONS + SQL["remake_months.sql"])
    execute(shifted, SQL["months.sql"].replace("12", "24"))
    assert months_of(kit, 24) == [f"deliveries_{month_after(months):%Y_%m}" for months in range(1, 25)]


def test_the_next_month_that_is_made_again_begins_where_the_running_partition_ends(kit, url):
    for parent in ("deliveries", "bodies"):
        execute(url, f"DROP TABLE {parent}_{month_after(1):%Y_%m}")
        bounds = f"FROM (MINVALUE) TO ({first_id_at(month_after(1) + HOUR)})"
        execute(url, f"ALTER TABLE {parent} DETACH PARTITION {parent}_until_now")
        execute(url, f"ALTER TABLE {parent} ATTACH PARTITION {parent}_until_now FOR VALUES {bounds}")
    execute(url, SQL["remake_months.sql"])
    in_month(kit, 1, late=HOUR / 2)
    assert rows_in(kit, "deliveries_until_now") == 3
    assert months_of(kit, 12) == [f"deliveries_{month_after(months):%Y_%m}" for months in range(1, 13)]


def test_a_coming_month_with_rows_is_not_made_again(kit, url):
    in_month(kit, 2)
    with pytest.raises(psycopg.errors.RaiseException, match="is not empty"):
        execute(url, SQL["remake_months.sql"])
    assert rows_in(kit, "deliveries") == 3


def test_a_pass_reads_no_history(kit, url):
    """Accept, claim and settle scan no partition, with thousands of ended deliveries."""
    kit.drain()
    history = (
        "INSERT INTO deliveries (id, source, received_at, state, due_at, ended_at, dedup_key, conflict) "
        "SELECT {first} + n, 'shop', now(), 'processed', now(), now(), 'h' || n, false FROM generate_series(1, 5000) n"
    )
    for months in (1, 2, 3):
        execute(url, history.format(first=first_id_at(month_after(months))))
    execute(url, "ANALYZE deliveries")
    before = rows_scanned(kit, url)
    for number in range(5):
        kit.send("shop", "product.updated", id=f"N{number}", at=NOON, data=named())
        kit.send("shop", "product.updated", id="OLD", at=NOON, data=named("Old"))
        assert kit.drain() == 1
    assert rows_scanned(kit, url) - before < 5_000


def rows_scanned(kit, url):
    """Return the number of delivery rows read by scans of whole partitions so far."""
    kit.database.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
        scanned = "SELECT sum(seq_tup_read)::bigint FROM pg_stat_user_tables WHERE relname LIKE 'deliveries%'"
        return connection.execute(scanned).fetchone()[0]
