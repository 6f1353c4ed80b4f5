"""Duplicates: whatever a batch repeats of itself or of earlier ones, each event is kept once."""

from __future__ import annotations

from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, select, text
from sqlalchemy.exc import IntegrityError

from examples import examples
from receiver.database.database import Database
from receiver.envelope import Envelope
from receiver.inbox.arrival import Accepted, Arrival
from receiver.inbox.inbox import Inbox
from receiver.inbox.insert import BATCH_SIZES
from receiver.inbox.tables import BODIES, DEDUP_KEYS, DELIVERIES

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)

#: Noon in microseconds since 1970.
LEAD = "1772971200000000-"

#: On SQLite, a larger batch needs several statements.
ONE_STATEMENT = BATCH_SIZES[-1]

source_names = map("source-{}".format, count())

#: Dedup keys with bodies. They are few, so that many repeat, some with another body.
told = st.tuples(st.sampled_from("ABCDE"), st.binary(min_size=1, max_size=1))
sizes = st.integers(0, 130) | st.sampled_from([ONE_STATEMENT, ONE_STATEMENT + 1])
news = sizes.map(lambda size: [(f"N{number}", b"!") for number in range(size)])
batches = st.builds(lambda some, many, last: [*some, *many, *last], st.lists(told), news, st.lists(told))


@pytest.fixture(scope="module")
def database(lend_database, tmp_path_factory):
    with lend_database(tmp_path_factory.mktemp("duplicates")) as url, closing(Database(url)) as opened:
        opened.create_tables()
        yield opened


@pytest.fixture
def source():
    return next(source_names)


def arrivals(source, batch):
    return [arrival(source, key, body) for key, body in batch]


def arrival(source, key, body):
    arriving = Arrival(source=source, body=body, plain=None, headers={}, received_at=NOON, secret=0)
    entity = ("product", key)
    arriving.know(Envelope(event_type="product.updated", entity=entity, occurred_at=NOON, data=None, dedup_key=key))
    return arriving


def kept(database, source):
    """Return the kept deliveries of a source by id: dedup key, conflict, body, and number of duplicates."""
    columns = (DELIVERIES.c.id, DELIVERIES.c.dedup_key, DELIVERIES.c.conflict, BODIES.c.body, DELIVERIES.c.duplicates)
    found = select(*columns).outerjoin(BODIES, BODIES.c.delivery_id == DELIVERIES.c.id)
    with database.read() as connection:
        rows = connection.execute(found.where(DELIVERIES.c.source == source)).all()
    return {row.id: tuple(row)[1:] for row in rows}


def keys(database, source):
    with database.read() as connection:
        rows = connection.execute(select(DEDUP_KEYS).where(DEDUP_KEYS.c.source == source)).all()
    assert all(row.dedup_key.startswith(LEAD) for row in rows)
    return {row.dedup_key.removeprefix(LEAD): row.delivery_id for row in rows}


def test_each_event_is_kept_once_and_every_answer_names_its_delivery_in_any_batches(database):
    @examples(10)
    @given(batches=st.lists(st.tuples(batches, st.booleans()), min_size=1, max_size=4))
    def holds(batches):
        source, inbox = next(source_names), Inbox(database)
        first, seen = {}, {}
        for batch, is_prepared in batches:
            arriving = arrivals(source, batch)
            if is_prepared:
                inbox.prepare(arriving)
            for (key, body), answer in zip(batch, inbox.accept(arriving), strict=True):
                assert answer.status == ("duplicate" if (key, body) in first else "accepted")
                assert first.setdefault((key, body), answer.delivery_id) == answer.delivery_id
                seen[key, body] = seen.get((key, body), 0) + 1
        rows = kept(database, source)
        assert sorted(rows) == sorted(first.values())
        for (key, body), delivery_id in first.items():
            dedup_key, conflict, stored, duplicates = rows[delivery_id]
            earliest = min(number for (other, _), number in first.items() if other == key) == delivery_id
            assert (stored, duplicates) == (body, seen[key, body] - 1)
            assert conflict is not earliest
            assert dedup_key == key if earliest else dedup_key.startswith(f"{key}#")
        assert keys(database, source) == {row[0]: delivery_id for delivery_id, row in rows.items()}

    holds()


