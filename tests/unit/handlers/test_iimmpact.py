"""IIMMPACT: full resources, `data: null` on deletes, the signed API and its catalog."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest
from collecting import (
    api,
    columns_of,
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

from handlers.catalog import Category, Group, Option, Product
from handlers.iimmpact import RESOURCES, iimmpact
from handlers.iimmpact_auth import SignedRequests
from receiver.errors import ApiError, ConfigurationError, NotVerified, Unreadable
from receiver.settings.settings import SourceSettings
from receiver.verify.request import WebhookRequest
from receiver.verify.verifiers import Credentials, Secret

SAMPLE = fixture("iimmpact", "product.updated")
OPTION = fixture("iimmpact", "option.updated")
AT = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)

CATALOG = {
    "last_updated": "2024-01-15T10:30:00.000Z",
    "tree": {
        "groups": [
            {
                "id": "MOBILE",
                "name": "Mobile",
                "icon_url": None,
                "categories": [
                    {"id": "MOBILE_PREPAID", "name": "Mobile Prepaid", "icon_url": None, "product_codes": ["CELCOM10"]}
                ],
            }
        ]
    },
    "products": {
        "CELCOM10": {"code": "CELCOM10", "name": "Celcom Prepaid Reload", "is_active": True, "pricing": None},
        "LOOSE": {"code": "LOOSE", "name": "In no category", "is_active": False},
    },
}


def data(**members):
    return SAMPLE | {"data": members}


def option(**members):
    return OPTION | {"data": members}


@pytest.mark.parametrize("name", fixture_bodies("iimmpact"))
def test_every_fixture_leaves_the_row_that_it_describes(name):
    leaves_what_it_must(iimmpact, name)


def test_the_envelope_is_read_from_the_body():
    envelope = iimmpact.read(json_body(SAMPLE))
    assert (envelope.event_type, envelope.entity, envelope.occurred_at) == (
        "product.updated",
        ("product", "CELCOM10"),
        AT,
    )


def test_a_body_is_identified_by_its_content_because_the_sender_gives_no_id():
    body = json_body(SAMPLE)
    key, fingerprint = iimmpact.read(body).identity(body)
    assert (key, fingerprint) == (
        "1705314600000000-" + hashlib.sha256(body).hexdigest(),
        hashlib.sha256(body).digest(),
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"type": None}, "type"),
        ({"type": 5}, "type"),
        ({"id": None}, "has no id"),
        ({"id": ""}, "not a valid id"),
        ({"id": 1.0}, "not a valid id"),
        ({"id": True}, "not a valid id"),
        ({"timestamp": None}, "timestamp"),
        ({"timestamp": "yesterday"}, "ISO 8601"),
        ({"timestamp": "2024-01-15T10:30:00"}, "offset"),
    ],
)
def test_a_body_without_a_required_part_is_unreadable_with_the_reason(change, reason):
    with pytest.raises(Unreadable, match=reason):
        iimmpact.read(json_body(SAMPLE | change))


def test_an_event_type_without_a_handler_needs_no_id():
    assert iimmpact.read(json_body({"type": "ping", "timestamp": "2024-01-15T10:30:00Z"})).entity is None


@given(body=st.binary(max_size=200))
def test_any_bytes_are_read_or_unreadable(body):
    with pytest.raises(Unreadable):
        iimmpact.read(body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"", "not JSON"), (b"[]", "not what"), (b'{"data":' * 10_000, "nested"), (b'{"id":"\xff"}', "UTF-8")],
)
def test_unreadable_bodies_have_their_reason(body, reason):
    with pytest.raises(Unreadable, match=reason):
        iimmpact.read(body)


def test_a_huge_number_a_nul_and_a_repeated_member_break_nothing():
    text = json.dumps(data(name="\0"))[:-1] + ', "n": ' + "9" * 400 + ', "id": "B\\u0000"}'
    assert list(rows_after(writes_of(iimmpact, text.encode()))) == [("products", "B\N{REPLACEMENT CHARACTER}")]


@pytest.mark.parametrize("kind", RESOURCES)
def test_data_null_is_allowed_in_a_delete_only(kind):
    """IIMMPACT docs, "Delete Events": the data field is null."""
    assert not columns_of(iimmpact, SAMPLE | {"type": f"{kind}.deleted", "data": None})["active"]
    with pytest.raises(Unreadable):
        columns_of(iimmpact, SAMPLE | {"type": f"{kind}.updated", "data": None})


def test_a_deactivated_row_comes_back_with_newer_news():
    deleted = SAMPLE | {"type": "product.deleted", "data": None, "timestamp": "2024-01-15T10:29:59.999Z"}
    writes = writes_of(iimmpact, json_body(SAMPLE), arrival=1) + writes_of(iimmpact, json_body(deleted), arrival=2)
    (row,) = rows_after(writes).values()
    assert row["active"]


def test_a_deactivated_product_takes_its_options_with_it():
    deleted = SAMPLE | {"type": "product.deleted", "data": None, "timestamp": "2025-01-01T00:00:00.000Z"}
    rows = rows_after([*writes_of(iimmpact, json_body(OPTION)), *writes_of(iimmpact, json_body(deleted))])
    assert rows["options", "CELCOM10-40"]["active"]


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({"name": "a", "display_name": "b"}, "b"),
        ({"name": "a"}, "a"),
        ({"name": "a", "display_name": None}, "a"),
        ({"display_name": None}, None),
    ],
)
def test_a_product_has_its_display_name(members, name):
    assert columns_of(iimmpact, data(**members))["name"] == name


@pytest.mark.parametrize(
    ("is_active", "active"),
    [(True, True), (False, False), (None, True), (0, False), (1, True), ("true", True), ("false", False)],
)
def test_a_product_that_is_switched_off_is_inactive_from_the_event_s_time(is_active, active):
    row = columns_of(iimmpact, data(is_active=is_active))
    assert (row["active"], row["deactivated_at"]) == (active, None if active else AT)


def test_a_product_without_a_switch_is_active():
    assert columns_of(iimmpact, data(name="a"))["active"]


def test_a_switch_with_an_unknown_value_is_unreadable():
    with pytest.raises(Unreadable, match="is_active"):
        columns_of(iimmpact, data(is_active="perhaps"))


def test_missing_members_are_not_news():
    assert columns_of(iimmpact, data(name="a")).keys().isdisjoint({"sku", "parent", "price"})


@pytest.mark.parametrize(
    ("members", "price", "currency"),
    [
        ({"price": {"amount": "40.00", "currency": "MYR"}}, "40.00", "MYR"),
        ({"price": {"amount": 40}}, "40", None),
        ({"amount": "40.00", "currency": "MYR"}, "40.00", "MYR"),
        ({"price": "40.00"}, "40.00", None),
        ({"price": {"amount": "free"}}, None, None),
        ({"price": {"amount": None, "currency": None}}, None, None),
    ],
)
def test_an_option_has_the_price_it_is_sent_with(members, price, currency):
    row = columns_of(iimmpact, option(**members))
    assert row["price"] == (None if price is None else Decimal(price))
    assert row.get("currency") == currency


def test_an_option_without_a_price_says_nothing_about_its_price():
    assert columns_of(iimmpact, option(label="RM 40")).keys().isdisjoint({"price", "currency", "parent"})


def test_an_option_is_named_by_its_label():
    assert columns_of(iimmpact, option(label="RM 40", name="x"))["name"] == "RM 40"
    assert columns_of(iimmpact, option(name="x"))["name"] == "x"


@pytest.mark.parametrize("event_type", sorted({handler.pattern.text for handler in iimmpact.handlers}))
def test_a_composed_body_reads_as_its_parts(event_type):
    body = iimmpact.write(event_type, "X1", at=AT, data=None)
    envelope = iimmpact.read(body)
    assert (envelope.event_type, envelope.entity, envelope.occurred_at) == (
        event_type,
        (event_type.split(".")[0], "X1"),
        AT,
    )
    assert json.loads(body)["resource"] == RESOURCES[event_type.split(".")[0]]


def test_the_signature_needs_its_prefix():
    """IIMMPACT docs, "Request Headers": `sha256=<hex>`."""
    body = json_body(SAMPLE)
    digits = hmac.new(b"secret", body, hashlib.sha256).hexdigest().encode()
    credentials = Credentials(secrets=(Secret(b"secret"),))
    assert (
        iimmpact.verifier.verify(
            WebhookRequest(body, [(b"x-webhook-signature", b"sha256=" + digits)]), credentials
        ).secret
        == 0
    )
    with pytest.raises(NotVerified, match="64 hexadecimal digits"):
        iimmpact.verifier.verify(WebhookRequest(body, [(b"x-webhook-signature", digits)]), credentials)


# the API


def walk(answer, attempts=1):
    with quick_retries(attempts), api(iimmpact, answer) as client:
        return list(listed_by(iimmpact, client))


def serves(content, status=200):
    return lambda request: httpx.Response(status, json=content)


def test_the_walk_reads_groups_categories_and_products_from_one_answer():
    asked = []

    def answer(request):
        asked.append(request.url.path)
        return httpx.Response(200, json=CATALOG)

    found = {(row.table, row.external_id): (row.columns, row.active) for row in walk(answer)}
    assert asked == ["/v2/catalog"]
    assert found == {
        (Group, "MOBILE"): ({"name": "Mobile"}, True),
        (Category, "MOBILE_PREPAID"): ({"name": "Mobile Prepaid", "parent": "MOBILE"}, True),
        (Product, "CELCOM10"): (
            {"name": "Celcom Prepaid Reload", "sku": "CELCOM10", "parent": "MOBILE_PREPAID"},
            True,
        ),
        (Product, "LOOSE"): ({"name": "In no category", "sku": "LOOSE"}, False),
    }


def test_the_walk_gives_the_columns_that_an_event_gives():
    row = columns_of(iimmpact, SAMPLE)
    listed = next(each for each in walk(serves(CATALOG)) if each.external_id == "CELCOM10")
    assert dict(listed.columns) == {column: row[column] for column in listed.columns}


def test_options_have_no_complete_list_so_none_is_deactivated_by_absence():
    assert iimmpact.listing_of is not None
    assert Option not in iimmpact.listing_of.tables


@pytest.mark.parametrize("content", [[], {}, {"tree": {"groups": []}}, CATALOG | {"products": []}])
def test_an_answer_of_another_form_is_an_api_error(content):
    with pytest.raises(ApiError, match="undocumented shape"):
        walk(serves(content))


def test_the_walk_waits_for_the_end_of_the_rate_limit():
    answers = [httpx.Response(429, headers={"Retry-After": "1"})]
    assert walk(lambda request: answers.pop() if answers else httpx.Response(200, json=CATALOG), attempts=2)


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "check api_key"), (404, "check api_url"), (500, "Repeated attempts"), (400, "400")]
)
def test_an_api_that_does_not_answer_is_an_api_error_with_advice(status, advice):
    with pytest.raises(ApiError, match=advice):
        walk(serves({"error": {"code": "X"}}, status))


def signature_of(request, secret):
    body = b64encode(hashlib.sha256(request.content).digest()).decode()
    parts = ["v1", request.headers["x-timestamp"], request.headers["x-nonce"], request.method]
    text = ":".join([*parts, request.url.query.decode(), body])
    return "v1=" + b64encode(hmac.new(b64decode(secret), text.encode(), hashlib.sha256).digest()).decode()


@pytest.mark.parametrize("query", ["", "?product_code=A%20B&page=2"])
def test_requests_are_signed_over_time_nonce_method_query_and_body(query):
    request = httpx.Request("GET", f"http://api.test/v2/options{query}")
    auth = SignedRequests("key", "c2VjcmV0", now=lambda: 1705314600.9, nonce=lambda: "n" * 16)
    signed = next(auth.auth_flow(request))
    assert (signed.headers["x-api-key"], signed.headers["x-timestamp"], signed.headers["x-nonce"]) == (
        "key",
        "1705314600",
        "n" * 16,
    )
    assert signed.headers["x-signature"] == signature_of(signed, "c2VjcmV0")


def test_the_client_signs_with_a_new_nonce_of_the_allowed_length_each_time():
    nonces = []

    def answer(request):
        assert request.headers["x-signature"] == signature_of(request, "c2VjcmV0")
        nonces.append(request.headers["x-nonce"])
        return httpx.Response(200, json=CATALOG)

    walk(answer)
    walk(answer)
    assert len(set(nonces)) == 2
    assert all(16 <= len(nonce) <= 128 for nonce in nonces)


@pytest.mark.parametrize(
    "wrong", [{"api_key": None}, {"api_secret": None}, {"api_secret": "not base64!"}, {"api_secret": "é"}]
)
def test_wrong_api_settings_are_configuration_errors(wrong):
    settings = {"name": "iimmpact", "api_url": "http://api.test", "api_key": "k", "api_secret": "c2VjcmV0", **wrong}
    with pytest.raises(ConfigurationError, match="api_"):
        iimmpact.client(SourceSettings(**settings))
