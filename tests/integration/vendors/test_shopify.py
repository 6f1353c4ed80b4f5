"""Shopify: bodies recognised by their form alone, deletes without a time, and the Admin API."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest
from collecting import api, json_body, quick_retries, rows_after, writes_of
from listings import listed_by

from handlers.catalog import Product, Variant
from receiver import Wanted
from receiver.errors import ApiError, Retry, Unreadable
from receiver.reconcile import reconcile
from vendors import shopify_api
from vendors.shopify import shopify
from vendors.tables import StockLevel

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SHIRT = {"title": "Shirt", "status": "active", "variants": [{"id": 11, "title": "S", "sku": "S-1", "price": "19.90"}]}


def sent(webhooks, body) -> dict:
    """Send this body, work on it, and return its delivery."""
    answer = webhooks.send_body("shopify", body if isinstance(body, bytes) else json.dumps(body).encode())
    assert answer.status == 200, answer.body
    webhooks.drain()
    return webhooks.delivery(answer)


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_late_update_does_not_undo_a_newer_one(webhooks):
    webhooks.send("shopify", "products/update", id="7", at=NOON, data={**SHIRT, "title": "New"})
    webhooks.send("shopify", "products/update", id="7", at=NOON - HOUR, data=SHIRT)
    webhooks.drain()
    assert webhooks.row(Product, "7").name == "New"


def test_a_delete_counts_at_its_arrival_and_includes_the_variants(webhooks):
    webhooks.send("shopify", "products/update", id="7", at=NOON, data=SHIRT)
    webhooks.send("shopify", "products/delete", id="7")
    webhooks.drain()
    row = webhooks.row(Product, "7")
    assert not row.active
    assert row.deactivated_at is not None
    assert row.deactivated_at > NOON
    assert not webhooks.row(Variant, "11").active


def test_a_variant_that_the_product_no_longer_has_is_deactivated(webhooks):
    two = [*SHIRT["variants"], {"id": 12, "title": "M", "price": "21"}]
    webhooks.send("shopify", "products/update", id="7", at=NOON - HOUR, data={**SHIRT, "variants": two})
    webhooks.send("shopify", "products/update", id="7", at=NOON, data=SHIRT)
    webhooks.drain()
    assert [(row.external_id, row.active) for row in webhooks.rows(Variant)] == [("11", True), ("12", False)]


@pytest.mark.parametrize(("listed", "is_active"), [(99, False), (100, True)])
def test_a_full_list_of_variants_without_the_list_of_all_deactivates_none(webhooks, listed, is_active):
    webhooks.send("shopify", "products/update", id="7", at=NOON - HOUR, data=SHIRT)
    others = [{"id": 1000 + number, "title": "M"} for number in range(listed)]
    webhooks.send("shopify", "products/update", id="7", at=NOON, data={**SHIRT, "variants": others})
    webhooks.drain()
    assert webhooks.row(Variant, "11").active is is_active


def test_a_subscription_without_variants_says_nothing_about_them(webhooks):
    webhooks.send("shopify", "products/update", id="7", at=NOON - HOUR, data=SHIRT)
    webhooks.send("shopify", "products/update", id="7", at=NOON, data={"title": "Shirt 2"})
    webhooks.drain()
    assert webhooks.row(Variant, "11").active
    assert (webhooks.row(Product, "7").name, webhooks.row(Product, "7").lifecycle_state) == ("Shirt 2", "active")


def test_stock_may_be_below_zero(webhooks):
    webhooks.send("shopify", "inventory_levels/update", id="5:6", at=NOON, data={"available": -2})
    webhooks.drain()
    assert webhooks.row(StockLevel, "5:6").available == Decimal(-2)


def test_stock_that_is_not_tracked_is_null(webhooks):
    webhooks.send("shopify", "inventory_levels/update", id="5:6", at=NOON)
    webhooks.drain()
    assert webhooks.row(StockLevel, "5:6").available is None


def test_an_unsigned_topic_decides_nothing(webhooks):
    body = json.dumps({**shopify_body("7"), **SHIRT}).encode()
    webhooks.send_body("shopify", body, headers={"X-Shopify-Topic": "products/delete"})
    webhooks.drain()
    assert webhooks.row(Product, "7").active


def shopify_body(product_id: str, **more) -> dict:
    gid = f"gid://shopify/Product/{product_id}"
    return {"admin_graphql_api_id": gid, "id": int(product_id), "updated_at": "2026-06-01T12:00:00Z", **more}


# ── unreadable bodies ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"[]", "dict"),
        (b"{}", "does not name its object"),
        (b'{"id": null}', "has no id"),
        (b'{"id": true}', "is not a valid id"),
        (b'{"id": 1.5}', "is not a valid id"),
        (b'{"id": ""}', "is not a valid id"),
        ({"id": 7, "title": "Shirt"}, "`updated_at` is not the time of a change"),
        ({"id": 7, "title": "Shirt", "updated_at": "2026-06-01T12:00:00"}, "needs its offset"),
        ({"id": 7, "title": "Shirt", "updated_at": 1780000000}, "ISO 8601"),
        ({"title": "Shirt", "updated_at": "2026-06-01T12:00:00Z"}, "has no id"),
        (shopify_body("7", variants="none"), "variants"),
        (shopify_body("7", variants=[{"title": "no id"}]), "variants.0.id"),
        (shopify_body("7", variants=[], variant_gids=[{"admin_graphql_api_id": "gid://x/y"}]), "variant_gids.0"),
        ({"inventory_item_id": 5, "location_id": None}, "location_id"),
        (b"not json", "not JSON"),
    ],
)
def test_an_unreadable_body_has_its_reason(body, says):
    with pytest.raises(Unreadable, match=re.escape(says)):
        writes_of(shopify, json_body(body))


def test_an_unreadable_body_is_dead_with_its_reason(webhooks):
    delivery = sent(webhooks, b'{"id": 7, "title": "Shirt"}')
    assert delivery["state"] == "dead"
    assert "`updated_at` is not the time of a change" in delivery["reason"]


@pytest.mark.parametrize("missing", ["inventory_item_id", "location_id"])
def test_a_stock_level_without_its_item_or_location_is_dead_and_not_ignored(webhooks, missing):
    level = {"inventory_item_id": 5, "location_id": 6, "available": 7, "updated_at": "2026-06-01T12:00:00Z"}
    gid = {"admin_graphql_api_id": "gid://shopify/InventoryLevel/6?inventory_item_id=5"}
    delivery = sent(webhooks, {name: value for name, value in (level | gid).items() if name != missing})
    assert delivery["state"] == "dead"
    assert "include `inventory_item_id` and `location_id`" in delivery["reason"]


def test_ids_above_two_to_the_53_keep_every_digit(webhooks):
    sent(webhooks, b'{"id": 9007199254740993}')
    assert [row.external_id for row in webhooks.rows(Product)] == ["9007199254740993"]


@pytest.mark.parametrize(("price", "kept"), [(19.90, "19.9"), ("19.90", "19.90"), ("on request", None), ([1], None)])
def test_a_price_is_exact_as_number_or_text_and_otherwise_null(price, kept):
    body = shopify_body("7", title="Shirt", variants=[{"id": 11, "price": price}])
    row = rows_after(writes_of(shopify, json_body(body)))["variants", "11"]
    assert row["price"] == (None if kept is None else Decimal(kept))


def test_another_resource_is_ignored(webhooks):
    body = {"admin_graphql_api_id": "gid://shopify/Order/1", "id": 1, "updated_at": "2026-06-01T12:00:00Z"}
    assert sent(webhooks, body)["state"] == "ignored"


def test_a_large_product_is_read_whole(webhooks):
    variants = [{"id": number, "title": "x" * 200, "price": "1.00"} for number in range(1, 1001)]
    assert sent(webhooks, shopify_body("7", title="Shirt", variants=variants))["state"] == "processed"
    assert len(webhooks.rows(Variant)) == 1000


def test_a_body_above_the_limit_is_refused(webhooks):
    webhooks.source("shopify")
    assert webhooks.post("shopify", b" " * (1024 * 1024 + 1)).status == 413


def test_a_wrong_signature_is_refused(webhooks):
    webhooks.source("shopify")
    answer = webhooks.post(
        "shopify", b'{"id": 7}', {"X-Shopify-Hmac-Sha256": "B23tXN681gZ0qIWNRrgtzBE9XSDo5yaUu6wfmhu3a7g="}
    )
    assert (answer.status, answer.body["error"]) == (401, "signature_wrong")


# ── the Admin API ─────────────────────────────────────────────────────────────────────────────────────────────

PRODUCT = {"legacyResourceId": "7", "title": "Shirt", "status": "DRAFT", "updatedAt": "2026-06-01T12:00:00Z"}
VARIANT = {"legacyResourceId": "11", "title": "S", "sku": "S-1", "price": "19.90", "product": {"legacyResourceId": "7"}}
LEVEL = {
    "updatedAt": "2026-06-01T12:00:00Z",
    "location": {"legacyResourceId": "6"},
    "quantities": [{"name": "available", "quantity": 3}],
}
END = {"hasNextPage": False, "endCursor": None}


def one_page(request: httpx.Request) -> httpx.Response:
    """Make a shop with one product that has one variant at one location."""
    query, variables = asked(request)
    if "found: product(" in query:
        return data(found=PRODUCT if variables["id"].endswith("/7") else None)
    if "found: productVariant(" in query:
        return data(found=VARIANT if variables["id"].endswith("/11") else None)
    if "found: inventoryItem(" in query:
        is_there = variables == {"item": "gid://shopify/InventoryItem/5", "location": "gid://shopify/Location/6"}
        return data(found={"inventoryLevel": LEVEL if is_there else None})
    if "products(" in query:
        return data(products={"nodes": [PRODUCT], "pageInfo": END})
    if "productVariants(" in query:
        return data(productVariants={"nodes": [VARIANT], "pageInfo": END})
    item = {"legacyResourceId": "5", "inventoryLevels": {"nodes": [LEVEL], "pageInfo": {"hasNextPage": False}}}
    return data(inventoryItems={"nodes": [item], "pageInfo": END})


def asked(request: httpx.Request) -> tuple[str, dict]:
    assert (request.method, request.url.path) == ("POST", "/v1/graphql.json")
    assert request.headers["X-Shopify-Access-Token"] == "key"
    question = json.loads(request.content)
    return question["query"], question["variables"]


def data(**found) -> httpx.Response:
    return httpx.Response(200, json={"data": found})


def test_a_delete_that_the_api_confirms_counts(webhooks, with_api):
    with_api("shopify", one_page)
    webhooks.send("shopify", "products/delete", id="8")
    webhooks.drain()
    assert not webhooks.row(Product, "8").active


def test_a_delete_of_a_product_that_the_api_still_has_after_its_lag_is_an_update(webhooks, with_api):
    with_api("shopify", one_page)
    answer = webhooks.send("shopify", "products/delete", id="7")
    webhooks.drain()
    assert "still there" in webhooks.delivery(answer)["reason"]
    webhooks.advance(minutes=5)
    webhooks.drain()
    row = webhooks.row(Product, "7")
    assert (row.active, row.name, row.lifecycle_state, row.changed_at) == (True, "Shirt", "draft", NOON)


def test_reconcile_adds_rows_that_were_never_announced(webhooks, with_api):
    source = with_api("shopify", one_page)
    webhooks.send("shopify", "products/update", id="9", at=NOON - HOUR, data={"title": "Gone", "variants": []})
    webhooks.drain()
    reconcile(webhooks.database, source, force=True)
    assert [(row.external_id, row.active) for row in webhooks.rows(Product)] == [("7", True), ("9", False)]
    assert (webhooks.row(Variant, "11").price, webhooks.row(Variant, "11").parent) == (Decimal("19.90"), "7")
    assert webhooks.row(StockLevel, "5:6").available == Decimal(3)


def test_a_list_is_read_page_by_page_with_its_cursor():
    def answer(request):
        _, variables = asked(request)
        is_last = variables["after"] == "c1"
        node = PRODUCT | {"legacyResourceId": "8" if is_last else "7"}
        return data(
            products={"nodes": [node], "pageInfo": END if is_last else {"hasNextPage": True, "endCursor": "c1"}}
        )

    client = api(shopify, answer, api_url="http://api.test/v1")
    first = shopify_api.products(client, None)
    second = shopify_api.products(client, first.next)
    assert [row.external_id for row in (*first.rows, *second.rows)] == ["7", "8"]
    assert (first.next, second.next) == ("c1", None)


def test_every_row_of_the_three_lists_can_be_looked_up_by_its_id():
    client = api(shopify, one_page, api_url="http://api.test/v1")
    assert shopify.lookup_of is not None
    rows = list(listed_by(shopify, client))
    assert [row.external_id for row in rows] == ["7", "11", "5:6"]
    assert [shopify.lookup_of.ask(client, Wanted(row.table, row.external_id)) for row in rows] == [
        [row] for row in rows
    ]
    assert shopify.lookup_of.ask(client, Wanted(StockLevel, "5:7")) == []


THROTTLED = {
    "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
    "extensions": {
        "cost": {"requestedQueryCost": 202, "throttleStatus": {"currentlyAvailable": 102, "restoreRate": 50.0}}
    },
}


def test_a_throttled_question_waits_as_long_as_its_points_need():
    client = api(shopify, lambda _: httpx.Response(200, json=THROTTLED), api_url="http://api.test/v1")
    with pytest.raises(Retry) as throttled:
        shopify_api.ask(client, "{ shop { name } }")
    assert throttled.value.after == timedelta(seconds=2)


@pytest.mark.parametrize(
    "cost", [None, {}, {"requestedQueryCost": 1}, {"requestedQueryCost": "x", "throttleStatus": 1}]
)
def test_a_throttled_question_without_a_cost_waits_a_second(cost):
    answer = {**THROTTLED, "extensions": {"cost": cost}}
    client = api(shopify, lambda _: httpx.Response(200, json=answer), api_url="http://api.test/v1")
    with pytest.raises(Retry) as throttled:
        shopify_api.ask(client, "{ shop { name } }")
    assert throttled.value.after == timedelta(seconds=1)


def test_a_walk_repeats_a_throttled_question():
    answers = iter([httpx.Response(200, json=THROTTLED), data(products={"nodes": [PRODUCT], "pageInfo": END})])
    client = api(shopify, lambda _: next(answers), api_url="http://api.test/v1")
    with quick_retries(2):
        assert len(shopify_api.products(client, None).rows) == 1


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"errors": [{"message": "Access denied"}]}, "Access denied"),
        ({"errors": "Not Found"}, "Not Found"),
        ({}, "without `data`"),
        ([], "without `data`"),
        ({"data": {"products": None}}, "undocumented shape"),
        ({"data": {"products": {"nodes": [{}], "pageInfo": END}}}, "undocumented shape"),
        ({"data": {"products": {"nodes": [], "pageInfo": {"hasNextPage": True}}}}, "gives no cursor"),
    ],
)
def test_an_answer_that_is_not_a_page_ends_the_walk(answer, says):
    client = api(shopify, lambda _: httpx.Response(200, json=answer), api_url="http://api.test/v1")
    with pytest.raises(ApiError, match=says):
        shopify_api.products(client, None)


@pytest.mark.parametrize(
    ("found", "says"), [({"found": PRODUCT}, "another id"), ({}, "without the object of the query")]
)
def test_an_answer_about_another_entity_never_confirms_a_delete(found, says):
    client = api(shopify, lambda _: data(**found), api_url="http://api.test/v1")
    with pytest.raises(ApiError, match=says):
        shopify_api.product(client, "8")


def test_an_item_at_too_many_locations_ends_the_walk():
    item = {"legacyResourceId": "5", "inventoryLevels": {"nodes": [LEVEL], "pageInfo": {"hasNextPage": True}}}
    page = data(inventoryItems={"nodes": [item], "pageInfo": END})
    with pytest.raises(ApiError, match="more than 30 locations"):
        shopify_api.levels(api(shopify, lambda _: page, api_url="http://api.test/v1"), None)