@pytest.mark.parametrize("size", [1, ONE_STATEMENT, ONE_STATEMENT + 1])
def test_a_repeated_accept_of_the_same_arrivals_is_not_a_duplicate_of_itself(database, source, size):
    batch = arrivals(source, [(f"K{number}", b"once") for number in range(size)])
    inbox = Inbox(database)
    first = inbox.accept(batch)
    assert inbox.accept(batch) == first
    assert {row[3] for row in kept(database, source).values()} == {0}


def test_new_arrivals_are_kept_beside_duplicates_in_one_batch(database, source):
    inbox = Inbox(database)
    [known] = inbox.accept([arrival(source, "known", b"1")])
    before, again, after = inbox.accept(arrivals(source, [("before", b"1"), ("known", b"1"), ("after", b"1")]))
    assert (before.status, again, after.status) == ("accepted", Accepted("duplicate", known.delivery_id), "accepted")
    assert set(keys(database, source)) == {"before", "known", "after"}


def test_a_key_whose_delivery_is_gone_is_free(database, source):
    inbox = Inbox(database)
    lost, _ = inbox.accept(arrivals(source, [("lost", b"1"), ("known", b"1")]))
    drop_deliveries(database, lost)
    batch = arrivals(source, [("lost", b"1"), ("known", b"1"), ("lost", b"1")])
    answers = inbox.accept(batch)
    assert [answer.status for answer in answers] == ["accepted", "duplicate", "duplicate"]
    assert answers[2].delivery_id == answers[0].delivery_id == batch[0].id
    assert keys(database, source)["lost"] == batch[0].id
    assert kept(database, source)[batch[0].id] == ("lost", False, b"1", 1)


def drop_deliveries(database, *answers):
    """Delete the deliveries, but not their dedup keys, as an endpoint may see it beside a retention."""
    with database.write() as connection:
        for table, column in ((DELIVERIES, DELIVERIES.c.id), (BODIES, BODIES.c.delivery_id)):
            connection.execute(table.delete().where(column.in_([each.delivery_id for each in answers])))


@contextmanager
def before_keys_are_dropped(database, act):
    """Call `act` with the parameters of each statement that drops dedup keys, before it is executed."""

    def watch(connection, cursor, statement, parameters, context, executemany):
        if statement.startswith("DELETE FROM dedup_keys"):
            act([dict(each) for each in context.compiled_parameters])

    event.listen(database.engine, "before_cursor_execute", watch)
    try:
        yield
    finally:
        event.remove(database.engine, "before_cursor_execute", watch)


def test_a_body_is_kept_as_a_conflict_if_another_endpoint_frees_its_key_for_another_body_first(postgresql_url, source):
    with closing(Database(postgresql_url)) as database, closing(Database(postgresql_url)) as elsewhere:
        database.create_tables()
        drop_deliveries(database, *Inbox(database).accept([arrival(source, "K", b"ours")]))
        others = []

        def be_overtaken(_):
            if not others:
                with elsewhere.write() as connection:
                    connection.execute(DEDUP_KEYS.delete().where(DEDUP_KEYS.c.source == source))
                others.extend(Inbox(elsewhere).accept([arrival(source, "K", b"theirs")]))

        with before_keys_are_dropped(database, be_overtaken):
            [ours] = Inbox(database).accept([arrival(source, "K", b"ours")])
        assert (ours.status, others[0].status) == ("accepted", "accepted")
        rows = kept(database, source)
        assert {row[1:3] for row in rows.values()} == {(True, b"ours"), (False, b"theirs")}
        assert keys(database, source) == {row[0]: delivery_id for delivery_id, row in rows.items()}


