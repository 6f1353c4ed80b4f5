"""Akeneo: thin events of the Event Platform, full events in bundles of the Events API, and the API."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from hmac import new as hmac

import httpx
import pytest
from collecting import api
from listings import listed_by
from vendor_bodies import says_why

from handlers.catalog import Group, Product
from receiver import Wanted
from receiver.errors import ApiError
from receiver.reconcile import reconcile
from receiver.testing import TEST_SECRET
from vendors.akeneo import PLATFORM, akeneo, akeneo_events

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
CREATED, UPDATED = f"{PLATFORM}product.created", f"{PLATFORM}product.updated"


def hook(**parts):
    return {"id": "e1", "type": UPDATED, "time": "2026-06-01T12:00:00Z", "data": {"product": {"uuid": "u1"}}} | parts


def event(**parts):
    resource = {"uuid": "u1", "identifier": "lamp"}
    own = {"action": "product.updated", "event_id": "e1", "event_datetime": "2026-06-01T12:00:00+00:00"}
    return {**own, "data": {"resource": resource}} | parts


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"[]", "dict"),
        ({}, "`type` is missing"),
        (hook(id=None), "`id` is missing or not text"),
        (hook(time="2026-06-01T12:00:00"), "needs its offset"),
        (hook(data={"product": {}}), "has no uuid"),
        (hook(data=["product"]), "has no uuid"),
        (hook(type=f"{PLATFORM}product-model.updated"), "has no code"),
    ],
)
def test_an_unreadable_body_of_the_platform_has_its_reason(body, says):
    says_why(akeneo, body, says)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "`events` is missing or not a list"),
        ({"events": {}}, "`events` is missing or not a list"),
        ({"events": [7]}, "dict"),
        ({"events": [event(action=None)]}, "`action` is missing"),
        ({"events": [event(event_id=1)]}, "`event_id` is missing or not text"),
        ({"events": [event(event_datetime="2026-06-01T12:00:00")]}, "needs its offset"),
        ({"events": [event(data=None)]}, "has no uuid or identifier"),
    ],
)
def test_an_unreadable_body_of_the_events_api_has_its_reason(body, says):
    says_why(akeneo_events, body, says)


def test_one_unreadable_event_is_dead_alone(webhooks):
    events = [event(), event(event_id="e2", event_datetime="yesterday"), event(event_id="e3", data={"resource": {}})]
    answer = webhooks.send_body("akeneo-events", json.dumps({"events": events}).encode())
    webhooks.drain()
    states = [webhooks.delivery(each["delivery"])["state"] for each in answer.body["deliveries"]]
    assert states == ["processed", "dead", "dead"]
    assert webhooks.row(Product, "u1").sku == "lamp"


def test_an_event_in_another_body_is_a_duplicate(webhooks):
    webhooks.send_body("akeneo-events", json.dumps({"events": [event()]}).encode())
    again = webhooks.send_body("akeneo-events", json.dumps({"events": [event(), event(event_id="e2")]}).encode())
    assert [each["status"] for each in again.body["deliveries"]] == ["duplicate", "accepted"]


def test_a_product_older_than_uuids_is_identified_by_its_identifier(webhooks):
    body = {"events": [event(data={"resource": {"identifier": "lamp"}})]}
    webhooks.send_body("akeneo-events", json.dumps(body).encode())
    webhooks.drain()
    assert webhooks.row(Product, "lamp").active


def test_either_of_two_signature_headers_may_verify(webhooks):
    webhooks.source("akeneo")
    body = json.dumps(hook()).encode()
    right = hmac(TEST_SECRET.encode(), body, sha256).hexdigest()
    headers = {"X-AKENEO-SIGNATURE-PRIMARY": "0" * 64, "X-AKENEO-SIGNATURE-SECONDARY": right}
    assert webhooks.post("akeneo", body, headers).status == 200


def test_news_about_the_subscription_itself_are_ignored(webhooks):
    body = {"notification_type": "subscription.suspended.system", "timestamp": "2026-06-01T12:00:00Z", "events": []}
    answer = webhooks.send_body("akeneo", json.dumps(body).encode())
    webhooks.drain()
    delivery = webhooks.delivery(answer)
    assert (delivery["state"], delivery["event_type"]) == ("ignored", "subscription.suspended.system")


def test_without_an_api_a_thin_event_only_says_that_the_entity_exists(webhooks):
    webhooks.send("akeneo", CREATED, id="u1", at=NOON)
    webhooks.drain()
    assert (webhooks.row(Product, "u1").active, webhooks.row(Product, "u1").sku) == (True, None)


# ── the API ───────────────────────────────────────────────────────────────────────────────────────────────────

LAMP = {"sku": [{"data": "lamp", "locale": None, "scope": None, "attribute_type": "pim_catalog_identifier"}]}
PRODUCT = {"uuid": "u1", "values": LAMP, "parent": "m1", "enabled": False, "updated": "2026-06-01T13:00:00+00:00"}
MODEL = {"code": "m1", "parent": None, "updated": "2026-06-01T13:00:00+00:00", "values": {}}


def pim(request: httpx.Request) -> httpx.Response:
    """Make a PIM with one product on the second page of its list, and one model."""
    assert request.headers["Authorization"] == "Bearer key"
    path = request.url.path.removeprefix("/v1")
    if path == "/products-uuid" and "search_after" not in request.url.params:
        href = f"{request.url.copy_merge_params({'search_after': 'u0'})}"
        return httpx.Response(200, json={"_embedded": {"items": []}, "_links": {"next": {"href": href}}})
    if path in ("/products-uuid", "/product-models"):
        rows = [PRODUCT] if path == "/products-uuid" else [MODEL]
        return httpx.Response(200, json={"_embedded": {"items": rows}, "_links": {}})
    found = {"/products-uuid/u1": PRODUCT, "/product-models/m1": MODEL}.get(path)
    said = f'"{path}" does not exist or you do not have permission to access it.'
    return httpx.Response(200, json=found) if found else httpx.Response(404, json={"code": 404, "message": said})


def of_type(name, data="lamp"):
    return [{"data": data, "locale": None, "scope": None, "attribute_type": f"pim_catalog_{name}"}]


@pytest.mark.parametrize(
    ("values", "sku"),
    [
        ({"name": of_type("text"), "ean": of_type("identifier", "4006"), "sku": of_type("identifier")}, "lamp"),
        ({"name": of_type("text"), "ean": of_type("identifier", "4006")}, "4006"),
        ({"sku": [{"data": "lamp", "locale": None, "scope": None}]}, "lamp"),
        ({"sku": of_type("text"), "ean": of_type("identifier", "4006")}, "4006"),
        ({"sku": of_type("identifier", None)}, None),
        ({"sku": [], "name": "x"}, None),
        ({}, None),
    ],
)
def test_the_sku_of_a_product_of_the_api_is_its_identifier_among_the_values(webhooks, with_api, values, sku):
    product = PRODUCT | {"values": values}
    with_api("akeneo", lambda _: httpx.Response(200, json=product))
    webhooks.send("akeneo", UPDATED, id="u1", at=NOON)
    webhooks.drain()
    assert webhooks.row(Product, "u1").sku == sku


def test_a_thin_event_leaves_the_api_s_present_values(webhooks, with_api):
    with_api("akeneo", pim)
    webhooks.send("akeneo", UPDATED, id="u1", at=NOON)
    webhooks.send("akeneo", UPDATED, id="u2", at=NOON)
    webhooks.send("akeneo", f"{PLATFORM}product-model.updated", id="m1", at=NOON)
    webhooks.drain()
    webhooks.advance(seconds=61)
    webhooks.drain()
    row = webhooks.row(Product, "u1")
    assert (row.sku, row.parent, row.lifecycle_state, row.changed_at) == ("lamp", "m1", "disabled", NOON + HOUR)
    assert not webhooks.row(Product, "u2").active
    assert webhooks.row(Group, "m1").sku == "m1"


@pytest.mark.parametrize(("kind", "table", "row_id"), [("product", Product, "u1"), ("product-model", Group, "m1")])
def test_an_event_with_the_changed_values_alone_leaves_the_api_s_present_values(
    webhooks, with_api, kind, table, row_id
):
    with_api("akeneo", pim)
    webhooks.send("akeneo", f"{PLATFORM}{kind}.updated.delta", id=row_id, at=NOON)
    webhooks.drain()
    assert (webhooks.row(table, row_id).active, webhooks.row(table, row_id).changed_at) == (True, NOON + HOUR)


def test_a_created_product_that_the_api_does_not_know_yet_is_asked_for_again(webhooks, with_api):
    known = []
    unknown = {"code": 404, "message": 'Product "u1" does not exist.'}
    with_api("akeneo", lambda asked: pim(asked) if known else httpx.Response(404, json=unknown))
    answer = webhooks.send("akeneo", CREATED, id="u1", at=NOON)
    webhooks.drain()
    assert "does not have the object yet" in webhooks.delivery(answer)["reason"]
    assert webhooks.rows(Product) == []
    known.append(True)
    webhooks.advance(seconds=6)
    webhooks.drain()
    assert (webhooks.row(Product, "u1").active, webhooks.row(Product, "u1").sku) == (True, "lamp")


def test_an_answer_that_lacks_the_event_s_change_is_asked_for_again(webhooks, with_api):
    old = {**MODEL, "updated": "2026-06-01T11:00:00+00:00"}
    answers = iter([old, old, {**MODEL, "parent": "m0", "updated": "2026-06-01T12:00:00+00:00"}])
    with_api("akeneo", lambda _: httpx.Response(200, json=next(answers)))
    webhooks.send("akeneo", f"{PLATFORM}product-model.created", id="m1", at=NOON - HOUR)
    webhooks.drain()
    answer = webhooks.send("akeneo", f"{PLATFORM}product-model.updated", id="m1", at=NOON)
    webhooks.drain()
    assert "still has the object as the mirror has it" in webhooks.delivery(answer)["reason"]
    webhooks.advance(seconds=6)
    webhooks.drain()
    assert webhooks.row(Group, "m1").parent == "m0"


def test_a_404_of_another_kind_says_nothing(webhooks, with_api):
    with_api("akeneo", lambda _: httpx.Response(404, json={"code": 404, "message": "No route found"}))
    answer = webhooks.send("akeneo", UPDATED, id="u1", at=NOON)
    webhooks.drain()
    assert "check api_url" in webhooks.delivery(answer)["reason"]
    assert webhooks.rows(Product) == []


@pytest.mark.parametrize("dialect", [akeneo, akeneo_events], ids=lambda dialect: dialect.name)
def test_every_row_of_the_lists_can_be_looked_up_by_its_id(dialect):
    client = api(dialect, pim, api_url="http://api.test/v1")
    rows = list(listed_by(dialect, client))
    assert [row.external_id for row in rows] == ["u1", "m1"]
    for row in rows:
        assert dialect.lookup_of.ask(client, Wanted(row.table, row.external_id)) == [row]
    assert dialect.lookup_of.ask(client, Wanted(Product, "u2")) == []


@pytest.mark.parametrize("wanted", [Wanted(Product, "u2"), Wanted(Group, "M1")], ids=["product", "model"])
def test_only_the_product_or_model_of_the_wanted_id_counts(wanted):
    answer = PRODUCT if wanted.table is Product else MODEL
    client = api(akeneo, lambda _: httpx.Response(200, json=answer), api_url="http://api.test/v1")
    with pytest.raises(ApiError, match="the object of another id"):
        akeneo.lookup_of.ask(client, wanted)


def test_reconcile_adds_rows_that_were_never_announced(webhooks, with_api):
    reconcile(webhooks.database, with_api("akeneo", pim))
    assert (webhooks.row(Product, "u1").parent, webhooks.row(Group, "m1").active) == ("m1", True)


@pytest.mark.parametrize("answer", [{}, [], {"_embedded": {"items": None}}])
def test_an_answer_that_is_not_a_page_ends_the_walk(answer):
    part = akeneo.listing_of.parts[0]
    with pytest.raises(ApiError, match="undocumented shape"):
        part.read(api(akeneo, lambda _: httpx.Response(200, json=answer)), None)
