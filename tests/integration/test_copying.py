"""A database is copied into another one of either system: everything, exactly, or not at all."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, closing

import pytest
from copies import both, copy, everything, fill_attempts, kit_on, live_through, migrate, sql, verify
from shopping import NOON, named
from sqlalchemy import Column, Computed, ForeignKey, Integer, String, Table, insert, make_url, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel
from templates import copy_tables_to

from handlers.catalog import Product
from receiver.copying.copying import Copier
from receiver.copying.sequences import last_numbers
from receiver.database.database import Database
from receiver.database.schema import Schema
from receiver.errors import ConfigurationError, CopyError
from receiver.mirror.changes import after

PAIRS = ["sqlite to postgresql", "postgresql to sqlite", "sqlite to sqlite", "postgresql to postgresql"]


@pytest.fixture(scope="module")
def histories(databases, tmp_path_factory):
    """Return a function that gives a database with data for each system; no test changes it."""
    made = {}
    folder = tmp_path_factory.mktemp("histories")

    def of(system: str) -> str:
        if system not in made:
            name = databases.create_with_tables() if system == "postgresql" else ""
            made[system] = databases.url(name) if name else f"sqlite:///{folder / 'history.db'}"
            copy_tables_to(made[system])
            with kit_on(folder, made[system]) as kit:
                live_through(kit)
        return made[system]

    yield of
    if "postgresql" in made:
        databases.drop(make_url(made["postgresql"]).database)


@pytest.fixture
def new_url(tmp_path, request):
    """Return a function that makes the URL of another empty database of either system."""
    made = []

    def make(system: str) -> str:
        if system == "postgresql":
            return request.getfixturevalue("new_postgresql_url")()
        made.append(system)
        return f"sqlite:///{tmp_path / f'{len(made)}.db'}"

    return make


@pytest.fixture
def ready_url(databases, tmp_path):
    """Return a function that makes a database with empty tables, for a copy whose migration is not the subject."""
    with ExitStack() as stack:

        def make(system: str) -> str:
            if system == "postgresql":
                return stack.enter_context(databases.lend(tmp_path))
            url = f"sqlite:///{tmp_path / 'ready.db'}"
            copy_tables_to(url)
            return url

        yield make


@pytest.fixture
def another(histories, tmp_path) -> str:
    """Give a SQLite file with the same data, which the test may change."""
    shutil.copy(make_url(histories("sqlite")).database, tmp_path / "another.db")
    return f"sqlite:///{tmp_path / 'another.db'}"


@pytest.fixture(params=PAIRS)
def pair(request, histories, new_url) -> tuple[str, str]:
    """Give a database with data, and the URL of an empty one."""
    source, target = request.param.split(" to ")
    return histories(source), new_url(target)


@pytest.fixture(params=PAIRS[:2])
def across(request, histories, ready_url) -> tuple[str, str]:
    """Give such a pair of two different systems."""
    source, target = request.param.split(" to ")
    return histories(source), ready_url(target)


@pytest.fixture
def files(histories, ready_url) -> tuple[str, str]:
    """Give such a pair of SQLite files, the fastest, for behaviour that is the same on every system."""
    return histories("sqlite"), ready_url("sqlite")


# ── the whole content ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_copy_has_the_same_content_in_the_same_form(pair):
    source, target = pair
    report = copy(source, target)
    found = everything(source)
    assert everything(target) == found
    assert {table.table: table.rows for table in report.tables} == {name: len(rows) for name, rows in found.items()}
    assert all(found[name] for name in ("deliveries", "bodies", "dedup_keys", "attempts", "changes", "products"))
    assert (report.same, report.resumed, report.copied) == (True, False, sum(map(len, found.values())))
    assert verify(source, target).same


def test_a_copy_of_a_copy_on_the_other_system_is_the_original_to_the_byte(histories, new_url):
    source, there, back = histories("sqlite"), new_url("postgresql"), new_url("sqlite")
    copy(source, there)
    copy(there, back)
    dump = "SELECT * FROM products ORDER BY source, external_id", "SELECT * FROM changes ORDER BY seq"
    assert [sql(back, each) for each in dump] == [sql(source, each) for each in dump]


def test_an_empty_database_can_be_copied(new_url):
    source, target = new_url("sqlite"), new_url("sqlite")
    migrate(source)
    report = copy(source, target)
    # Every database has one row, which identifies it.
    assert (report.same, report.copied) == (True, 1)
    with both(source, target) as (_, side):
        Schema(side.database).check()


# ── after the change to the copy ──────────────────────────────────────────────────────────────────────────────────


def test_the_copy_continues_where_the_original_ended(across, tmp_path):
    source, target = across
    cursor = sql(source, "SELECT max(seq) FROM changes")[0][0]
    (body,) = sql(source, "SELECT body FROM bodies JOIN deliveries ON id = delivery_id WHERE entity_id = 'late'")[0]
    copy(source, target)
    with kit_on(tmp_path, target) as kit:
        again = kit.send_body("shop", bytes(body))
        assert again.body["status"] == "duplicate", "a dedup key was lost"
        stale = kit.send("shop", "product.updated", id="Löwe 🦁", at=NOON.replace(hour=1), data=named("Maus"))
        kit.inbox.reclaim(now=kit.now(), dead=["a worker that is dead"], max_attempts=10)
        kit.drain()
        assert kit.delivery(stale)["outcome"] == "stale"
        assert kit.row(Product, "Löwe 🦁").name == "Löwe"
        late = kit.send("shop", "product.updated", id="gone", at=NOON.replace(hour=1), data=named("revived"))
        kit.drain()
        assert (kit.delivery(late)["state"], kit.row(Product, "gone").active) == ("processed", False), (
            "a tombstone was lost"
        )
        assert kit.delivery(again)["state"] == "processed", "what a worker held at the end is reclaimed"
        followed = after(kit.database, cursor, limit=100)
    assert {change["external_id"] for change in followed} >= {"late", "pending"}
    assert min(change["seq"] for change in followed) > cursor


def test_numbers_of_changes_continue_above_one_that_is_gone(across, ready_url):
    source, middle = across
    copy(source, middle)
    newest = sql(middle, "SELECT max(seq) FROM changes")[0][0]
    sql(middle, f"DELETE FROM changes WHERE seq = {newest}")
    target = ready_url("sqlite" if middle.startswith("postgresql") else "postgresql")
    copy(middle, target)
    for url in (middle, target):
        with both(source, url) as (_, side), side.database.read() as connection:
            assert last_numbers(connection, side.tables())["changes"] == newest


# ── exclusive access ──────────────────────────────────────────────────────────────────────────────────────────────


def test_an_original_with_a_running_process_is_refused_with_its_name(files):
    source, target = files
    now = "'2999-01-01T00:00:00.000000Z'"
    sql(
        source,
        "INSERT INTO processes (name, host, pid, kind, release, revision, fingerprint, wiring, started_at, seen_at) "
        f"VALUES ('elsewhere', 'box', 42, 'endpoint', '0.1.0', '', '', '[]', {now}, {now})",
    )
    try:
        with pytest.raises(CopyError, match=r"FROM is in use by endpoint box:42 \(hookmirror 0\.1\.0\): stop it"):
            copy(source, target)
    finally:
        sql(source, "DELETE FROM processes")


def test_an_original_with_a_running_follower_is_refused_with_its_name(files):
    source, target = files
    now = "'2999-01-01T00:00:00.000000Z'"
    sql(
        source,
        "INSERT INTO followers (name, target, reach, seq, mark, holder, seen_at, began_at) "
        f"VALUES ('erp', 'http://erp.example/in', '', 0, '', 'elsewhere', {now}, {now})",
    )
    try:
        with pytest.raises(CopyError, match=r"FROM is in use by follower erp: stop it.* a follower after two"):
            copy(source, target)
    finally:
        sql(source, "DELETE FROM followers")


def test_an_original_with_claimed_deliveries_is_refused(another, new_url):
    sql(another, "UPDATE deliveries SET lease_until = '2999-01-01T00:00:00.000000Z' WHERE state = 'processing'")
    with pytest.raises(CopyError, match="FROM is in use by worker a worker that is dead: stop it"):
        copy(another, new_url("sqlite"))


@pytest.mark.parametrize("system", ["sqlite", "postgresql"])
def test_no_process_can_write_to_the_original_meanwhile(system, histories, ready_url):
    tried = []

    def write(doing, table, rows, of):
        if not tried:
            with Database(histories(system)).engine.connect() as beside:
                hurry = "SET lock_timeout = '10ms'" if system == "postgresql" else "PRAGMA busy_timeout = 0"
                beside.exec_driver_sql(hurry)
                with pytest.raises(Exception, match="lock") as refused:
                    beside.exec_driver_sql("UPDATE deliveries SET duplicates = duplicates + 1")
                tried.append(refused)
                beside.detach()
                beside.close()

    assert copy(histories(system), ready_url("sqlite"), progress=write).same
    assert tried


def test_of_two_copies_at_the_same_time_the_first_gives_way(files):
    source, target = files

    def another(doing, table, rows, of):
        if doing == "copying" and table == "changes":
            sql(target, "UPDATE unfinished_copy SET runner = 'another'")

    with pytest.raises(CopyError, match="Another `hookmirror copy` is working on this copy"):
        copy(source, target, progress=another)


@pytest.mark.parametrize("system", ["sqlite", "postgresql"])
def test_a_database_is_not_copied_into_itself(system, histories):
    with pytest.raises(CopyError, match="FROM and TO are the same database"):
        copy(histories(system), histories(system))


def test_a_database_is_not_copied_into_itself_under_another_name(tmp_path):
    (tmp_path / "original.db").touch()
    (tmp_path / "link.db").symlink_to(tmp_path / "original.db")
    with pytest.raises(CopyError, match="FROM and TO are the same database"):
        copy(f"sqlite:///{tmp_path}/original.db", f"sqlite:///{tmp_path}/link.db")


# ── an unfinished copy ────────────────────────────────────────────────────────────────────────────────────────────


class Stopped(Exception):
    """Stands for Ctrl-C."""


def stop_at(wanted):
    def progress(doing, table, rows, of):
        if (doing, table) == wanted:
            raise Stopped

    return progress


def interrupt(source, target, at="changes"):
    with pytest.raises(Stopped):
        copy(source, target, progress=stop_at(("copying", at)))


def test_an_unfinished_copy_is_neither_served_nor_migrated(files):
    source, target = files
    interrupt(source, target)
    with both(source, target) as (_, side):
        schema = Schema(side.database)
        for use in (schema.prepare, schema.check, schema.upgrade, schema.checked_plan):
            with pytest.raises(
                ConfigurationError, match=r"holds an unfinished copy of .*run the same `hookmirror copy`"
            ):
                use()


def test_an_unfinished_copy_is_continued(files):
    source, target = files
    interrupt(source, target)
    there = sum(map(len, everything(target).values()))
    report = copy(source, target)
    assert (report.same, report.resumed) == (True, True)
    assert 0 < there == sum(table.rows for table in report.tables) - report.copied
    assert everything(target) == everything(source)


def test_an_unfinished_copy_of_a_changed_original_begins_anew_on_request(another, ready_url):
    source, target = another, ready_url("postgresql")
    interrupt(source, target)
    sql(source, "UPDATE products SET name = 'changed meanwhile' WHERE source = 'shop'")
    with pytest.raises(CopyError, match="FROM is another database, or has changed since: run this with --afresh"):
        copy(source, target)
    report = copy(source, target, afresh=True)
    assert (report.same, report.resumed) == (True, False)
    assert everything(target) == everything(source)


def test_a_dropped_copy_has_an_identity_of_its_own_even_if_none_begins_anew(another, ready_url):
    source, target = another, ready_url("sqlite")
    with pytest.raises(Stopped):
        copy(source, target, progress=stop_at(("comparing", "changes")))
    sql(source, "UPDATE products SET price = 'dear' WHERE source = 'shop'")
    with pytest.raises(CopyError, match="Nothing is copied"):
        copy(source, target, afresh=True)
    (ours,), (theirs,) = sql(source, "SELECT name FROM identity"), sql(target, "SELECT name FROM identity")
    assert (len(theirs[0]), theirs == ours) == (32, False)
    assert sql(target, "SELECT count(*) FROM changes") == [(0,)]


def test_a_target_that_a_process_begins_to_use_while_the_original_is_read_is_refused(files):
    source, target = files
    used: list[bool] = []

    def use(doing, table, rows, of):
        if (doing, table) == ("examining", "changes") and not used:
            used.append(True)
            fill_attempts(target, 1)

    with pytest.raises(CopyError, match="TO is not empty: its table"):
        copy(source, target, progress=use)


def test_a_finished_copy_is_not_overwritten(files):
    source, target = files
    copy(source, target)
    for afresh in (False, True):
        with pytest.raises(CopyError, match="TO is not empty: its table attempts has rows"):
            copy(source, target, afresh=afresh)


def test_rows_written_by_another_program_are_found_at_the_end(files):
    source, target = files

    def spoil(doing, table, rows, of):
        if (doing, table) == ("copying", "variants"):
            sql(target, "UPDATE deliveries SET reason = 'spoilt' WHERE state = 'dead'")

    report = copy(source, target, progress=spoil)
    assert not report.same
    assert {(each.table, each.what) for each in report.differences} == {("deliveries", "different")}
    with both(source, target) as (_, side), pytest.raises(ConfigurationError, match="holds an unfinished copy"):
        Schema(side.database).check()


# ── comparison ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_differences_are_reported_by_table_and_key(across):
    source, target = across
    copy(source, target)
    sql(
        target,
        "UPDATE products SET name = 'Löwin' WHERE external_id = 'Löwe 🦁'",
        "DELETE FROM products WHERE external_id = 'gone'",
        "INSERT INTO dedup_keys SELECT source, 'new', fingerprint, delivery_id FROM dedup_keys LIMIT 1",
    )
    report = verify(source, target)
    assert not report.same
    assert {table.table for table in report.tables if not table.same} == {"products", "dedup_keys"}
    told = {(each.table, each.key.rpartition("=")[2], each.what) for each in report.differences}
    assert told == {
        ("products", "Löwe 🦁", "different"),
        ("products", "gone", "missing"),
        ("dedup_keys", "new", "extra"),
    }


@pytest.mark.parametrize("exists", [True, False])
def test_comparing_with_a_database_that_is_not_a_copy_makes_nothing(exists, histories, tmp_path):
    target = tmp_path / "target.db"
    if exists:
        target.touch()
    with pytest.raises(CopyError, match="TO lacks tables of this release, so it is not a copy"):
        verify(histories("sqlite"), f"sqlite:///{target}")
    assert target.exists() == exists


def test_comparing_with_an_unfinished_copy_reports_its_progress(files):
    source, target = files
    interrupt(source, target)
    there = sum(map(len, everything(target).values()))
    report = verify(source, target)
    rows = sum(table.rows for table in report.tables)
    assert not report.same
    assert report.unfinished == f"an unfinished copy of {source} ({there} of {rows} rows)"
    copy(source, target)
    assert verify(source, target).unfinished is None


def test_a_copy_that_stopped_after_its_last_row_is_unfinished_although_both_sides_are_equal(files):
    source, target = files
    with pytest.raises(Stopped):
        copy(source, target, progress=stop_at(("comparing", "deliveries")))
    report = verify(source, target)
    rows = sum(table.rows for table in report.tables)
    assert (report.same, report.unfinished) == (True, f"an unfinished copy of {source} ({rows} of {rows} rows)")


# ── refused copies ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_missing_file_is_refused_and_not_made(tmp_path):
    with pytest.raises(CopyError, match="which does not exist: correct the path"):
        copy(f"sqlite:///{tmp_path}/nowhere.db", f"sqlite:///{tmp_path}/target.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verify_only", [False, True])
def test_a_name_that_no_file_can_have_is_refused_in_one_line(tmp_path, verify_only):
    compared = verify if verify_only else copy
    named = f"sqlite:///{tmp_path}/{'a' * 300}.db"
    for pair in [(named, f"sqlite:///{tmp_path}/target.db"), (named, named)]:
        with pytest.raises(CopyError, match=r"unable to open database file|are the same database"):
            compared(*pair)


def test_a_database_without_our_tables_is_refused(new_url):
    source = new_url("postgresql")
    with pytest.raises(CopyError, match="has no tables of Hookmirror: correct the URL"):
        copy(source, new_url("sqlite"))


def test_a_database_at_an_earlier_schema_is_refused(new_url):
    source = new_url("sqlite")
    migrate(source)
    sql(source, "UPDATE alembic_version_receiver SET version_num = '0003'")
    with pytest.raises(CopyError, match="run `hookmirror migrate` with HOOKMIRROR_DATABASE_URL set to it first"):
        copy(source, new_url("sqlite"))


def test_a_copy_into_an_encoding_that_lacks_characters_is_refused(histories, databases):
    name = "hookmirror_latin"
    databases._run(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(CopyError, match=r"TO is encoded in LATIN1.*ENCODING 'UTF8' TEMPLATE template0"):
            copy(histories("sqlite"), databases.url(name))
    finally:
        databases.drop(name)


def test_an_unreachable_server_is_reported_without_its_password(histories):
    away = "postgresql://me:a-secret@127.0.0.1:1/db"
    with pytest.raises(CopyError, match="Start PostgreSQL, or correct host and port in TO") as told:
        copy(histories("sqlite"), away)
    assert "a-secret" not in str(told.value)


def test_a_read_only_target_is_refused(histories, tmp_path):
    (tmp_path / "target.db").touch()
    with pytest.raises(CopyError, match="TO opens the file for reading only: write `mode=rw` there"):
        copy(histories("sqlite"), f"sqlite:///file:{tmp_path}/target.db?mode=ro&uri=true")


@pytest.fixture
def stray(another):
    """Give a database with tables that no package declares: one of a mirror, and one of another program."""
    sql(another, "CREATE TABLE shelves AS SELECT * FROM products", "CREATE TABLE notes (words text)")
    return another


def test_a_mirror_table_of_a_missing_package_is_left_out_only_on_request(stray, ready_url):
    target = ready_url("sqlite")
    with pytest.raises(CopyError, match=r"FROM has shelves, which no installed package declares.*--without shelves"):
        copy(stray, target)
    report = copy(stray, target, without=["shelves"])
    assert (report.same, report.left_out) == (True, ["notes", "shelves"])


def test_an_undeclared_column_is_left_out_only_on_request(another, ready_url):
    target = ready_url("sqlite")
    sql(another, "ALTER TABLE products ADD COLUMN colour text")
    with pytest.raises(CopyError, match=r"FROM has products\.colour"):
        copy(another, target)
    assert copy(another, target, without=["products.colour"]).left_out == ["products.colour"]


def test_leaving_out_an_unknown_table_is_refused(histories, new_url):
    with pytest.raises(CopyError, match="--without names shelfs, which"):
        copy(histories("sqlite"), new_url("sqlite"), without=["shelfs"])


@pytest.fixture
def priced():
    """Declare a table with a column that the database computes."""
    columns = [Column("id", Integer, primary_key=True), Column("gross", Integer, Computed("id * 2", persisted=True))]
    table = Table("prices_to_copy", SQLModel.metadata, *columns, Column("name", String))
    yield
    SQLModel.metadata.remove(table)


@pytest.mark.usefixtures("priced")
def test_a_column_that_the_database_computes_is_computed_in_the_copy_too(across, another):
    source, target = another if across[0].startswith("sqlite") else across[0], across[1]
    migrate(source)
    sql(source, "INSERT INTO prices_to_copy (id, name) VALUES (3, 'Lamp')")
    try:
        assert copy(source, target).same
        with closing(Database(target)) as database, database.read() as connection:
            assert connection.execute(text("SELECT id, gross, name FROM prices_to_copy")).all() == [(3, 6, "Lamp")]
    finally:
        sql(source, "DROP TABLE prices_to_copy")


@pytest.fixture
def nested(another):
    """Declare a table whose rows refer to other rows of it, and put rows into a SQLite file, each before its parent."""
    above = Column("above", Integer, ForeignKey("shelves_to_copy.id"))
    table = Table("shelves_to_copy", SQLModel.metadata, Column("id", Integer, primary_key=True), above)
    migrate(another)
    with closing(Database(another)) as database, database.write() as connection:
        rows = [{"id": number, "above": number + 1 if number < 7 else None} for number in range(1, 8)]
        connection.execute(insert(table), rows)
    yield another
    SQLModel.metadata.remove(table)


@pytest.fixture
def small_slices(monkeypatch):
    monkeypatch.setattr("receiver.copying.slices.ROWS", 3)


@pytest.mark.usefixtures("small_slices")
def test_rows_that_refer_to_later_rows_of_their_table_are_copied(nested, ready_url):
    there, back = ready_url("postgresql"), ready_url("sqlite")
    seen = []
    assert copy(nested, there, progress=lambda *step: seen.append(step)).same
    assert [step for step in seen if step[:2] == ("copying", "shelves_to_copy")] == [
        ("copying", "shelves_to_copy", rows, 7) for rows in (0, 3, 3, 1)
    ]
    assert copy(there, back).same
    assert sql(back, "SELECT * FROM shelves_to_copy") == sql(nested, "SELECT * FROM shelves_to_copy")
    with pytest.raises(IntegrityError, match="violates foreign key constraint"):
        sql(there, "SET CONSTRAINTS ALL DEFERRED", "INSERT INTO shelves_to_copy VALUES (8, 99)", "SELECT 1 / 0")


@pytest.mark.usefixtures("small_slices")
def test_a_reference_to_a_missing_row_of_the_same_table_is_refused(nested, ready_url):
    sql(nested, "UPDATE shelves_to_copy SET above = 99 WHERE id = 2")
    with pytest.raises(CopyError, match=r"shelves_to_copy: TO refuses a row .*=\(99\) is not present in table"):
        copy(nested, ready_url("postgresql"))


@pytest.fixture
def in_a_circle(another):
    """Declare tables that refer to each other, with rows in a SQLite file, and one that refers to both."""
    refers = {"teams": "people", "people": "teams", "seats": "people"}
    tables = [
        Table(
            f"{name}_to_copy",
            SQLModel.metadata,
            Column("id", Integer, primary_key=True),
            # Made after all tables, so that these need no order.
            Column("other", Integer, ForeignKey(f"{other}_to_copy.id", use_alter=True, name=f"of_{name}_to_copy")),
        )
        for name, other in refers.items()
    ]
    migrate(another)
    with closing(Database(another)) as database, database.write() as connection:
        for table in tables:
            connection.execute(insert(table), [{"id": number, "other": 8 - number} for number in range(1, 8)])
    yield another
    for table in tables:
        SQLModel.metadata.remove(table)


@pytest.mark.usefixtures("small_slices")
def test_tables_that_refer_to_each_other_in_a_circle_are_copied(in_a_circle, ready_url):
    there, back = ready_url("postgresql"), ready_url("sqlite")
    assert copy(in_a_circle, there).same
    assert copy(there, back).same
    with pytest.raises(IntegrityError, match="violates foreign key constraint"):
        sql(there, "SET CONSTRAINTS ALL DEFERRED", "INSERT INTO teams_to_copy VALUES (9, 99)", "SELECT 1 / 0")


@pytest.fixture
def in_a_ring(another):
    """Declare three tables in a circle, whose keys may be NULL, and of which two are checked later than at once."""
    kinds = {"teams": {}, "people": {"deferrable": True}, "places": {"deferrable": True, "initially": "DEFERRED"}}
    others = dict(zip(kinds, [*list(kinds)[1:], "teams"], strict=True))
    tables = [
        Table(
            f"{name}_in_ring",
            SQLModel.metadata,
            Column("id", Integer, primary_key=True),
            Column("other", ForeignKey(f"{others[name]}_in_ring.id", use_alter=True, name=f"of_{name}", **options)),
        )
        for name, options in kinds.items()
    ]
    migrate(another)
    with closing(Database(another)) as database, database.write() as connection:
        for table in tables:
            connection.execute(insert(table), [{"id": n, "other": 8 - n if n % 3 else None} for n in range(1, 8)])
    yield another
    for table in tables:
        SQLModel.metadata.remove(table)


@pytest.mark.usefixtures("small_slices")
def test_three_tables_in_a_circle_are_copied_after_an_interruption_in_the_middle(in_a_ring, ready_url):
    def interrupt(doing: str, table: str, *_: object) -> None:
        if (doing, table) == ("copying", "people_in_ring"):
            raise KeyboardInterrupt

    there, back = ready_url("postgresql"), ready_url("sqlite")
    for source, target in ((in_a_ring, there), (there, back)):
        with pytest.raises(KeyboardInterrupt):
            copy(source, target, progress=interrupt)
        assert copy(source, target).same
    with closing(Database(there)) as database, database.read() as connection:
        of = "FROM pg_constraint WHERE conname IN ('of_people', 'of_places', 'of_teams') ORDER BY conname"
        found = [tuple(row) for row in connection.execute(text(f"SELECT condeferrable, condeferred {of}"))]
    assert found == [(True, False), (True, True), (False, False)], "as they were declared"


@pytest.mark.usefixtures("small_slices")
def test_a_reference_to_a_missing_row_in_a_circle_is_refused_and_a_copy_of_it_can_begin_anew(in_a_circle, ready_url):
    there = ready_url("postgresql")
    sql(in_a_circle, "UPDATE seats_to_copy SET other = 99 WHERE id = 7")
    with pytest.raises(CopyError, match="seats_to_copy id=7: TO refuses this row"):
        copy(in_a_circle, there)
    sql(in_a_circle, "UPDATE seats_to_copy SET other = 7 WHERE id = 7", "UPDATE teams_to_copy SET other = 99")
    with pytest.raises(CopyError, match=r"teams_to_copy: TO refuses a row .*=\(99\) is not present in table"):
        copy(in_a_circle, there, afresh=True)
    sql(in_a_circle, "UPDATE teams_to_copy SET other = 7")
    assert copy(in_a_circle, there, afresh=True).same


@pytest.mark.usefixtures("small_slices")
def test_reading_ends_after_the_problems_that_the_message_lists(nested, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("receiver.copying.copying.MOST_PROBLEMS", 1)
    sql(nested, "UPDATE shelves_to_copy SET above = 'odd'")
    with pytest.raises(CopyError, match=r"^Nothing is copied: .*\nshelves_to_copy id=1: above .*\n…$"):
        copy(nested, f"sqlite:///{tmp_path}/to.db", progress=lambda *step: seen.append(step[:2]))
    assert ("examining", "shelves_to_copy") not in seen, "the slices behind it would be read in vain"


#: Assignments that spoil rows, and what the message says about each, by system and table.
SPOILT = {
    ("sqlite", "products"): {
        "name = 'a' || char(0)": "a NUL character, which PostgreSQL cannot keep in text",
        "name = CAST(x'61ff' AS TEXT)": "holds text that is not valid UTF-8",
        "external_id = CAST(x'61ff' AS TEXT)": "holds text that is not valid UTF-8",
        "name = x'61ff'": "holds bytes where text is declared",
        "price = 'dear'": "holds text where a decimal is declared",
        "price = '1e999999'": "holds a number with more digits than PostgreSQL keeps",
        "changed_at = 'noon'": "holds 'noon', which is not a time between the years 1 and",
        "changed_at = '2026-01-01T00:00:00'": "a time without its offset from UTC",
        "active = 'perhaps'": "holds text where true or false is declared",
    },
    ("sqlite", "deliveries"): {
        "attempts = 'many'": "holds text where a whole number is declared",
        "attempts = 1 << 40": "is beyond the 32 bits of this column on PostgreSQL",
        "attempts = 1e300": "holds a fraction where a whole number is declared",
    },
    ("postgresql", "products"): {
        "changed_at = 'infinity'": "holds 'infinity', which is not a time between",
        "changed_at = '0044-03-15 BC'": "BC', which is not a time between the years 1 and 9999",
    },
}


@pytest.fixture(scope="module")
def spoiling(histories, databases, tmp_path_factory):
    """Return a function that gives a copy of the data for each system, which tests spoil and restore."""
    made, names = {}, []

    def of(system: str) -> str:
        if system not in made:
            history = make_url(histories(system)).database
            if system == "postgresql":
                names.append(databases.create(history))
                made[system] = databases.url(names[-1])
            else:
                path = tmp_path_factory.mktemp("spoiling") / "spoilt.db"
                shutil.copy(history, path)
                made[system] = f"sqlite:///{path}"
        return made[system]

    yield of
    for name in names:
        databases.drop(name)


@pytest.fixture(scope="module")
def untouched(databases):
    """Give a database on PostgreSQL whose tables must stay empty."""
    name = databases.create_with_tables()
    yield databases.url(name)
    databases.drop(name)


@pytest.mark.parametrize(("system", "table"), SPOILT)
def test_values_that_cannot_be_copied_are_reported_by_table_and_key_before_the_copy_begins(
    system, table, spoiling, untouched, tmp_path
):
    source, spoils = spoiling(system), SPOILT[system, table]
    target = untouched if system == "sqlite" else f"sqlite:///{tmp_path}/untouched.db"
    key = "id" if table == "deliveries" else "external_id"
    with both(source, target) as (side, other):
        with side.database.write() as connection:
            first = f"SELECT DISTINCT {key} FROM {table} ORDER BY {key} LIMIT {len(spoils)}"
            kept = {
                each: connection.exec_driver_sql(f"SELECT * FROM {table} WHERE {key} = '{each}'").fetchall()
                for each in connection.exec_driver_sql(first).scalars().all()
            }
            for each, spoil in zip(kept, spoils, strict=True):
                connection.exec_driver_sql(f"UPDATE {table} SET {spoil} WHERE {key} = '{each}'")
        try:
            with pytest.raises(CopyError, match=r"^Nothing is copied") as told:
                Copier(side, other).copy()
        finally:
            for each, rows in kept.items():
                _mend(side, table, key, each, rows)
        lines = str(told.value).splitlines()[1:]
        assert len(lines) == len(spoils)
        for each, (spoil, says) in zip(kept, spoils.items(), strict=True):
            column = spoil.partition(" ")[0]
            (line,) = [line for line in lines if f": {column} " in line and says in line]
            assert line.startswith(f"{table} ")
            assert str(each) in line or column == key
        with other.database.read() as connection:
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0


def _mend(side, table, key, spoilt, kept):
    is_postgresql = side.database.is_postgresql
    either = f"{key} = '{spoilt}'" + ("" if is_postgresql else f" OR {key} = CAST(x'61ff' AS TEXT)")
    marks = ", ".join(["%s" if is_postgresql else "?"] * len(kept[0]))
    with side.database.write() as connection:
        connection.exec_driver_sql(f"DELETE FROM {table} WHERE {either}")
        for row in kept:
            connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({marks})", tuple(row))