def test_a_key_that_becomes_an_orphan_again_while_it_is_freed_is_freed_again(postgresql_url, source):
    with closing(Database(postgresql_url)) as database, closing(Database(postgresql_url)) as elsewhere:
        database.create_tables()
        drop_deliveries(database, *Inbox(database).accept([arrival(source, "K", b"1")]))
        others = []

        def be_overtaken(_):
            if not others:
                with elsewhere.write() as connection:
                    connection.execute(DEDUP_KEYS.delete().where(DEDUP_KEYS.c.source == source))
                others.extend(Inbox(elsewhere).accept([arrival(source, "K", b"1")]))
                drop_deliveries(elsewhere, *others)

        with before_keys_are_dropped(database, be_overtaken):
            [ours] = Inbox(database).accept([arrival(source, "K", b"1")])
        assert (ours.status, keys(database, source)) == ("accepted", {"K": ours.delivery_id})


def test_keys_of_deleted_deliveries_are_dropped_in_one_order_so_that_two_endpoints_do_not_deadlock(database, source):
    inbox, dropped = Inbox(database), []
    drop_deliveries(database, *inbox.accept(arrivals(source, [("B", b"1"), ("A", b"1"), ("C", b"1")])))
    with before_keys_are_dropped(database, lambda given: dropped.extend(each["key"] for each in given)):
        inbox.accept(arrivals(source, [("C", b"1"), ("A", b"1"), ("B", b"1")]))
    assert dropped == [f"{LEAD}{key}" for key in "ABC"]


def test_an_id_that_is_taken_is_an_error_and_keeps_nothing(database, source):
    inbox = Inbox(database)
    inbox.accept([arrival(source, "taken", b"1")])
    clashing = arrivals(source, [("fine", b"1"), ("clashing", b"1")])
    clashing[1].id = keys(database, source)["taken"]
    with pytest.raises(IntegrityError):
        inbox.accept(clashing)
    assert set(keys(database, source)) == {"taken"}


def test_on_sqlite_another_program_s_triggers_change_nothing(tmp_path, source):
    with closing(Database(f"sqlite:///{tmp_path / 'hookmirror.db'}")) as database:
        database.create_tables()
        with database.write() as connection:
            connection.execute(text("CREATE TABLE audit (delivery_id INTEGER)"))
            noted = "INSERT INTO audit VALUES (NEW.id); INSERT INTO audit VALUES (NEW.id);"
            connection.execute(text(f"CREATE TRIGGER noting AFTER INSERT ON deliveries BEGIN {noted} END"))
        answers = Inbox(database).accept(arrivals(source, [("A", b"1"), ("A", b"1"), ("B", b"1")]))
        assert [answer.status for answer in answers] == ["accepted", "duplicate", "accepted"]
        assert len(kept(database, source)) == 2


def test_every_part_of_an_arrival_is_kept(database, source):
    known = arrival(source, "A1", b"\0body")
    known.plain, known.headers, known.secret = b"", {"user-agent": "shop/1"}, 0
    known.ignore("nobody takes it")
    Inbox(database).accept([known])
    delivery = stored(database, DELIVERIES, DELIVERIES.c.id == known.id)
    assert {name: delivery[name] for name in ("source", "event_type", "entity_kind", "entity_id")} == {
        "source": source,
        "event_type": "product.updated",
        "entity_kind": "product",
        "entity_id": "A1",
    }
    assert [delivery[name] for name in ("occurred_at", "received_at", "due_at", "ended_at")] == [NOON] * 4
    assert (delivery["state"], delivery["reason"], delivery["secret"]) == ("ignored", "nobody takes it", 0)
    body = stored(database, BODIES, BODIES.c.delivery_id == known.id)
    assert (body["body"], body["plain"], body["headers"]) == (b"\0body", b"", {"user-agent": "shop/1"})


def test_unknown_parts_of_an_arrival_are_null(database, source):
    unread = Arrival(source=source, body=b"?", plain=None, headers={}, received_at=NOON, secret=None)
    unread.dedup_key, unread.fingerprint = "unread", b"!"
    Inbox(database).accept([unread])
    delivery = stored(database, DELIVERIES, DELIVERIES.c.id == unread.id)
    absent = ("event_type", "entity_kind", "entity_id", "occurred_at", "reason", "ended_at", "secret")
    assert [delivery[name] for name in absent] == [None] * len(absent)
    assert stored(database, BODIES, BODIES.c.delivery_id == unread.id)["plain"] is None


def stored(database, table, condition):
    with database.read() as connection:
        return connection.execute(select(table).where(condition)).mappings().one()
