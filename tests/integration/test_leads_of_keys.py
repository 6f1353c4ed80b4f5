"""Leads of dedup keys: the sender's own id, behind the time of change in the table of keys, and shown without it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from sqlalchemy import select, text

from receiver.database.database import Database
from receiver.dialects.sources import find_dialects
from receiver.envelope import Envelope
from receiver.inbox.arrival import Arrival
from receiver.inbox.inbox import Inbox
from receiver.inbox.retention import Retention
from receiver.inbox.tables import DEDUP_KEYS
from receiver.search import pages
from receiver.search.deliveries import list_deliveries
from receiver.search.filters import DeliveryFilter
from receiver.search.hits import HitKind, search
from receiver.search.pages import PageBounds
from receiver.testing import Webhooks
from vendors.standard import standard

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

#: Noon in microseconds since 1970.
LEAD = "1780315200000000-"


@pytest.fixture
def kit(mirror_url, tmp_path):
    webhooks = Webhooks(tmp_path, {**find_dialects(), "standard": standard}, database_url=mirror_url)
    yield webhooks
    webhooks.close()


def body(key, *, at=NOON, name="Lamp"):
    data = {"entityId": "E1", "schemaId": "s", "name": name}
    told = {"event": "entity.updated", "deliveryId": key, "timestamp": at.isoformat(), "data": data}
    return json.dumps(told).encode()


def send(kit, key, **what):
    return kit.send_body("sigma", body(key, **what))


def keys(kit):
    with kit.database.read() as connection:
        return set(connection.execute(select(DEDUP_KEYS.c.dedup_key)).scalars())


def upgraded_at(kit, moment):
    """As if the database had been upgraded then, with keys of the previous release in it."""
    with kit.database.write() as connection:
        connection.execute(text("DELETE FROM identity"))
        table = "INSERT INTO identity (id, name, older_keys_until) VALUES (1, 'x', :until)"
        until = moment if kit.database.is_postgresql else moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        connection.execute(text(table), {"until": until})


def as_before(kit, *answers):
    """Store the keys of these as the previous release did."""
    with kit.database.write() as connection:
        for answer in answers:
            key = kit.delivery(answer)["dedup_key"]
            statement = text("UPDATE dedup_keys SET dedup_key = :key WHERE delivery_id = :id")
            connection.execute(statement, {"key": key, "id": int(answer.delivery)})


def test_the_time_leads_the_senders_id_in_the_table_of_keys_alone(kit):
    answer = send(kit, "del-1")
    assert (kit.delivery(answer)["dedup_key"], keys(kit)) == ("del-1", {f"{LEAD}del-1"})


def test_a_retry_is_a_duplicate(kit):
    first, again = send(kit, "del-1"), send(kit, "del-1")
    assert again.body == {"status": "duplicate", "delivery": first.delivery}
    assert kit.delivery(first)["duplicates"] == 1


def test_one_id_with_another_body_and_the_same_time_is_a_conflict_that_comes_again_as_a_duplicate(kit):
    send(kit, "del-1")
    other, again = send(kit, "del-1", name="Bulb"), send(kit, "del-1", name="Bulb")
    assert (other.body["status"], kit.delivery(other)["conflict"]) == ("accepted", True)
    assert again.body == {"status": "duplicate", "delivery": other.delivery}


def test_one_id_with_another_time_is_new_kept_and_not_flagged(kit):
    send(kit, "del-1")
    later = send(kit, "del-1", at=NOON + timedelta(seconds=1), name="Bulb")
    assert (later.body["status"], kit.delivery(later)["conflict"]) == ("accepted", False)
    assert {each["dedup_key"] for each in kit.deliveries()} == {"del-1"}


def envelope(**fingerprint):
    return Envelope(event_type="a", entity=None, occurred_at=NOON, data=None, dedup_key="del-1", **fingerprint)


def test_a_fingerprint_that_may_lack_the_time_has_no_lead():
    assert envelope(fingerprint=b"f" * 32).lead() == ""
    assert envelope(fingerprint=b"f" * 32, fingerprint_covers_time=True).lead() == LEAD


def test_a_repetition_of_sticky_with_another_id_is_a_duplicate_and_another_change_of_that_time_a_conflict(kit):
    change = {"id": "1", "object": {"id": 7, "name": "Lamp"}, "correlationId": "c-1"}
    told = {"clientAppKey": "app_key_here", "type": "product.updated", "time": "2026-06-01 08:00:00", "data": change}
    first = kit.send_body("sticky", json.dumps(told).encode())
    again = kit.send_body("sticky", json.dumps(told | {"data": change | {"id": "2"}}).encode())
    other = kit.send_body(
        "sticky", json.dumps(told | {"data": change | {"object": {"id": 7, "name": "Bulb"}}}).encode()
    )
    assert again.body == {"status": "duplicate", "delivery": first.delivery}
    assert (other.body["status"], kit.delivery(other)["conflict"]) == ("accepted", True)
    assert keys(kit) > {LEAD + kit.delivery(first)["dedup_key"]}


def test_an_envelope_that_is_read_from_headers_has_no_lead_since_they_may_tell_the_time_of_the_attempt(kit):
    kit.source("standard")
    told = b'{"type": "product.updated", "timestamp": "2026-06-01T12:00:00Z", "data": {"id": 1}}'
    kit.send_body("standard", told, headers={"webhook-id": "m1"})
    assert keys(kit) == {"m1"}


def test_a_retry_across_the_upgrade_is_a_duplicate_and_another_body_a_conflict(kit):
    upgraded_at(kit, NOON + timedelta(minutes=1))
    first = send(kit, "del-1")
    as_before(kit, first)
    again, other = send(kit, "del-1"), send(kit, "del-1", name="Bulb")
    assert again.body == {"status": "duplicate", "delivery": first.delivery}
    assert (other.body["status"], kit.delivery(other)["conflict"]) == ("accepted", True)
    assert send(kit, "del-1", name="Bulb").body == {"status": "duplicate", "delivery": other.delivery}


def test_news_from_before_the_upgrade_gets_a_lead_and_is_known_by_it(kit):
    upgraded_at(kit, NOON + timedelta(minutes=1))
    first, again = send(kit, "del-1"), send(kit, "del-1")
    assert (again.body["status"], keys(kit)) == ("duplicate", {f"{LEAD}del-1"})
    assert again.delivery == first.delivery


def test_changes_after_the_upgrade_are_not_looked_for_by_older_keys(kit):
    upgraded_at(kit, NOON - timedelta(minutes=1))
    as_before(kit, send(kit, "del-1"))
    assert send(kit, "del-1").body["status"] == "accepted"


#: A fingerprint and an id that no database can compress.
LONG = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(60))
LONG_ID = "".join(chr(0x4E00 + number * 37 % 20_000) for number in range(512))


def arrival_with(fingerprint, *, dedup_key=None):
    arriving = Arrival(source="shop", body=b"{}", plain=None, headers={}, received_at=NOON, secret=None)
    arriving.know(
        Envelope(event_type="a", entity=None, occurred_at=NOON, data=None, dedup_key=dedup_key, fingerprint=fingerprint)
    )
    return arriving


def test_a_retry_of_a_change_whose_long_fingerprint_was_not_hashed_before_the_upgrade_is_a_duplicate(kit):
    fingerprint = LONG[:1_280]
    [first] = kit.inbox.accept([arrival_with(fingerprint)])
    with kit.database.write() as connection:
        for table in ("dedup_keys", "deliveries"):
            statement = text(f"UPDATE {table} SET dedup_key = :key")
            connection.execute(statement, {"key": f"{LEAD}{fingerprint.hex()}"})
    [again] = kit.inbox.accept([arrival_with(fingerprint)])
    assert (again.status, again.delivery_id) == ("duplicate", first.delivery_id)


@pytest.mark.parametrize(("key", "size"), [("del-1", 1_920), (LONG_ID, 800)], ids=["long fingerprint", "long id"])
def test_another_body_under_a_used_id_is_kept_however_long_id_and_fingerprint_are(kit, key, size):
    first, other, again = (arrival_with(each[:size], dedup_key=key) for each in (LONG, LONG[::-1], LONG[::-1]))
    answers = [kit.inbox.accept([each])[0] for each in (first, other, again)]
    assert [each.status for each in answers] == ["accepted", "accepted", "duplicate"]
    assert (other.state, other.conflict, answers[1].delivery_id) == ("pending", True, answers[2].delivery_id)


def test_a_dedup_key_goes_with_its_delivery_whether_it_has_a_lead_or_not(kit):
    first, _ = send(kit, "del-1"), send(kit, "del-2")
    as_before(kit, first)
    kit.drain()
    kept = Retention(bodies=timedelta(days=30), dedup_keys=timedelta(days=400))
    kit.advance(days=401)
    while kept.prune(kit.database, now=kit.now()):
        pass
    assert (kit.deliveries(), keys(kit)) == ([], set())


def test_search_takes_the_senders_own_id(kit):
    answers = [send(kit, "del-1"), send(kit, "del-1", at=NOON + timedelta(days=1)), send(kit, "del-2")]
    found = search(kit.database, {}, "del-1")
    assert [str(hit.row["id"]) for hit in found.deliveries] == [answers[1].delivery, answers[0].delivery]
    assert {hit.kind for hit in found.deliveries} == {HitKind.DEDUP_KEY}
    assert found.says == "Not in the mirror, but the dedup key of 2 deliveries."


def test_a_search_that_ends_in_time_says_how_many_deliveries_it_examined_and_how_to_go_on(kit, monkeypatch):
    for number in range(3):
        send(kit, f"del-{number}")
    monkeypatch.setattr("receiver.search.windows.FIRST_WINDOW", 2)
    monkeypatch.setattr("receiver.search.hits.KEY_SECONDS", 0.0)
    found = search(kit.database, {}, "del-0")
    assert (found.deliveries, found.examined) == ([], 2)
    assert "only the newest 2 deliveries were examined: filter the list of deliveries by `dedup_key`" in found.says


def test_a_search_with_a_blank_that_was_pasted_along_takes_the_time_of_one_search(kit, monkeypatch):
    for number in range(8):
        send(kit, f"del-{number}")
    given: list[float] = []

    def find_on_all(*arguments, seconds, **options):
        given.append(seconds)
        return pages.find_on_all(*arguments, seconds=seconds, **options)

    monkeypatch.setattr("receiver.search.hits.find_on_all", find_on_all)
    assert [str(hit.kind) for hit in search(kit.database, {}, "del-0\n").deliveries] == ["dedup key"]
    assert given[0] == 0.0, "only the newest deliveries are examined for the text with its blank"
    assert len(given) == 2


def test_the_list_of_deliveries_is_filtered_by_the_senders_own_id(kit):
    answer, _ = send(kit, "del-1"), send(kit, "del-2")
    page = list_deliveries(kit.database, DeliveryFilter(dedup_key="del-1"), lambda row: {"id": row["id"]}, PageBounds())
    assert [json.loads(bytes(each))["id"] for each in page.items] == [int(answer.delivery)]


def test_a_batch_of_random_ids_writes_hardly_more_pages_than_one_of_derived_keys(tmp_path):
    with closing(Database(f"sqlite:///{tmp_path / 'hookmirror.db'}")) as database:
        database.create_tables()
        inbox, numbers = Inbox(database), count()
        for _ in range(60):
            inbox.accept([numbered(next(numbers), random_id=True) for _ in range(64)])
        random = pages_of_batch(inbox, [numbered(next(numbers), random_id=True) for _ in range(64)])
        derived = pages_of_batch(inbox, [numbered(next(numbers), random_id=False) for _ in range(64)])
    assert random <= derived + 8, "without a lead, it is a page for each key"


def numbered(number, *, random_id):
    """The arrival of a change of its own millisecond."""
    arrival = Arrival(source="shop", body=b"x" * 100, plain=None, headers={}, received_at=NOON, secret=0)
    key = hashlib.sha256(b"%d" % number).hexdigest() if random_id else None
    at = NOON + timedelta(milliseconds=number)
    arrival.know(Envelope(event_type="a", entity=None, occurred_at=at, data=None, dedup_key=key))
    arrival.fingerprint = hashlib.sha256(b"%d" % number).digest()
    return arrival


def pages_of_batch(inbox, batch):
    """How many pages the log grows by when the batch is accepted."""
    with closing(sqlite3.connect(inbox.database.engine.url.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    inbox.accept(batch)
    return inbox.database.log_bytes // 4096
