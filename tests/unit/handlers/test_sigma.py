"""Sigma PIM: thin events, the records fetched for them, and the walk through its lists."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest
from collecting import (
    api,
    columns_of,
    event_of,
    fixture,
    fixture_bodies,
    json_body,
    leaves_what_it_must,
    quick_retries,
    rows_after,
    writes_of,
)
from hypothesis import given
from hypothesis import strategies as st
from listings import listed_by

from handlers.catalog import Product, Variant
from handlers.sigma import GONE, EntityRecord, sigma
from receiver import Wanted
from receiver.errors import ApiError, ConfigurationError, NotVerified, Retry, Unreadable
from receiver.settings.settings import SourceSettings
from receiver.verify.request import WebhookRequest
from receiver.verify.verifiers import Credentials, Secret

#: The longest time that a source's API may lag behind, by default.
LAG = timedelta(minutes=1)

UPDATED = fixture("sigma", "entity.updated")
VARIANT = fixture("sigma", "variant.updated")
WINDBREAKER = "ent-coastal-windbreaker"


def everywhere(value):
    return [{"scope": {"dim-language": "seg-da"}, "value": "(da)"}, {"scope": {}, "value": value}]


RECORD = {
    "id": WINDBREAKER,
    "schemaId": "schema-apparel",
    "lifecycleStateId": "state-draft",
    "createdAt": "2026-03-01T00:00:00.000Z",
    "updatedAt": "2026-03-08T10:05:31.500Z",
    "values": {
        "sku": everywhere("CW-1"),
        "name": everywhere("Coastal Windbreaker"),
        "price": everywhere("79.90"),
        "currency": everywhere("EUR"),
    },
}


def record(**values):
    return RECORD | {"values": RECORD["values"] | {alias: everywhere(value) for alias, value in values.items()}}


def read_record(content):
    return EntityRecord.model_validate(json.loads(json.dumps(content), parse_float=Decimal))


@pytest.mark.parametrize("name", fixture_bodies("sigma"))
def test_every_fixture_leaves_the_row_that_it_describes(name):
    leaves_what_it_must(sigma, name)


def test_the_envelope_is_read_from_the_body():
    envelope = sigma.read(json_body(UPDATED))
    assert envelope.event_type == "entity.updated"
    assert envelope.entity == ("entity", WINDBREAKER)
    assert envelope.occurred_at == datetime(2026, 3, 8, 10, 5, 30, tzinfo=UTC)


def test_a_repeated_delivery_is_recognised_by_its_delivery_id():
    """Sigma docs, "Idempotency": each delivery has a unique deliveryId."""
    body = json_body(UPDATED)
    assert sigma.read(body).identity(body)[0] == "del-9f8e7d6c5b4a"


def test_the_same_delivery_id_with_another_body_has_another_fingerprint():
    bodies = [json_body(UPDATED), json_body(UPDATED | {"event": "entity.created"})]
    keys, fingerprints = zip(*(sigma.read(body).identity(body) for body in bodies), strict=True)
    assert keys[0] == keys[1]
    assert fingerprints[0] != fingerprints[1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"event": None}, "event"),
        ({"timestamp": None}, "timestamp"),
        ({"timestamp": 1772964330}, "ISO 8601"),
        ({"timestamp": "1772964330"}, "ISO 8601"),
        ({"timestamp": "2026-03-08T10:05:30"}, "offset"),
        ({"timestamp": "2026-13-08T10:05:30Z"}, "month"),
        ({"data": None}, "has no entityId"),
        ({"data": []}, "has no entityId"),
        ({"data": {"entityId": ""}}, "not a valid id"),
        ({"data": {"entityId": True}}, "not a valid id"),
        ({"data": {"entityId": 1.5}}, "not a valid id"),
        ({"data": {"entityId": "x" * 513}}, "not a valid id"),
        ({"event": "variant.created"}, "has no variantId"),
        ({"deliveryId": {}}, "deliveryId"),
    ],
)
def test_a_body_without_a_required_part_is_unreadable_with_the_reason(change, reason):
    with pytest.raises(Unreadable, match=reason):
        sigma.read(json_body(UPDATED | change))


def test_undocumented_members_are_ignored():
    assert sigma.read(json_body(UPDATED | {"tenant": "t", "data": {"entityId": 7, "more": [1]}})).entity == (
        "entity",
        "7",
    )


def test_a_body_without_a_delivery_id_is_identified_by_its_content():
    body = json_body({name: value for name, value in UPDATED.items() if name != "deliveryId"})
    assert sigma.read(body).identity(body)[0].endswith("-" + hashlib.sha256(body).hexdigest())


def test_an_event_type_without_a_handler_needs_no_id():
    envelope = sigma.read(json_body(UPDATED | {"event": "webhook.tested", "data": None}))
    assert envelope.entity is None
    assert sigma.handler_for(envelope.event_type) is None


@given(body=st.binary(max_size=200))
def test_any_bytes_are_read_or_unreadable(body):
    with pytest.raises(Unreadable):
        sigma.read(body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"[]", "not what the dialect expects"),
        (b'"text"', "not what the dialect expects"),
        (b"[" * 10_000, "nested too deeply"),
        (b'{"data":' * 10_000 + b"1" + b"}" * 10_000, "nested too deeply"),
        (b'{"event":"\xff"}', "UTF-8"),
    ],
)
def test_unreadable_bodies_have_their_reason(body, reason):
    with pytest.raises(Unreadable, match=reason):
        sigma.read(body)


def test_a_huge_number_a_nul_and_a_repeated_member_break_nothing():
    text = json.dumps(UPDATED)[:-1] + ', "n": ' + "9" * 400 + ', "t": "\\u0000", "event": "entity.\\u0000"}'
    assert sigma.read(text.encode()).event_type == "entity.\N{REPLACEMENT CHARACTER}"


def test_the_signature_needs_its_prefix():
    """Sigma docs, "Verifying Signatures": expected is 'sha256=' and the digits."""
    body = json_body(UPDATED)
    digits = hmac.new(b"secret", body, hashlib.sha256).hexdigest().encode()
    credentials = Credentials(secrets=(Secret(b"secret"),))
    assert (
        sigma.verifier.verify(WebhookRequest(body, [(b"x-sigma-signature", b"sha256=" + digits)]), credentials).secret
        == 0
    )
    with pytest.raises(NotVerified, match="64 hexadecimal digits"):
        sigma.verifier.verify(WebhookRequest(body, [(b"x-sigma-signature", digits)]), credentials)


@pytest.mark.parametrize("handler", sorted({pattern.pattern.text for pattern in sigma.handlers}))
def test_a_composed_body_reads_as_its_parts(handler):
    at = datetime(2026, 3, 8, 10, 5, 30, 125_000, tzinfo=UTC)
    envelope = sigma.read(sigma.write(handler, "x-1", at=at, data={"lifecycleState": "draft"}))
    assert (envelope.event_type, envelope.entity, envelope.occurred_at) == (handler, (handler.split(".")[0], "x-1"), at)


def test_a_composed_body_made_twice_is_one_delivery():
    at = datetime(2026, 3, 8, tzinfo=UTC)
    assert sigma.write("entity.deleted", "x", at=at, data=None) == sigma.write("entity.deleted", "x", at=at, data=None)


def test_an_event_without_a_state_says_nothing_about_the_state():
    assert "lifecycle_state" not in columns_of(sigma, UPDATED | {"data": {"entityId": "x"}})


def test_the_fetched_record_fills_the_columns_with_its_own_time():
    row = columns_of(sigma, UPDATED, hydrated=read_record(RECORD))
    assert (row["sku"], row["name"], row["price"], row["currency"]) == (
        "CW-1",
        "Coastal Windbreaker",
        Decimal("79.90"),
        "EUR",
    )
    assert row["changed_at"] == datetime(2026, 3, 8, 10, 5, 31, 500_000, tzinfo=UTC)
    assert row["data"] == RECORD


def test_the_state_of_the_record_has_other_ids_and_is_not_read():
    assert columns_of(sigma, UPDATED, hydrated=read_record(RECORD))["lifecycle_state"] == "published"


def test_a_value_missing_in_the_record_is_removed():
    values = {alias: value for alias, value in RECORD["values"].items() if alias != "price"}
    assert columns_of(sigma, UPDATED, hydrated=read_record(RECORD | {"values": values}))["price"] is None


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ("10.0000", "10.0000"),
        (10, "10"),
        (10.50, "10.5"),
        ({"amount": "9.90", "currency": "USD"}, "9.90"),
        ({"amount": 9}, "9"),
        ("on request", None),
        (None, None),
        (True, None),
        ("NaN", None),
        ("1_000", None),
        ("1e5000", None),
        ([1], None),
    ],
)
def test_a_price_is_read_with_its_digits_or_not_at_all(price, expected):
    found = columns_of(sigma, UPDATED, hydrated=read_record(record(price=price)))["price"]
    assert (None if found is None else str(found)) == expected


def test_a_price_with_its_own_currency_fills_an_empty_currency():
    price = {"amount": "9.90", "currency": "USD"}
    assert columns_of(sigma, UPDATED, hydrated=read_record(record(price=price, currency=None)))["currency"] == "USD"
    assert columns_of(sigma, UPDATED, hydrated=read_record(record(price=price)))["currency"] == "EUR"


def test_a_deleted_entity_is_deactivated_at_the_event_s_time_and_keeps_its_state():
    row = columns_of(sigma, UPDATED, hydrated=GONE, waited=LAG)
    assert (row["active"], row["lifecycle_state"]) == (False, "published")
    assert row["deactivated_at"] == datetime(2026, 3, 8, 10, 5, 30, tzinfo=UTC)


def test_a_deleted_entity_takes_its_variants_with_it():
    deleted = json_body(fixture("sigma", "entity.deleted"))
    rows = rows_after([*writes_of(sigma, json_body(VARIANT), arrival=1), *writes_of(sigma, deleted, arrival=2)])
    assert not rows["variants", VARIANT["data"]["variantId"]]["active"]


def test_a_fetched_variant_belongs_to_its_entity_from_the_event_s_time():
    hydrated = read_record({"id": VARIANT["data"]["variantId"], "entityId": WINDBREAKER, "values": RECORD["values"]})
    row = columns_of(sigma, VARIANT, hydrated=hydrated)
    assert (row["parent"], row["sku"]) == (WINDBREAKER, "CW-1")
    assert row["changed_at"] == datetime(2026, 3, 8, 12, tzinfo=UTC)


def hydrate(body, answer):
    event = event_of(sigma, json_body(body))
    hydrator = sigma.hydrator_for(event.event_type)
    assert hydrator is not None
    with api(sigma, answer, api_url="http://api.test/sigma/api/v1") as client:
        return hydrator.function(event, client)


def says(status, content=None, **headers):
    return lambda request: httpx.Response(status, json=content, headers=headers)


def test_hydrate_asks_for_the_record_with_the_api_key():
    asked = []

    def answer(request):
        asked.append((request.url.raw_path, request.headers["x-sigma-apikey"]))
        return httpx.Response(200, json=RECORD | {"id": "a/b"})

    assert hydrate(UPDATED | {"data": {"entityId": "a/b"}}, answer).id == "a/b"
    assert asked == [(b"/sigma/api/v1/records/a%2Fb", "key")]


def test_hydrate_asks_for_a_variant_under_its_entity():
    found = {"id": VARIANT["data"]["variantId"], "entityId": WINDBREAKER, "values": {}}
    paths = []

    def answer(request):
        paths.append(request.url.path)
        return httpx.Response(200, json=found)

    assert hydrate(VARIANT, answer).entity_id == WINDBREAKER
    assert paths == [f"/sigma/api/v1/records/{WINDBREAKER}/variants/{found['id']}"]


def test_a_variant_that_does_not_name_its_entity_cannot_be_fetched():
    assert hydrate(VARIANT | {"data": {"variantId": "v"}}, says(500)) is None


def test_a_record_that_the_api_does_not_know_is_gone():
    assert hydrate(UPDATED, says(404, {"error": "NOT_FOUND", "message": "gone"})) == GONE


@pytest.mark.parametrize("content", [None, "nothing here", {"error": "ROUTE"}, {"error": {"code": "NOT_FOUND"}}])
def test_a_404_in_another_form_says_nothing_about_the_record(content):
    with pytest.raises(ApiError, match="check api_url"):
        hydrate(UPDATED, says(404, content))


@pytest.mark.parametrize(
    ("headers", "after"),
    [
        ({}, None),
        ({"Retry-After": "7"}, timedelta(seconds=7)),
        ({"Retry-After": "9" * 400}, timedelta(days=1)),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_api_is_asked_again_when_it_says(status, headers, after):
    with pytest.raises(Retry) as caught:
        hydrate(UPDATED, says(status, None, **headers))
    assert caught.value.after == after


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError])
def test_an_unreachable_api_is_asked_again(error):
    def answer(request):
        raise error("no")

    with pytest.raises(Retry, match=error.__name__):
        hydrate(UPDATED, answer)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_says_what_to_check(status):
    with pytest.raises(ApiError, match="check api_key"):
        hydrate(UPDATED, says(status, {"error": "UNAUTHORIZED"}))


@pytest.mark.parametrize("content", [{"status": "ok"}, [], None, RECORD | {"id": "another"}, {"id": WINDBREAKER}])
def test_an_answer_of_another_form_changes_nothing(content):
    with pytest.raises(ApiError):
        hydrate(UPDATED, says(200, content))


def test_an_answer_that_is_not_json_changes_nothing():
    with pytest.raises(ApiError, match="something other than JSON: check api_url"):
        hydrate(UPDATED, lambda request: httpx.Response(200, text="{"))
    with pytest.raises(ApiError, match="a page for browsers instead of JSON, such as one to sign in"):
        hydrate(UPDATED, lambda request: httpx.Response(200, html="<html>"))


def test_an_api_url_without_a_key_is_a_configuration_error():
    with pytest.raises(ConfigurationError, match="no api_key"):
        sigma.client(SourceSettings(name="sigma", api_url="http://api.test"))


def paged(records, variants=(), *, most=100):
    """Make an API with these rows, at most `most` on a page."""
    pages = {"/records": list(records), "/variants": list(variants)}

    def answer(request):
        rows = pages[request.url.path]
        offset, limit = int(request.url.params["offset"]), min(int(request.url.params["limit"]), most)
        content = {"items": rows[offset : offset + limit], "total": len(rows), "offset": offset, "limit": limit}
        return httpx.Response(200, json=content)

    return answer


def walk(answer, attempts=1):
    with quick_retries(attempts), api(sigma, answer) as client:
        return list(listed_by(sigma, client))


def test_the_walk_reads_every_page_of_any_size():
    records = [RECORD | {"id": f"e{number}"} for number in range(7)]
    listed = walk(paged(records, [{"id": "v", "entityId": "e1", "values": {}}], most=3))
    assert [row.external_id for row in listed] == [*(f"e{number}" for number in range(7)), "v"]
    assert (listed[0].table, listed[-1].table, listed[-1].columns["parent"]) == (Product, Variant, "e1")


def test_the_walk_gives_the_columns_that_a_hydrated_event_gives():
    (listed,) = walk(paged([RECORD]))
    row = columns_of(sigma, UPDATED, hydrated=read_record(RECORD))
    assert listed.columns == {column: row[column] for column in listed.columns}


def test_an_empty_list_is_complete():
    assert walk(paged([])) == []


def test_a_page_has_the_total_and_the_position_of_the_next_page():
    with api(sigma, paged([RECORD | {"id": f"e{number}"} for number in range(3)], most=2)) as client:
        assert sigma.listing_of is not None
        records = sigma.listing_of.parts[0]
        first = records.read(client, None)
        last = records.read(client, first.next)
    assert [(len(page.rows), page.next, page.total) for page in (first, last)] == [(2, 2, 3), (1, None, 3)]


def test_a_list_that_ends_before_its_total_ends_the_walk():
    with api(sigma, says(200, {"items": [], "total": 9})) as client:
        assert sigma.listing_of.parts[0].read(client, 3).next is None


# ── the lookup ────────────────────────────────────────────────────────────────────────────────────────────────


def ask(answer, wanted):
    with quick_retries(1), api(sigma, answer) as client:
        return sigma.lookup_of.ask(client, wanted)


def test_the_lookup_returns_one_record_with_the_time_of_its_change():
    (row,) = ask(says(200, RECORD), Wanted(Product, RECORD["id"]))
    assert (row.table, row.external_id, row.changed_at) == (Product, RECORD["id"], read_record(RECORD).updated_at)
    assert row.columns == read_record(RECORD).columns()


def test_a_variant_is_looked_up_by_its_record():
    asked = []

    def answer(request):
        asked.append(request.url.path)
        return httpx.Response(200, json={"id": "v", "entityId": "e1", "values": {}})

    (row,) = ask(answer, Wanted(Variant, "v", parent="e1"))
    assert (asked, row.columns["parent"]) == (["/records/e1/variants/v"], "e1")
    with pytest.raises(ApiError, match="by its record, and the mirror has no record"):
        ask(answer, Wanted(Variant, "v"))


def test_only_the_api_s_own_404_means_that_a_record_is_gone():
    assert ask(says(404, {"error": "NOT_FOUND"}), Wanted(Product, "e1")) == []
    with pytest.raises(ApiError, match="answered 404: check api_url"):
        ask(lambda request: httpx.Response(404, text="<html>"), Wanted(Product, "e1"))


def test_the_walk_repeats_a_request_while_the_api_is_busy():
    answers = [httpx.Response(429, headers={"Retry-After": "0"}), httpx.Response(503)]
    calm = paged([RECORD])
    assert len(walk(lambda request: answers.pop() if answers else calm(request), attempts=3)) == 1


def test_the_walk_gives_up_after_a_while():
    with pytest.raises(ApiError, match="Repeated attempts failed"):
        walk(says(503), attempts=2)


@pytest.mark.parametrize("status", [401, 403])
def test_the_walk_does_not_repeat_a_request_with_a_refused_key(status):
    asked = []

    def answer(request):
        asked.append(request)
        return httpx.Response(status)

    with pytest.raises(ApiError, match="check api_key"):
        walk(answer, attempts=3)
    assert len(asked) == 1
