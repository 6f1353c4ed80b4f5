"""BigCommerce: thin events, the signed id, and the API with the present values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest
from collecting import api
from vendor_bodies import says_why

from handlers.catalog import Product, Variant
from receiver import Wanted
from receiver.codec import encode
from receiver.errors import ApiError
from receiver.reconcile import reconcile
from vendors.bigcommerce import bigcommerce
from vendors.tables import StockLevel

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hook(**parts):
    return {"scope": "store/product/updated", "data": {"type": "product", "id": 205}, "created_at": 1780000000} | parts


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"[]", "dict"),
        ({}, "`scope` is missing"),
        (hook(scope=7), "`scope` is missing or not text"),
        (hook(created_at="1780000000"), "whole seconds"),
        (hook(created_at=None), "whole seconds"),
        (hook(data={"type": "product"}), "has no id"),
        (hook(data={"type": "product", "id": 1.5}), "is not a valid id"),
        (hook(data={"type": "sku", "id": 1}), "has no product_id"),
        (hook(data={"type": "sku", "id": 1, "sku": [2]}), "has no product_id"),
        (hook(data=None), "neither product nor sku"),
        (hook(scope="store/product/deleted", data={"type": "category", "id": 1}), "neither product nor sku"),
        (hook(scope="store/sku/deleted", data={"type": "sku", "id": 1, "inventory": {"product_id": 2}}), "variant_id"),
        (
            hook(scope="store/sku/updated", data={"type": "sku", "id": 1, "sku": {"product_id": 2}}),
            "`data.sku` has no variant_id",
        ),
        (
            hook(scope="store/sku/created", data={"type": "sku", "id": 1, "sku": {"product_id": 2, "variant_id": 1.5}}),
            "`data.sku.variant_id` is not a valid id",
        ),
    ],
)
def test_an_unreadable_body_has_its_reason(body, says):
    says_why(bigcommerce, body, says)


@pytest.mark.parametrize(
    ("scope", "data"),
    [
        ("store/product/metafield/created", {"metafield_id": 12, "resource_id": "118", "resource_type": "product"}),
        ("store/product/variant/metafield/deleted", {"metafield_id": 12, "resource_id": "118"}),
        ("store/channel/1/product/assigned", {"type": "product", "product_id": 127}),
    ],
)
def test_an_event_beside_those_of_products_and_skus_is_ignored_whatever_it_names(webhooks, scope, data):
    answer = webhooks.send_body("bigcommerce", encode(hook(scope=scope, data=data)))
    webhooks.drain()
    assert webhooks.delivery(answer)["state"] == "ignored"


def test_the_signed_id_makes_a_repetition_a_duplicate(webhooks):
    body = b'{"scope": "store/product/created", "data": {"type": "product", "id": 205}, "created_at": 1780000000}'
    sent = [webhooks.send_body("bigcommerce", body, headers={"webhook-id": name}) for name in ("m1", "m1", "m2")]
    assert [answer.body["status"] for answer in sent] == ["accepted", "duplicate", "accepted"]


def test_a_webhook_from_before_bigcommerce_signed_is_read_without_its_signed_id(webhooks):
    webhooks.source("bigcommerce", secrets=[], allow_unsigned=True)
    body = encode(hook(hash="a833a57fadd56a32dc752fb6ca0841dc9602a495"))
    sent = [webhooks.post("bigcommerce", body).body["status"] for _ in range(2)]
    webhooks.drain()
    assert (sent, webhooks.row(Product, "205").active) == (["accepted", "duplicate"], True)


def test_without_an_api_a_quantity_is_not_applied_and_the_reason_says_so(webhooks):
    answer = webhooks.send("bigcommerce", "store/product/inventory/updated", id="205", at=NOON)
    webhooks.drain()
    delivery = webhooks.delivery(answer)
    assert (delivery["state"], "set api_url" in delivery["reason"]) == ("ignored", True)


# ── the API ───────────────────────────────────────────────────────────────────────────────────────────────────

LAMP = {
    "id": 205,
    "name": "Lamp",
    "sku": "L",
    "price": 19.90,
    "is_visible": False,
    "inventory_tracking": "variant",
    "date_modified": "2026-06-01T13:00:00+00:00",
    "variants": [
        {"id": 509, "sku": "L-R", "price": None, "inventory_level": 3},
        {"id": 510, "sku": "", "price": 21, "inventory_level": 0},
    ],
}


def store(request: httpx.Request) -> httpx.Response:
    """Make a store with one product."""
    assert request.headers["X-Auth-Token"] == "key"
    if request.url.path == "/v1/catalog/products":
        pages = {"total": 1, "current_page": 1, "total_pages": 1}
        return httpx.Response(200, json={"data": [LAMP], "meta": {"pagination": pages}})
    if request.url.path == "/v1/catalog/products/205":
        return httpx.Response(200, json={"data": LAMP, "meta": {}})
    return httpx.Response(404, json={"status": 404, "title": "The requested Product was not found", "type": "x"})


@pytest.mark.parametrize("event_type", ["store/product/updated", "store/product/inventory/order/updated"])
def test_an_event_leaves_the_api_s_present_values(webhooks, with_api, event_type):
    with_api("bigcommerce", store)
    webhooks.send("bigcommerce", event_type, id="205", at=NOON)
    webhooks.drain()
    row, price = webhooks.row(Product, "205"), Decimal("19.9")
    assert (row.name, row.price, row.lifecycle_state, row.changed_at) == ("Lamp", price, "hidden", NOON + HOUR)
    assert [(each.sku, each.price) for each in webhooks.rows(Variant)] == [("L-R", price), (None, Decimal(21))]
    assert [each.available for each in webhooks.rows(StockLevel)] == [Decimal(3), Decimal(0)]


@pytest.mark.parametrize(
    ("tracking", "variants", "available"),
    [
        ("none", 1, [None]),
        ("product", 1, [Decimal(50)]),
        ("product", 2, [None, None, Decimal(50)]),
        ("variant", 2, [Decimal(3), Decimal(0)]),
    ],
)
def test_stock_is_taken_from_where_the_store_counts_it(webhooks, with_api, tracking, variants, available):
    lamp = LAMP | {"inventory_tracking": tracking, "inventory_level": 50, "variants": LAMP["variants"][:variants]}
    with_api("bigcommerce", lambda _: httpx.Response(200, json={"data": lamp}))
    webhooks.send("bigcommerce", "store/product/updated", id="205", at=NOON)
    webhooks.drain()
    assert [row.available for row in webhooks.rows(StockLevel)] == available


def shared(webhooks):
    row = webhooks.row(StockLevel, "product:205")
    return (row.item, row.available, row.active)


def lamp_with_stock(tracking, *, level=50, at=NOON):
    lamp = LAMP | {"inventory_tracking": tracking, "inventory_level": level, "date_modified": at.isoformat()}
    return httpx.Response(200, json={"data": lamp})


def test_news_of_stock_that_all_variants_share_reach_the_row_of_their_product(webhooks, with_api):
    answers = iter([lamp_with_stock("product"), lamp_with_stock("product", level=47, at=NOON + HOUR)])
    with_api("bigcommerce", lambda _: next(answers))
    for at in (NOON, NOON + HOUR):
        webhooks.send("bigcommerce", "store/product/inventory/order/updated", id="205", at=at)
        webhooks.drain()
    assert shared(webhooks) == ("205", Decimal(47), True)


def test_stock_that_is_counted_for_variants_from_now_on_is_no_longer_shared(webhooks, with_api):
    answers = iter([lamp_with_stock("product"), lamp_with_stock("variant", at=NOON + HOUR)])
    with_api("bigcommerce", lambda _: next(answers))
    for at in (NOON, NOON + HOUR):
        webhooks.send("bigcommerce", "store/product/updated", id="205", at=at)
        webhooks.drain()
    assert not webhooks.row(StockLevel, "product:205").active
    assert webhooks.row(StockLevel, "509").available == Decimal(3)


def test_shared_stock_is_deactivated_with_its_product(webhooks, with_api):
    with_api("bigcommerce", lambda _: lamp_with_stock("product"))
    webhooks.send("bigcommerce", "store/product/updated", id="205", at=NOON)
    webhooks.send("bigcommerce", "store/product/deleted", id="205", at=NOON + HOUR)
    webhooks.drain()
    assert not webhooks.row(StockLevel, "product:205").active


def test_late_news_of_a_deleted_product_does_not_revive_its_shared_stock(webhooks, with_api):
    with_api("bigcommerce", lambda _: lamp_with_stock("product"))
    for event_type, at in (("store/product/deleted", NOON + HOUR), ("store/product/updated", NOON)):
        webhooks.send("bigcommerce", event_type, id="205", at=at)
        webhooks.drain()
    assert not webhooks.row(StockLevel, "product:205").active


def test_a_variant_that_the_api_no_longer_lists_is_deactivated(webhooks, with_api):
    before = {**LAMP, "date_modified": None, "variants": [*LAMP["variants"], {"id": 511}]}
    answers = iter([before, LAMP])
    with_api("bigcommerce", lambda _: httpx.Response(200, json={"data": next(answers)}))
    for at in (NOON - HOUR, NOON):
        webhooks.send("bigcommerce", "store/product/updated", id="205", at=at)
        webhooks.drain()
    assert [(row.external_id, row.active) for row in webhooks.rows(Variant)] == [
        ("509", True),
        ("510", True),
        ("511", False),
    ]


def test_a_product_that_the_api_does_not_have_is_deactivated(webhooks, with_api):
    with_api("bigcommerce", store)
    webhooks.send("bigcommerce", "store/product/updated", id="206", at=NOON)
    webhooks.drain()
    webhooks.advance(seconds=61)
    webhooks.drain()
    assert not webhooks.row(Product, "206").active


def test_a_404_of_another_kind_says_nothing(webhooks, with_api):
    with_api("bigcommerce", lambda _: httpx.Response(404, json={"title": "Not found"}))
    answer = webhooks.send("bigcommerce", "store/product/updated", id="205", at=NOON)
    webhooks.drain()
    assert "check api_url" in webhooks.delivery(answer)["reason"]
    assert webhooks.rows(Product) == []


def test_reconcile_adds_rows_that_were_never_announced(webhooks, with_api):
    reconcile(webhooks.database, with_api("bigcommerce", store))
    assert webhooks.row(Product, "205").name == "Lamp"
    assert webhooks.row(StockLevel, "509").available == Decimal(3)


def test_one_product_is_looked_up_with_its_variants():
    client = api(bigcommerce, store, api_url="http://api.test/v1")
    assert bigcommerce.lookup_of is not None
    found = bigcommerce.lookup_of.ask(client, Wanted(Product, "205"))
    assert [row.external_id for row in found] == ["205", "509", "509", "510", "510"]
    with pytest.raises(ApiError, match="undocumented shape"):
        bigcommerce.lookup_of.ask(api(bigcommerce, lambda _: httpx.Response(200, json={})), Wanted(Product, "205"))


def test_a_created_product_that_the_api_does_not_know_yet_is_asked_for_again(webhooks, with_api):
    unknown = httpx.Response(404, json={"title": "The requested Product was not found"})
    answers = iter([unknown, httpx.Response(200, json={"data": LAMP})])
    with_api("bigcommerce", lambda _: next(answers))
    answer = webhooks.send("bigcommerce", "store/product/created", id="205", at=NOON)
    webhooks.drain()
    assert "does not have the object yet" in webhooks.delivery(answer)["reason"]
    assert webhooks.rows(Product) == []
    webhooks.advance(seconds=6)
    webhooks.drain()
    assert (webhooks.row(Product, "205").active, webhooks.row(Product, "205").name) == (True, "Lamp")


def test_an_answer_that_lacks_the_event_s_change_is_asked_for_again(webhooks, with_api):
    old = {**LAMP, "date_modified": "2026-06-01T11:00:00+00:00"}
    answers = iter([old, old, {**LAMP, "name": "Lamp 2", "date_modified": "2026-06-01T12:00:00+00:00"}])
    with_api("bigcommerce", lambda _: httpx.Response(200, json={"data": next(answers)}))
    webhooks.send("bigcommerce", "store/product/created", id="205", at=NOON - HOUR)
    webhooks.drain()
    answer = webhooks.send("bigcommerce", "store/product/updated", id="205", at=NOON)
    webhooks.drain()
    assert "still has the object as the mirror has it" in webhooks.delivery(answer)["reason"]
    webhooks.advance(seconds=6)
    webhooks.drain()
    assert webhooks.row(Product, "205").name == "Lamp 2"


@pytest.mark.parametrize(
    ("scope", "data", "table", "row_id"),
    [
        ("store/product/deleted", {"type": "product", "id": 205}, Product, "205"),
        ("store/sku/deleted", {"type": "sku", "id": 9, "sku": {"product_id": 205, "variant_id": 509}}, Variant, "509"),
    ],
)
def test_a_delete_does_not_depend_on_the_api(webhooks, with_api, scope, data, table, row_id):
    with_api("bigcommerce", lambda _: httpx.Response(500))
    webhooks.send_body("bigcommerce", encode(hook(scope=scope, data=data)))
    webhooks.drain()
    assert not webhooks.row(table, row_id).active


@pytest.mark.parametrize("asked", ["205/variants", "205?include=x", "0205"])
def test_only_the_product_of_the_wanted_id_counts(asked):
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path.removeprefix("/v1/catalog/products/") == asked
        return httpx.Response(200, json={"data": LAMP})

    with pytest.raises(ApiError, match="the object of another id"):
        bigcommerce.lookup_of.ask(api(bigcommerce, answer, api_url="http://api.test/v1"), Wanted(Product, asked))
