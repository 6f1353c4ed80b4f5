"""Installations of later schemas are upgraded, and continue with all their data, whatever form their tables had.

The files `ninth_schema.*.sql` and `thirteenth_schema.*.sql` are dumps of databases that the code of that time has
filled. They never change. Revisions 0006 and 0008 had an early form when the first of them was made.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime

import pytest
from installed_schemas import catalog, newest_alone, restore, upgraded_installation
from sqlalchemy import inspect, select, text

from handlers.catalog import Product
from receiver.database.database import Database
from receiver.database.revisions import find_branches
from receiver.database.schema import Schema
from receiver.dialects.sources import find_dialects
from receiver.inbox.attempts import history
from receiver.inbox.retries import RetrySchedule
from receiver.inbox.tables import BODIES, BODY_ID, DELIVERIES
from receiver.runs.feeder import Feeder
from receiver.runs.replay import Replay
from receiver.testing import Webhooks

find_dialects()

SOURCES = ("iimmpact", "indexed", "sigma", "sticky")

NINTH, THIRTEENTH = "ninth_schema", "thirteenth_schema"

#: After the end of all leases in the dumps.
DUMPED = datetime(2026, 12, 1, tzinfo=UTC)

#: A table and a column of the early form, which the final form lacks.
LEFT_OUT = {"reconciles": None, "attempts": "failed"}


@pytest.fixture(scope="module", params=[NINTH, THIRTEENTH])
def dump(request):
    return request.param


@pytest.fixture
def database(dump, database_url):
    """Restore the database of an installation of that time."""
    restore(database_url, dump)
    with closing(Database(database_url)) as opened:
        yield opened


@pytest.fixture(scope="module")
def upgraded(dump, database_system, request, tmp_path_factory):
    with upgraded_installation(dump, database_system, tmp_path_factory.mktemp("upgraded"), request) as url:
        yield url


@pytest.fixture
def kit(upgraded, copy_database, tmp_path):
    """Open a copy of the upgraded installation."""
    with (
        copy_database(upgraded, tmp_path) as url,
        closing(Webhooks(tmp_path, find_dialects(), database_url=url)) as webhooks,
    ):
        for name in SOURCES:
            webhooks.source(name)
        # Whatever this machine's clock says, the time is after that of the dump.
        webhooks.advance(seconds=max((DUMPED - webhooks.now()).total_seconds(), 0.0))
        yield webhooks


@pytest.fixture
def fresh_catalog(database, request, tmp_path):
    """Describe the tables of a new installation."""
    url = request.getfixturevalue("new_postgresql_url")() if database.is_postgresql else f"sqlite:///{tmp_path}/new.db"
    with closing(Database(url)) as new:
        Schema(new).upgrade()
        yield catalog(new)


def rows(database, columns):
    """Return the rows of these columns by table."""
    with database.read() as connection:
        found = {}
        for table, names in columns.items():
            listed = ", ".join(f'"{name}"' for name in names)
            found[table] = Counter(map(repr, connection.execute(text(f'SELECT {listed} FROM "{table}"'))))
        return found


def columns_that_stay(database):
    """Return the columns of each table that the upgrade keeps."""
    inspector = inspect(database.engine)
    return {
        table: [each["name"] for each in inspector.get_columns(table) if each["name"] != LEFT_OUT.get(table)]
        for table in inspector.get_table_names()
        if not table.startswith("alembic_version_") and LEFT_OUT.get(table, "") is not None
    }


def attempts(database):
    """Return the attempts of each delivery, those that succeeded included, by number and round."""
    with database.read() as connection:
        failed = connection.execute(text("SELECT delivery_id, round, number FROM attempts")).all()
        found = Counter(map(tuple, failed))
        if inspect(connection).has_table("settlements"):
            for groups in connection.execute(text("SELECT attempts FROM settlements")).scalars():
                for group in json.loads(groups):
                    found.update((each, group["round"], group["number"]) for each in group["deliveries"])
        return found


def test_every_row_is_still_there(database, dump):
    columns = columns_that_stay(database)
    if dump == NINTH:
        # Successful attempts become settlements, and a walk of the early form begins anew.
        columns = {table: names for table, names in columns.items() if table not in ("attempts", "seen")}
    before = rows(database, columns)
    Schema(database).upgrade()
    assert rows(database, columns) == before
    Schema(database).check()


def test_every_attempt_is_still_there(database):
    before = attempts(database)
    Schema(database).upgrade()
    assert attempts(database) == before


def test_the_upgraded_tables_equal_those_of_a_new_installation(database, fresh_catalog):
    Schema(database).upgrade()
    assert catalog(database) == fresh_catalog


def test_retries_of_all_stored_webhooks_are_duplicates(kit):
    kept = select(DELIVERIES.c["id", "source"], BODIES.c["body", "plain"]).join_from(
        DELIVERIES, BODIES, BODIES.c.delivery_id == BODY_ID
    )
    with kit.database.read() as connection:
        found = connection.execute(kept.order_by(DELIVERIES.c.id)).all()
    assert {each.source for each in found} == set(SOURCES)
    answers = [kit.send_body(each.source, bytes(each.plain or each.body)).body for each in found]
    assert answers == [{"status": "duplicate", "delivery": str(each.id)} for each in found]


def test_a_successful_attempt_is_shown_with_its_handler(kit):
    applied = select(DELIVERIES.c["id", "ended_at", "round"]).where(DELIVERIES.c.outcome == "applied")
    with kit.database.read() as connection:
        ended = connection.execute(applied.where(DELIVERIES.c.source == "iimmpact")).all()
        shown = [history(connection, each.id, {each.ended_at: each.round}, most=9)[-1] for each in ended]
    assert ("handlers.iimmpact.upsert_product", False) in {(each["handler"], each["failed"]) for each in shown}


def test_waiting_deliveries_and_those_of_a_dead_worker_are_processed(kit):
    kit.worker._reclaiming.look(kit.now())
    kit.drain()
    assert [kit.row(Product, f"WAITS{each}").active for each in range(4)] == [True] * 4


def test_a_run_that_was_under_way_goes_on_to_its_end(kit):
    sources = {name: kit.source(name) for name in SOURCES}
    replay = Replay(kit.database, kit.inbox, sources, RetrySchedule(), batch_size=200, clock=kit.now)
    feeder = Feeder(kit.database, [replay], clock=kit.now)
    with kit.database.read() as connection:
        running = connection.execute(text("SELECT id FROM runs WHERE state = 'running'")).scalars().all()
    assert running
    for run in running:
        for _ in range(20):
            feeder.step(run)
            kit.drain()
    with kit.database.read() as connection:
        ended = connection.execute(text("SELECT state, done = total FROM runs WHERE started_at IS NOT NULL")).all()
    assert {tuple(each) for each in ended} == {("done", True)}


@pytest.mark.parametrize("dump", [THIRTEENTH], indirect=True)
def test_a_database_whose_deliveries_lack_the_place_in_their_body_gets_it(database, fresh_catalog):
    """Revision 0013 was there before 0012 for a while, whose columns such a database lacks."""
    with database.write() as connection:
        connection.execute(text("DROP INDEX ix_deliveries_body"))
        for column in ("item", "body_id"):
            connection.execute(text(f"ALTER TABLE deliveries DROP COLUMN {column}"))
    Schema(database).upgrade()
    assert catalog(database) == fresh_catalog


# ── revisions ─────────────────────────────────────────────────────────────────────────────────────────────────

#: Digests of the tables of a SQLite file after each revision.
DIGESTS = {
    "receiver": {
        "0001": "b1e1737ce47c",
        "0002": "f4e35e08bc9e",
        "0003": "abd796525077",
        "0004": "abd796525077",
        "0005": "0ba05e021eef",
        "0006": "fbd2010016df",
        "0007": "58276225c1a5",
        "0008": "2c5a2ee89a7f",
        "0009": "8be5de8daa77",
        "0010": "8b5369827dce",
        "0011": "18a1f1f6e15a",
        "0012": "deb30554e4a3",
        "0013": "b4c9c7be6ce3",
        "0014": "f77e9e5dad7d",
        "0015": "f77e9e5dad7d",
    },
    "catalog": {
        "0001": "3e05af3b7844",
        "0002": "c3ff84e16ce3",
    },
}


OURS = [each for each in find_branches() if each.name in DIGESTS]


@pytest.mark.parametrize("branch", OURS, ids=lambda branch: branch.name)
def test_a_revision_makes_the_same_tables_as_when_it_was_added(branch, tmp_path):
    """A database that has a revision never gets its later form: another form needs a revision of its own."""
    made = {}
    with closing(Database(f"sqlite:///{tmp_path / 'hookmirror.db'}")) as database:
        for revision in branch.revisions:
            with database.write() as connection:
                Schema(database)._upgrade(connection, newest_alone(branch, revision))
            told = json.dumps(catalog(database), sort_keys=True, default=sorted)
            made[revision] = hashlib.sha256(told.encode()).hexdigest()[:12]
    assert made == DIGESTS[branch.name]
