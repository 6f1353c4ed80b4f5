"""An installation of the first release with a full database is upgraded, and continues to work with all its data.

The files `first_schema.*.sql` are dumps of databases that the first release's own code has filled. They never change.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from installed_schemas import restore, upgraded_installation
from sqlalchemy import inspect, select, text

from handlers.catalog import Product
from receiver.database.database import Database
from receiver.database.schema import Schema
from receiver.dialects.sources import find_dialects
from receiver.errors import ConfigurationError
from receiver.inbox.tables import DEDUP_KEYS, Delivery
from receiver.mirror import changes
from receiver.testing import Webhooks

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

#: The end of the leases in the dump.
DUMPED = datetime(2026, 11, 21, 8, tzinfo=UTC)

#: Columns of the first release with the content of a row, so that columns of later releases do not matter.
FIRST_TABLES = {
    "deliveries": "id, source, event_type, entity_kind, entity_id, occurred_at, received_at, state, attempts, due_at, "
    "suspect, claimed_by, lease_until, outcome, reason, ended_at, dedup_key, conflict, duplicates, secret",
    "bodies": "delivery_id, body, plain, headers",
    "dedup_keys": "source, dedup_key, fingerprint, delivery_id",
    "attempts": "delivery_id, ended_at, number, worker, reason",
    "changes": 'seq, "table", source, external_id, operation, "before", "after", delivery_id, changed_at, recorded_at',
    **dict.fromkeys(
        ("products", "variants", "categories", "groups", "options", "records"),
        "source, external_id, active, changed_at, deactivated_at, tie, versions, sku, name, price, currency, parent, "
        "lifecycle_state, data",
    ),
}


#: Characters of the time at the beginning of a dedup key that is derived from the content.
MICROSECONDS = re.compile(r"(?<=\b\d{10})\d{6}(?=-[0-9a-f]{64})")


@pytest.fixture
def database(database_url):
    """Restore the database of an installation that was never upgraded."""
    opened = Database(database_url)
    restore(database_url, "first_schema")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def upgraded(database_system, request, tmp_path_factory):
    with upgraded_installation("first_schema", database_system, tmp_path_factory.mktemp("upgraded"), request) as url:
        yield url


@pytest.fixture
def kit(upgraded, copy_database, tmp_path):
    """Open a copy of the upgraded installation."""
    with (
        copy_database(upgraded, tmp_path) as url,
        closing(Webhooks(tmp_path, find_dialects(), database_url=url)) as webhooks,
    ):
        webhooks.source("iimmpact")
        # Whatever this machine's clock says, the time is after that of the dump.
        webhooks.advance(seconds=max((DUMPED - webhooks.now()).total_seconds(), 0.0))
        yield webhooks


def rows(database):
    """Return every row of the first release's tables, with the times in dedup keys cut to the second."""
    with database.read() as connection:
        return {
            table: sorted(
                MICROSECONDS.sub("", repr(row)) for row in connection.execute(text(f"SELECT {columns} FROM {table}"))
            )
            for table, columns in FIRST_TABLES.items()
        }


def told(entity_id, kit):
    """Return the newest delivery about this entity."""
    return next(each for each in reversed(kit.deliveries()) if each["entity"] == f"product:{entity_id}")


def test_the_first_release_is_recognised_by_its_tables_and_nothing_is_lost(database):
    before = rows(database)
    steps = Schema(database).upgrade().steps
    assert [(step.branch, step.before) for step in steps] == [("receiver", "0001"), ("catalog", "0001")]
    assert rows(database) == before
    assert all(before.values()), "the dump has something in every table"
    Schema(database).check()


def test_an_upgrade_that_needs_the_name_of_another_programs_table_is_refused_and_says_which(database):
    with database.write() as connection:
        connection.execute(text("CREATE TABLE identity (id INTEGER PRIMARY KEY, name TEXT)"))
    before = rows(database)
    for ask in (Schema(database).plan, Schema(database).upgrade):
        with pytest.raises(
            ConfigurationError,
            match="tables named identity that hookmirror did not make: rename those, or move them to another database",
        ):
            ask()
    assert rows(database) == before
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM identity")).scalar() == 0


