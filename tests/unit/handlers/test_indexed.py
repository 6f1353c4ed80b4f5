"""Indexed PIM: patches of entities of any kind, the revision's time, and secrets chosen by an unverified hint."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from collecting import columns_of, fixture, fixture_bodies, json_body, leaves_what_it_must, rows_after, writes_of
from hypothesis import given
from hypothesis import strategies as st

from handlers.indexed import indexed, kind_of, webhook_of
from receiver.errors import NotVerified, Unreadable
from receiver.verify.request import WebhookRequest
from receiver.verify.verifiers import Credentials, Secret

SAMPLE = fixture("indexed", "product.updated")
UNIT = fixture("indexed", "unit.updated")
REVISED = datetime(2026, 4, 21, 11, 59, 54, tzinfo=UTC)
DISPATCHED = datetime(2026, 4, 21, 12, tzinfo=UTC)


def product(**members):
    return SAMPLE | {"product": {"id": 42, "externalId": "prod_789", **members}}


def identity(body):
    text = json_body(body)
    return indexed.read(text).identity(text)


@pytest.mark.parametrize("name", fixture_bodies("indexed"))
def test_every_fixture_leaves_the_row_that_it_describes(name):
    leaves_what_it_must(indexed, name)


def test_the_time_of_change_is_the_revision_s():
    assert indexed.read(json_body(SAMPLE)).occurred_at == REVISED


@pytest.mark.parametrize("revision", [None, [], {}, {"timestamp": None}, {"timestamp": 1776772794}])
def test_without_the_revision_s_time_the_time_of_change_is_the_dispatch_s(revision):
    assert indexed.read(json_body(SAMPLE | {"revision": revision})).occurred_at == DISPATCHED


def test_two_webhook_records_for_one_event_announce_one_change():
    """Several records may name one event (Indexed docs, "Current implementation note")."""
    again = SAMPLE | {"webhook": {"external_id": "web_other"}, "timestamp": "2026-04-21T12:00:09+00:00"}
    assert identity(again) == identity(SAMPLE)


@pytest.mark.parametrize(
    "change", [product(name="x"), SAMPLE | {"event": "product.created"}, SAMPLE | {"app": {"external_id": "app_other"}}]
)
def test_a_body_that_differs_in_another_part_is_another_change(change):
    assert identity(change) != identity(SAMPLE)


def test_without_a_revision_every_different_body_is_another_change():
    bare = {name: value for name, value in SAMPLE.items() if name != "revision"}
    assert identity(bare) != identity(bare | {"webhook": {"external_id": "web_other"}})
    assert identity(bare)[1] == hashlib.sha256(json_body(bare)).digest()


@pytest.mark.parametrize(
    ("event_type", "kind"),
    [
        ("product.updated", "product"),
        ("product_group.updated", "product_group"),
        ("productGroup.updated", "product_group"),
        ("ProductGroup.updated", "product_group"),
        ("product-group.updated", "product_group"),
        ("product group.updated", "product_group"),
        ("paymentTerm.deleted", "payment_term"),
    ],
)
def test_kinds_of_two_words_are_read_in_every_spelling(event_type, kind):
    assert kind_of(event_type) == kind


@pytest.mark.parametrize("event", ["productGroup", "product_group", "product-group", "product group"])
@pytest.mark.parametrize("key", ["productGroup", "product_group", "product-group", "product group"])
def test_the_entity_is_found_whatever_the_spelling_of_its_key(event, key):
    body = {"event": f"{event}.created", "timestamp": "2026-04-21T12:00:00+00:00", key: {"externalId": "g"}}
    assert list(rows_after(writes_of(indexed, json_body(body)))) == [("groups", "g")]


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({"id": 42, "externalId": "prod_789"}, "prod_789"),
        ({"id": 42, "externalId": None}, "42"),
        ({"id": 42}, "42"),
        ({"id": None, "externalId": 7}, "7"),
    ],
)
def test_the_external_id_identifies_the_entity_or_else_its_id(members, found):
    assert indexed.read(json_body(SAMPLE | {"product": members})).entity == ("product", found)


def test_the_family_app_shares_its_key_with_the_context():
    assert indexed.read(json_body(SAMPLE | {"event": "app.updated"})).entity == ("app", "app_456")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"event": None}, "event"),
        ({"event": ""}, "event type is empty"),
        ({"timestamp": None, "revision": None}, "Neither"),
        ({"product": None}, "has no externalId"),
        ({"product": {}}, "has no externalId"),
        ({"product": []}, "has no externalId"),
        ({"product": {"externalId": 1.5}}, "not a valid id"),
        ({"product": {"externalId": False}}, "not a valid id"),
    ],
)
def test_a_body_without_a_required_part_is_unreadable_with_the_reason(change, reason):
    with pytest.raises(Unreadable, match=reason):
        indexed.read(json_body(SAMPLE | change))


@pytest.mark.parametrize("event", ["inventory.change", "ping", "product.archived"])
def test_an_event_type_without_a_handler_needs_no_entity(event):
    body = {name: value for name, value in SAMPLE.items() if name != "product"}
    assert indexed.read(json_body(body | {"event": event})).entity is None


@given(body=st.binary(max_size=200))
def test_any_bytes_are_read_or_unreadable(body):
    with pytest.raises(Unreadable):
        indexed.read(body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"null", "not what the dialect expects"),
        (b'{"product":' * 10_000, "nested too deeply"),
        (b'{"event":"product.updated\xff"}', "UTF-8"),
    ],
)
def test_unreadable_bodies_have_their_reason(body, reason):
    with pytest.raises(Unreadable, match=reason):
        indexed.read(body)


def test_a_huge_number_a_nul_and_a_repeated_member_break_nothing():
    text = json.dumps(product(name="\0"))[:-1] + ', "n": ' + "9" * 400 + ', "event": "product.created"}'
    envelope = indexed.read(text.encode())
    assert envelope.event_type == "product.created"
    assert envelope.identity(text.encode())[0].endswith("-" + envelope.identity(text.encode())[1].hex())


def test_a_missing_member_is_not_news():
    assert columns_of(indexed, product(name="Lamp")).keys() & {"name", "sku", "price", "parent"} == {"name"}


def test_partial_news_leaves_the_same_row_in_either_order():
    first = product(name="Lamp", color="red")
    second = product(sku="L-1", color="blue") | {"revision": {"timestamp": "2026-04-21T12:00:30+00:00"}}
    writes = [writes_of(indexed, json_body(body), arrival=number) for number, body in enumerate([first, second])]
    (row,) = rows_after(writes[0] + writes[1]).values()
    assert (row["name"], row["sku"], row["data"]["color"]) == ("Lamp", "L-1", "blue")
    assert rows_after(writes[1] + writes[0]) == rows_after(writes[0] + writes[1])


@pytest.mark.parametrize(
    ("members", "column", "value"),
    [
        ({"name": "Lamp", "title": "A lamp"}, "name", "Lamp"),
        ({"title": "A lamp"}, "name", "A lamp"),
        ({"name": None}, "name", None),
        ({"name": ["x"]}, "name", None),
        ({"sku": 4711}, "sku", "4711"),
        ({"price": "10.0000"}, "price", Decimal("10.0000")),
        ({"price": 12.50}, "price", Decimal("12.5")),
        ({"price": "on request"}, "price", None),
        ({"currency": "EUR"}, "currency", "EUR"),
        ({"currency": None}, "currency", None),
        ({"status": "active"}, "lifecycle_state", "active"),
        ({"category": {"id": 5, "externalId": "cat_5"}}, "parent", "cat_5"),
        ({"category": {"id": 5}}, "parent", "5"),
        ({"category": None}, "parent", None),
    ],
)
def test_members_become_columns(members, column, value):
    assert columns_of(indexed, product(**members))[column] == value


@pytest.mark.parametrize("price", ["on request", "", [], {"amount": 1}, True, "1e9999"])
def test_a_price_that_cannot_be_read_replaces_the_old_one_and_stays_in_data(price):
    writes = [*writes_of(indexed, json_body(product(price="10.00")), arrival=1)]
    writes += writes_of(indexed, json_body(product(price=price)), arrival=2)
    (row,) = rows_after(writes).values()
    assert (row["price"], row["data"]["price"]) == (None, price)


@pytest.mark.parametrize(
    ("members", "column"),
    [
        ({"currency": {"id": 1}}, "currency"),
        ({"status": 3}, "lifecycle_state"),
        ({"category": 5}, "parent"),
        ({"category": {}}, "parent"),
        ({"parent": {"externalId": "p"}}, "parent"),
    ],
)
def test_members_with_another_meaning_say_nothing_about_the_column(members, column):
    row = columns_of(indexed, product(**members))
    assert column not in row
    assert row["data"].items() >= members.items()


def test_a_delete_without_the_numeric_id_deactivates_by_the_external_id():
    deleted = fixture("indexed", "product.deleted")
    assert not columns_of(indexed, deleted)["active"]


@pytest.mark.parametrize("verb", ["create", "update", "delete"])
def test_the_other_spelling_of_the_verbs_is_handled(verb):
    """The picture of the configuration in the Indexed docs says `product.update`."""
    assert columns_of(indexed, SAMPLE | {"event": f"product.{verb}"})["active"] is (verb != "delete")


def test_records_of_two_kinds_with_the_same_id_are_two_rows():
    other = {**UNIT, "event": "brand.updated", "brand": UNIT["unit"]}
    rows = rows_after([*writes_of(indexed, json_body(UNIT)), *writes_of(indexed, json_body(other))])
    assert {row["kind"] for row in rows.values()} == {"unit", "brand"}
    assert len(rows) == 2


@pytest.mark.parametrize(
    "event_type", ["product.updated", "productGroup.created", "payment_term.deleted", "app.updated"]
)
def test_a_composed_body_reads_as_its_parts(event_type):
    at = datetime(2026, 4, 21, 12, tzinfo=UTC)
    envelope = indexed.read(indexed.write(event_type, "x_1", at=at, data={"name": "n", "externalId": "other"}))
    assert (envelope.event_type, envelope.entity, envelope.occurred_at) == (
        event_type,
        (kind_of(event_type), "x_1"),
        at,
    )


# the hint about the secret to try first


@given(body=st.binary(max_size=300))
def test_the_hint_never_raises_an_error(body):
    assert webhook_of(body) is None or isinstance(webhook_of(body), str)


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (json_body(SAMPLE), "web_abc"),
        (b"{}", None),
        (b"[]", None),
        (b'{"webhook": 5}', None),
        (b'{"webhook": {}}', None),
        (b'{"webhook": {"external_id": 5}}', None),
        (b'{"webhook": {"external_id": "\xff"}}', None),
        (b'{"product":' * 10_000, None),
    ],
)
def test_the_hint_is_the_webhook_named_in_the_body(body, hint):
    assert webhook_of(body) == hint


SECRETS = Credentials(secrets=(Secret(b"first", "web_first"), Secret(b"second", "web_abc"), Secret(b"third")))


def signed(secret, prefix=b""):
    return [(b"x-webhook-signature", prefix + hmac.new(secret, json_body(SAMPLE), hashlib.sha256).hexdigest().encode())]


@pytest.mark.parametrize("prefix", [b"", b"sha256="])
@pytest.mark.parametrize(("secret", "position"), [(b"first", 0), (b"second", 1), (b"third", 2)])
def test_any_secret_of_the_source_verifies_with_any_hint_and_with_or_without_prefix(secret, position, prefix):
    verified = indexed.verifier.verify(WebhookRequest(json_body(SAMPLE), signed(secret, prefix)), SECRETS)
    assert verified.secret == position


def test_a_hint_in_the_body_does_not_replace_the_signature():
    with pytest.raises(NotVerified) as caught:
        indexed.verifier.verify(WebhookRequest(json_body(SAMPLE), signed(b"guess")), SECRETS)
    assert caught.value.code == "signature_wrong"
