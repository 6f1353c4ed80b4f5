"""WooCommerce: bodies recognised by their form, the unsigned ping, deletes without a time, and the API."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest
from collecting import api, quick_retries
from vendor_bodies import rows_of, says_why

from handlers.catalog import Product, Variant
from receiver import Wanted
from receiver.errors import ApiError
from receiver.reconcile import reconcile
from vendors.tables import StockLevel
from vendors.woocommerce import woocommerce

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SHIRT = {"id": 7, "name": "Shirt", "type": "simple", "sku": "S-1", "price": "19.90", "status": "publish"}
SHIRT |= {"date_modified_gmt": "2026-06-01T12:00:00"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"[]", "dict"),
        ({}, "has no id"),
        ({"id": None}, "has no id"),
        ({"id": [7]}, "is not a valid id"),
        ({"id": 7, "sku": "x", "type": "simple"}, "`date_modified_gmt` is not the time of a change"),
        (SHIRT | {"date_modified_gmt": None}, "`date_modified_gmt` is not the time of a change"),
        (SHIRT | {"date_modified_gmt": "0000-00-00T00:00:00"}, "`date_modified_gmt`"),
        (SHIRT | {"date_modified_gmt": 1780000000}, "ISO 8601"),
        (SHIRT | {"type": "variation", "parent_id": {}}, "parent_id"),
        ({"code": "woocommerce_rest_cannot_view", "message": "Sorry", "data": {"status": 403}}, "user who may read"),
        (
            {"code": "rest_no_route", "message": "No", "data": {"status": 404}},
            "'rest_no_route' in place of the product",
        ),
    ],
)
def test_an_unreadable_body_has_its_reason(body, says):
    says_why(woocommerce, body, says)


@pytest.mark.parametrize(
    ("body", "event_type"),
    [
        (
            {"code": "woocommerce_rest_product_invalid_id", "message": "Invalid ID.", "data": {"status": 404}},
            "product.gone",
        ),
        ({"action": "woocommerce_add_to_cart", "arg": "abc"}, "action.woocommerce_add_to_cart"),
    ],
)
def test_a_body_about_no_product_is_ignored(webhooks, body, event_type):
    answer = webhooks.send_body("woocommerce", json.dumps(body).encode())
    webhooks.drain()
    delivery = webhooks.delivery(answer)
    assert (delivery["state"], delivery["event_type"]) == ("ignored", event_type)


@pytest.mark.parametrize(("price", "kept"), [("", None), ("1e400000", None), (19.90, "19.9"), ("19.90", "19.90")])
def test_a_price_is_exact_and_an_empty_one_null(price, kept):
    row = rows_of(woocommerce, SHIRT | {"price": price})["products", "7"]
    assert row["price"] == (None if kept is None else Decimal(kept))


def test_ids_above_two_to_the_53_keep_every_digit():
    assert ("products", "9007199254740993") in rows_of(woocommerce, b'{"id": 9007199254740993}')


def test_a_time_is_read_as_utc_and_not_as_the_shop_s():
    row = rows_of(woocommerce, SHIRT | {"date_modified": "2026-06-01T14:00:00"})["products", "7"]
    assert row["changed_at"] == NOON


def test_the_ping_on_saving_gets_200_and_is_not_stored(webhooks):
    webhooks.source("woocommerce")
    answer = webhooks.post("woocommerce", b"webhook_id=17", {"content-type": "application/x-www-form-urlencoded"})
    assert answer.status == 200
    assert webhooks.deliveries() == []


@pytest.mark.parametrize("body", [b"webhook_id=17&id=7", b'{"id": 7}', b"webhook_id=", b"webhook_id=" + b"1" * 100])
def test_no_other_unsigned_body_passes_as_the_ping(webhooks, body):
    webhooks.source("woocommerce")
    answer = webhooks.post("woocommerce", body)
    assert (answer.status, answer.body["error"]) == (401, "signature_missing")


def test_a_delete_that_arrives_before_its_variation_is_known_applies_to_it(webhooks):
    webhooks.send("woocommerce", "product.deleted", id="8")
    variation = {"type": "variation", "parent_id": 7, "sku": "S-8"}
    webhooks.send("woocommerce", "product.updated", id="8", at=NOON, data=variation)
    webhooks.drain()
    assert not webhooks.row(Variant, "8").active


def test_one_change_sent_three_times_is_applied_once(webhooks):
    states = [webhooks.send("woocommerce", "product.updated", id="7", at=NOON).body["status"] for _ in range(3)]
    assert states == ["accepted", "duplicate", "duplicate"]


def variations_after(webhooks, *bodies):
    for body in bodies:
        webhooks.send_body("woocommerce", json.dumps(body).encode())
    webhooks.drain()
    return {row.external_id: row.active for row in webhooks.rows(Variant)}


VARIATION = SHIRT | {"id": 71, "type": "variation", "parent_id": 7, "variations": []}
LATER = {"date_modified_gmt": "2026-06-01T12:05:00"}


def test_a_variation_that_its_product_no_longer_names_is_deactivated(webhooks):
    shirt = SHIRT | {"type": "variable", "variations": [71, 72]}
    left = shirt | {"variations": [72]} | LATER
    assert variations_after(webhooks, shirt, VARIATION, left) == {"71": False, "72": True}


def test_a_product_that_is_variable_no_longer_has_no_variations(webhooks):
    assert variations_after(webhooks, VARIATION, SHIRT | {"variations": []} | LATER) == {"71": False}


@pytest.mark.parametrize(("managed", "available"), [("parent", None), (True, Decimal(7)), (False, Decimal(7))])
def test_the_stock_that_a_variation_shares_counts_only_for_its_product(webhooks, managed, available):
    bodies = [SHIRT | {"manage_stock": True, "stock_quantity": 7}, VARIATION | {"manage_stock": managed}]
    for body in (bodies[0], bodies[1] | {"stock_quantity": 7}):
        webhooks.send_body("woocommerce", json.dumps(body).encode())
    webhooks.drain()
    assert {row.external_id: row.available for row in webhooks.rows(StockLevel)} == {"7": 7, "71": available}


def test_a_variation_whose_body_names_no_product_keeps_the_one_that_it_has(webhooks):
    red = {"type": "variation", "sku": "R-1", "status": "publish"}
    webhooks.send("woocommerce", "product.updated", id="71", at=NOON, data=red | {"parent_id": 7})
    webhooks.send("woocommerce", "product.updated", id="71", at=NOON + timedelta(hours=1), data=red | {"sku": "R-2"})
    webhooks.drain()
    row = webhooks.row(Variant, "71")
    assert (row.sku, row.parent) == ("R-2", "7")


def test_a_variation_of_a_subscription_is_a_variant_alone(webhooks):
    monthly = VARIATION | {"type": "subscription_variation"}
    shirt = SHIRT | {"type": "variable-subscription", "variations": [71]}
    assert variations_after(webhooks, monthly, shirt) == {"71": True}
    assert [row.external_id for row in webhooks.rows(Product)] == ["7"]


def test_a_variation_changed_since_its_product_stays_active(webhooks):
    assert variations_after(webhooks, VARIATION | LATER, SHIRT | {"variations": []}) == {"71": True}


@pytest.mark.parametrize("variations", [None, {}, [{"id": 72}], "72"])
def test_variations_in_another_form_deactivate_nothing(webhooks, variations):
    assert variations_after(webhooks, VARIATION, SHIRT | {"variations": variations} | LATER) == {"71": True}


# ── the API ───────────────────────────────────────────────────────────────────────────────────────────────────


def shop(request: httpx.Request) -> httpx.Response:
    """Make a shop with product 7, product 8 in the trash, and no other."""
    assert b64decode(request.headers["Authorization"].removeprefix("Basic ")) == b"key:secret"
    if request.url.path == "/v1/products":
        assert (request.url.params["orderby"], request.url.params["per_page"]) == ("id", "100")
        return httpx.Response(200, json=[SHIRT] if request.url.params["page"] == "1" else [])
    found = {"/v1/products/7": SHIRT, "/v1/products/8": SHIRT | {"id": 8, "status": "trash"}}.get(request.url.path)
    return httpx.Response(200, json=found) if found else missing("woocommerce_rest_product_invalid_id")


def missing(code: str) -> httpx.Response:
    return httpx.Response(404, json={"code": code, "message": "No", "data": {"status": 404}})


@pytest.mark.parametrize("external_id", ["8", "9"])
def test_a_delete_that_the_api_confirms_counts(webhooks, with_api, external_id):
    with_api("woocommerce", shop)
    webhooks.send("woocommerce", "product.deleted", id=external_id)
    webhooks.drain()
    assert not webhooks.row(Product, external_id).active


def test_a_product_restored_since_its_delete_stays_active(webhooks, with_api):
    with_api("woocommerce", shop)
    webhooks.send("woocommerce", "product.deleted", id="7")
    webhooks.drain()
    webhooks.advance(minutes=5)
    webhooks.drain()
    row = webhooks.row(Product, "7")
    assert (row.active, row.name, row.changed_at) == (True, "Shirt", NOON)


@pytest.mark.parametrize("answer", [missing("rest_no_route"), httpx.Response(404, text="<h1>Not found</h1>")])
def test_a_404_of_another_kind_confirms_nothing(webhooks, with_api, answer):
    with_api("woocommerce", lambda _: answer)
    sent = webhooks.send("woocommerce", "product.deleted", id="7")
    webhooks.drain()
    assert "check api_url" in webhooks.delivery(sent)["reason"]
    assert webhooks.rows(Product) == []


def test_reconcile_adds_rows_that_were_never_announced(webhooks, with_api):
    source = with_api("woocommerce", shop)
    webhooks.send("woocommerce", "product.updated", id="9", at=NOON - timedelta(days=1), data={"name": "Gone"})
    webhooks.drain()
    reconcile(webhooks.database, source, force=True)
    assert [(row.external_id, row.active) for row in webhooks.rows(Product)] == [("7", True), ("9", False)]


def test_reconcile_deactivates_the_variations_of_a_product_whose_delete_was_lost(webhooks, with_api):
    source = with_api("woocommerce", shop)
    earlier = NOON - timedelta(days=1)
    webhooks.send("woocommerce", "product.updated", id="9", at=earlier, data={"name": "Gone"})
    webhooks.send("woocommerce", "product.updated", id="77", at=earlier, data={"type": "variation", "parent_id": 9})
    webhooks.drain()
    assert webhooks.row(Variant, "77").active
    reconcile(webhooks.database, source, force=True)
    assert not webhooks.row(Variant, "77").active


def test_a_full_page_is_followed_by_another():
    answer = json.dumps([SHIRT | {"id": number} for number in range(1, 101)]).encode()
    client = api(woocommerce, lambda _: httpx.Response(200, content=answer), api_secret="secret")
    assert woocommerce.listing_of is not None
    (part,) = woocommerce.listing_of.parts
    assert part.read is not None
    assert part.read(client, None).next == 2


def test_an_answer_that_is_not_a_list_ends_the_walk():
    client = api(woocommerce, lambda _: httpx.Response(200, json={"products": []}))
    assert woocommerce.listing_of is not None
    (part,) = woocommerce.listing_of.parts
    assert part.read is not None
    with quick_retries(1), pytest.raises(ApiError, match="undocumented shape"):
        part.read(client, None)


def test_one_product_is_looked_up_by_its_id():
    client = api(woocommerce, shop, api_url="http://api.test/v1", api_secret="secret")
    assert woocommerce.lookup_of is not None
    assert [row.columns["sku"] for row in woocommerce.lookup_of.ask(client, Wanted(Product, "7"))] == ["S-1"]
    assert woocommerce.lookup_of.ask(client, Wanted(Product, "9")) == []


def test_stock_is_deactivated_with_its_product(webhooks):
    webhooks.send("woocommerce", "product.updated", id="7", at=NOON, data={"stock_quantity": 3})
    webhooks.send("woocommerce", "product.deleted", id="7")
    webhooks.drain()
    assert not webhooks.row(StockLevel, "7").active


@pytest.mark.parametrize("asked", ["7/variations", "7?status=any", "07"])
def test_only_the_product_of_the_wanted_id_counts(asked):
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path.removeprefix("/v1/products/") == asked
        return httpx.Response(200, json=SHIRT)

    with pytest.raises(ApiError, match="the object of another id"):
        woocommerce.lookup_of.ask(api(woocommerce, answer, api_url="http://api.test/v1"), Wanted(Product, asked))


@pytest.mark.parametrize(("kind", "table"), [("simple", Product), ("variation", Variant)])
def test_an_update_into_the_trash_deactivates_until_a_restore(webhooks, kind, table):
    shirt = SHIRT | {"type": kind, "parent_id": 3, "stock_quantity": 2}
    moved = shirt | {"status": "trash", "date_modified_gmt": "2026-06-01T12:00:01"}
    restored = shirt | {"date_modified_gmt": "2026-06-01T12:00:02"}
    for body, active in [(shirt, True), (moved, False), (restored, True)]:
        webhooks.send_body("woocommerce", json.dumps(body).encode())
        webhooks.drain()
        assert (webhooks.row(table, "7").active, webhooks.row(StockLevel, "7").active) == (active, active)


@pytest.mark.parametrize("moment", [None, "0000-00-00T00:00:00"])
def test_a_listed_product_without_a_time_of_change_does_not_end_the_walk(webhooks, with_api, moment):
    listed = [SHIRT | {"id": 8, "date_modified_gmt": moment}, SHIRT]
    reconcile(webhooks.database, with_api("woocommerce", lambda _: httpx.Response(200, json=listed)))
    assert [row.external_id for row in webhooks.rows(Product)] == ["7", "8"]


def test_a_listed_product_in_the_trash_is_not_a_row():
    answer = httpx.Response(200, json=[SHIRT, SHIRT | {"id": 8, "status": "trash"}])
    page = woocommerce.listing_of.parts[0].read(api(woocommerce, lambda _: answer), None)
    assert {row.external_id for row in page.rows} == {"7"}


BLUE = {"id": 71, "name": "Blue", "sku": "S-1-B", "price": "21.00", "status": "publish", "stock_quantity": 4}
BLUE |= {"date_modified_gmt": "2026-06-01T12:00:00", "manage_stock": True}


def variable_shop(products, variations):
    """Make a shop with these products, and with these variations of product 7."""

    def answer(request):
        found = {"/v1/products": products, "/v1/products/7/variations": variations}.get(request.url.path)
        if found is None:
            return missing("woocommerce_rest_product_invalid_id")
        page = int(request.url.params["page"])
        return httpx.Response(200, json=found[100 * (page - 1) : 100 * page])

    return answer


SHIRTS = [SHIRT | {"type": "variable", "variations": [71], "stock_quantity": None}]


def test_reconcile_deactivates_a_variation_whose_removal_was_not_announced(webhooks, with_api):
    shirt = SHIRT | {"type": "variable", "variations": [71, 72], "date_modified_gmt": "2026-05-31T12:00:00"}
    earlier = VARIATION | {"id": 72, "stock_quantity": 1, "date_modified_gmt": "2026-05-31T12:00:00"}
    variations_after(webhooks, shirt, earlier)
    reconcile(webhooks.database, with_api("woocommerce", variable_shop(SHIRTS, [BLUE])), force=True)
    assert [(row.external_id, row.active) for row in webhooks.rows(Variant)] == [("71", True), ("72", False)]
    assert not webhooks.row(StockLevel, "72").active


def test_reconcile_repairs_the_price_and_the_stock_of_a_variation_and_keeps_its_name(webhooks, with_api):
    old = VARIATION | {"name": "Shirt - Blue", "stock_quantity": 9, "date_modified_gmt": "2026-05-31T12:00:00"}
    variations_after(webhooks, old)
    reconcile(webhooks.database, with_api("woocommerce", variable_shop(SHIRTS, [BLUE])))
    row = webhooks.row(Variant, "71")
    assert (row.price, row.sku, row.name, row.parent) == (Decimal("21.00"), "S-1-B", "Shirt - Blue", "7")
    assert (webhooks.row(StockLevel, "71").available, webhooks.row(StockLevel, "7").available) == (4, None)


def test_a_reconcile_reads_every_page_of_variations_and_then_the_next_products(webhooks, with_api):
    variations = [BLUE | {"id": number} for number in range(1000, 1150)]
    products = [*SHIRTS, *(SHIRT | {"id": number} for number in range(10, 115))]
    reconcile(webhooks.database, with_api("woocommerce", variable_shop(products, variations)))
    assert (len(webhooks.rows(Variant)), len(webhooks.rows(Product))) == (150, 106)


def test_a_product_that_is_deleted_before_its_variations_are_read_does_not_end_the_walk(webhooks, with_api):
    products = [SHIRT | {"id": 6, "type": "variable", "variations": [61]}, *SHIRTS]
    reconcile(webhooks.database, with_api("woocommerce", variable_shop(products, [BLUE])))
    assert [row.external_id for row in webhooks.rows(Variant)] == ["71"]


def test_another_missing_page_of_variations_ends_the_walk():
    client = api(woocommerce, lambda _: missing("rest_no_route"), api_url="http://api.test/v1")
    with pytest.raises(ApiError, match="/products/7/variations of the source's API answered 404"):
        woocommerce.listing_of.parts[0].read(client, [None, ["7"], 1])


def test_one_variation_is_looked_up_by_its_id():
    client = api(woocommerce, lambda _: httpx.Response(200, json=VARIATION), api_url="http://api.test/v1")
    (row,) = woocommerce.lookup_of.ask(client, Wanted(Variant, "71"))
    assert (row.table, row.columns["parent"]) == (Variant, "7")