def test_rows_written_by_the_first_release_still_fit(database):
    """During an upgrade, processes of two releases use one database: docs/migrations.md, "The rule for releases"."""
    Schema(database).upgrade()
    for table, columns in FIRST_TABLES.items():
        written = set(columns.replace('"', "").split(", "))
        there = {column["name"]: column for column in inspect(database.engine).get_columns(table)}
        assert written <= there.keys(), table
        new = [column for name, column in there.items() if name not in written | {"kind"}]
        demanded = [column["name"] for column in new if not column["nullable"] and column["default"] is None]
        assert demanded == [], table


def test_the_dump_has_deliveries_in_every_state_with_every_outcome(database):
    with database.read() as connection:
        found = connection.execute(text("SELECT DISTINCT state, outcome, suspect, conflict FROM deliveries")).all()
    assert {state for state, *_ in found} == {"pending", "processing", "processed", "ignored", "dead"}
    assert {outcome for _, outcome, *_ in found} == {None, "applied", "stale", "tie", "unchanged"}
    assert any(suspect for _, _, suspect, _ in found)
    assert any(conflict for *_, conflict in found)


def test_postgresql_does_not_start_on_the_first_release_before_it_is_migrated(postgresql_url):
    with closing(Database(postgresql_url)) as database:
        restore(postgresql_url, "first_schema")
        with pytest.raises(
            ConfigurationError, match=r"receiver is at revision 0001 there and .*run `hookmirror migrate`"
        ):
            Schema(database).prepare()


def test_a_webhook_from_before_the_upgrade_is_a_duplicate_after_it(kit):
    again = {"display_name": "Lamp", "product_code": "x"}
    answer = kit.send("iimmpact", "product.updated", id="LAMP", at=NOON, data=again)
    assert answer.body["status"] == "duplicate"
    assert kit.delivery(answer)["duplicates"] == 2


def test_retries_of_a_sender_with_ids_of_its_own_are_duplicates_after_the_upgrade(kit):
    with kit.database.read() as connection:
        found = "SELECT id, body FROM deliveries JOIN bodies ON delivery_id = id WHERE source = 'sigma'"
        kept = connection.execute(text(found)).all()
    assert len(kept) == 5, "one of them a conflict"
    answers = [kit.send_body("sigma", bytes(body)).body for _, body in kept]
    assert answers == [{"status": "duplicate", "delivery": str(number)} for number, _ in kept]


def test_an_id_from_before_the_upgrade_with_another_body_is_a_conflict_after_it(kit):
    told = b'"event":"entity.updated","deliveryId":"del-0000000000c1","timestamp":"2026-03-08T09:00:00.125Z"'
    answer = kit.send_body("sigma", b'{%b,"data":{"entityId":"other","schemaId":"s"}}' % told)
    assert (answer.body["status"], kit.delivery(answer)["conflict"]) == ("accepted", True)


def test_a_retry_of_a_webhook_dated_hours_ahead_is_a_duplicate_after_the_upgrade(database, database_url, tmp_path):
    """A sender that writes its local time as UTC is hours ahead."""
    ahead = datetime.now(UTC) + timedelta(hours=3)
    told = b'{"event":"entity.updated","deliveryId":"del-0000000000c1","timestamp":"%b","data":{"entityId":"E1"}}'
    body = told % ahead.isoformat().encode()
    delivery, key = Delivery.__table__, DEDUP_KEYS
    with database.write() as connection:
        held = connection.execute(select(key.c.delivery_id).where(key.c.dedup_key == "del-0000000000c1")).scalar_one()
        connection.execute(delivery.update().where(delivery.c.id == held).values(occurred_at=ahead))
        fingerprint = hashlib.sha256(body).digest()
        connection.execute(key.update().where(key.c.delivery_id == held).values(fingerprint=fingerprint))
    Schema(database).upgrade()
    with closing(Webhooks(tmp_path, find_dialects(), database_url=database_url)) as kit:
        assert kit.send_body("sigma", body).body == {"status": "duplicate", "delivery": str(held)}


def test_new_webhooks_get_keys_with_a_lead_after_the_upgrade(kit):
    kit.send("sigma", "entity.updated", id="E1", at=NOON, data={"schemaId": "s"})
    with kit.database.read() as connection:
        newest = connection.execute(
            text("SELECT dedup_key FROM dedup_keys ORDER BY delivery_id DESC LIMIT 1")
        ).scalar_one()
    assert newest.startswith("1780315200000000-del-")


def test_pending_deliveries_and_those_of_a_dead_worker_are_processed(kit):
    kit.worker._reclaiming.look(kit.now())
    kit.drain()
    for entity_id in ("WAITS1", "WAITS2", "WAITS3", "HELD1", "HELD2"):
        assert told(entity_id, kit)["state"] == "processed"
        assert kit.row(Product, entity_id).active


def test_a_failed_attempt_is_repeated_at_its_due_time(kit):
    assert told("BAD", kit)["state"] == "pending"
    kit.advance(days=2)
    kit.drain()
    assert (told("BAD", kit)["state"], told("BAD", kit)["attempts_made"]) == ("processed", 2)


def test_dead_deliveries_can_be_replayed(kit):
    dead = told("DEAD", kit)
    assert dead["state"] == "dead"
    assert kit.inbox.replay([int(dead["id"])], now=kit.now()) == 1
    kit.drain()
    assert told("DEAD", kit)["state"] == "processed"
    assert kit.row(Product, "DEAD").name == "Dead"


def test_a_delivery_whose_body_had_expired_is_unchanged(kit):
    first = kit.deliveries()[0]
    assert kit.inbox.replay([int(first["id"])], now=kit.now()) == 0


def test_a_tombstone_from_before_the_upgrade_is_not_revived_by_older_news(kit):
    assert not kit.row(Product, "GONE").active
    kit.send("iimmpact", "product.updated", id="GONE", at=NOON + timedelta(seconds=30), data={"display_name": "Late"})
    kit.drain()
    row = kit.row(Product, "GONE")
    assert (row.active, row.name) == (False, "Late")
    kit.send("iimmpact", "product.updated", id="GONE", at=NOON + timedelta(days=1), data={"display_name": "Back"})
    kit.drain()
    assert kit.row(Product, "GONE").active


def test_the_change_feed_continues(kit):
    last = changes.after(kit.database, 0, limit=1_000)[-1]["seq"]
    kit.send("iimmpact", "product.updated", id="NEW", at=NOON, data={"display_name": "New"})
    kit.drain()
    new = [each for each in changes.after(kit.database, last, limit=1_000) if each["external_id"] == "NEW"]
    assert [(each["operation"], each["table"]) for each in new] == [("insert", "products")]


def test_a_change_at_the_end_of_its_second_is_a_duplicate_after_the_upgrade(database, database_url, tmp_path):
    data = b'{"product_code":"LAST"}'
    body = b'{"type":"product.updated","id":"LAST","timestamp":"2026-06-01T12:00:00.999999Z","data":%b}' % data
    digest = hashlib.sha256(body).hexdigest()
    move_to = {"key": f"1780315200-{digest}", "at": NOON.replace(microsecond=999_999)}
    with database.write() as connection:
        moved = connection.execute(text("SELECT max(id) FROM deliveries WHERE source = 'iimmpact'")).scalar_one()
        table = Delivery.__table__
        changed = {"dedup_key": move_to["key"], "occurred_at": move_to["at"]}
        connection.execute(table.update().where(table.c.id == moved).values(**changed))
        connection.execute(
            text("UPDATE dedup_keys SET dedup_key = :key, fingerprint = :fingerprint WHERE delivery_id = :id"),
            {"key": move_to["key"], "fingerprint": bytes.fromhex(digest), "id": moved},
        )
    Schema(database).upgrade()
    with closing(Webhooks(tmp_path, find_dialects(), database_url=database_url)) as kit:
        kit.source("iimmpact")
        assert kit.send_body("iimmpact", body).body == {"status": "duplicate", "delivery": str(moved)}
