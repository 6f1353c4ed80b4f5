"""Stripe: products and prices, their times in whole seconds, and the API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest
from collecting import api
from listings import listed_by
from vendor_bodies import rows_of, says_why

from handlers.catalog import Product
from receiver import Wanted
from receiver.codec import encode
from receiver.errors import ApiError
from receiver.reconcile import reconcile
from vendors.stripe import stripe
from vendors.tables import Price

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def event(event_type: str = "product.updated", **parts):
    thing = {"id": "prod_1", "object": "product", "name": "Lamp"}
    return {"id": "evt_1", "type": event_type, "created": 1780000000, "data": {"object": thing}} | parts


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"[]", "dict"),
        ({}, "`type` is missing"),
        (event(id=None), "`id` is missing or not text"),
        (event(id=7), "`id` is missing or not text"),
        (event(type=["product.updated"]), "`type` is missing or not text"),
        (event(created=None), "whole seconds"),
        (event(created=True), "whole seconds"),
        (event(created=1780000000.5), "whole seconds"),
        (event(created=10**30), "not a time in the years 1 to 9999"),
        (event(created=0), "1970"),
        (event(created="2026-06-01T12:00:00"), "whole seconds"),
        (event("price.deleted", created="2026-06-01T12:00:00Z"), "whole seconds"),
        (event("v2.core.x", created="2026-06-01T12:00:00"), "needs its offset"),
        (event("v1.product.updated", created="2026-06-01T12:00:00Z"), "`related_object` has no id"),
        (event("v1.product.updated", data=None, related_object={"id": "prod_1"}), "`data.object` has no id"),
        (event(data=None), "has no id"),
        (event(data={"object": []}), "has no id"),
        (event("price.updated", data={"object": {"id": "price_1", "product": {"name": "no id"}}}), "product"),
        (event(data={"object": {"id": "prod_1", "active": "perhaps"}}), "active"),
    ],
)
def test_an_unreadable_body_has_its_reason(body, says):
    says_why(stripe, body, says)


def price(**members):
    return rows_of(stripe, event("price.updated", data={"object": {"id": "price_1", **members}}))["prices", "price_1"]


@pytest.mark.parametrize(
    ("members", "kept"),
    [
        ({"unit_amount": 1000, "unit_amount_decimal": "1000"}, "1000"),
        ({"unit_amount": None, "unit_amount_decimal": "0.05"}, "0.05"),
        ({"unit_amount": "1000"}, "1000"),
        ({"unit_amount": 9007199254740993}, "9007199254740993"),
        ({"unit_amount": None, "unit_amount_decimal": None}, None),
        ({"unit_amount": {"tiers": []}}, None),
    ],
)
def test_an_amount_is_exact_as_number_or_text_and_otherwise_null(members, kept):
    assert price(**members)["unit_amount"] == (None if kept is None else Decimal(kept))


def test_the_product_of_a_price_may_be_expanded():
    assert price(product={"id": "prod_1", "name": "Lamp"})["product"] == "prod_1"


def test_a_thin_event_of_the_second_api_is_ignored(webhooks):
    body = b'{"id": "evt_2", "object": "v2.core.event", "type": "v2.core.x", "created": "2026-06-01T12:00:00.000Z"}'
    answer = webhooks.send_body("stripe", body)
    webhooks.drain()
    assert webhooks.delivery(answer)["state"] == "ignored"


@pytest.mark.parametrize(
    "body",
    [
        event(account="acct_2"),
        event("price.deleted", account="acct_2", context="acct_2"),
        event(context="acct_2"),
        event(
            "v1.product.updated",
            created="2026-06-01T12:00:00Z",
            context="acct_2",
            related_object={"id": "prod_1", "type": "product"},
        ),
    ],
)
def test_an_event_of_another_account_is_ignored_and_its_type_says_why(webhooks, body):
    answer = webhooks.send_body("stripe", encode(body))
    webhooks.drain()
    delivery = webhooks.delivery(answer)
    assert (delivery["state"], delivery["event_type"]) == ("ignored", f"connected.{body['type']}")
    assert webhooks.rows(Product) == webhooks.rows(Price) == []


def test_an_event_without_a_context_is_one_of_the_own_account():
    assert ("products", "prod_1") in rows_of(stripe, event(account=None, context=None))


@pytest.mark.parametrize(
    ("recurring", "interval"),
    [
        ({"interval": "month", "interval_count": 1}, "month"),
        ({"interval": "month", "interval_count": 3}, "3 months"),
        ({"interval": "year", "interval_count": True}, "year"),
        ({"interval": None, "interval_count": 3}, None),
        (None, None),
    ],
)
def test_the_interval_of_a_price_counts_its_units(recurring, interval):
    assert price(recurring=recurring)["interval"] == interval


def test_the_same_event_sent_again_with_another_body_is_a_duplicate(webhooks):
    first = webhooks.send("stripe", "product.updated", id="prod_1", at=NOON, data={"name": "Lamp"})
    again = webhooks.send("stripe", "product.updated", id="prod_1", at=NOON, data={"name": "Lamp"})
    assert [first.body["status"], again.body["status"]] == ["accepted", "duplicate"]


def test_a_late_update_does_not_revive(webhooks):
    webhooks.send("stripe", "product.deleted", id="prod_1", at=NOON)
    webhooks.send("stripe", "product.updated", id="prod_1", at=NOON - timedelta(seconds=1), data={"name": "Lamp"})
    webhooks.drain()
    assert not webhooks.row(Product, "prod_1").active


# ── the API ───────────────────────────────────────────────────────────────────────────────────────────────────

PRODUCT = {"id": "prod_1", "name": "Lamp", "active": False, "updated": 1780000000}
ARCHIVED = {"id": "price_9", "product": "prod_1", "currency": "eur", "unit_amount": 990, "active": False}
PRICE = {"id": "price_1", "product": "prod_1", "currency": "eur", "unit_amount": 1990, "active": True}


def account(request: httpx.Request) -> httpx.Response:
    """Make an account with one product and two prices, each on a page of its own, and with an archived price."""
    assert request.headers["Authorization"] == "Bearer key"
    path, after = request.url.path.removeprefix("/v1"), request.url.params.get("starting_after")
    if path == "/products":
        return httpx.Response(200, json={"data": [PRODUCT], "has_more": False})
    if path == "/prices" and request.url.params["active"] == "false":
        return httpx.Response(200, json={"data": [ARCHIVED], "has_more": False})
    if path == "/prices":
        row = PRICE if after is None else PRICE | {"id": "price_2"}
        return httpx.Response(200, json={"data": [row], "has_more": after is None})
    found = {"/products/prod_1": PRODUCT, "/prices/price_1": PRICE, "/prices/price_2": PRICE | {"id": "price_2"}}
    found["/prices/price_9"] = ARCHIVED
    found["/products/prod_3"] = {"id": "prod_3", "deleted": True}
    if path in found:
        return httpx.Response(200, json=found[path])
    return httpx.Response(404, json={"error": {"code": "resource_missing", "type": "invalid_request_error"}})


@pytest.mark.parametrize(("kind", "table", "row_id"), [("product", Product, "prod_1"), ("price", Price, "price_1")])
@pytest.mark.parametrize("what", ["created", "updated"])
def test_a_thin_event_leaves_the_api_s_present_values(webhooks, with_api, kind, table, row_id, what):
    with_api("stripe", account)
    webhooks.send("stripe", f"v1.{kind}.{what}", id=row_id, at=NOON)
    webhooks.drain()
    row = webhooks.row(table, row_id)
    assert (row.active, row.data["id"], row.changed_at) == (True, row_id, NOON)
    assert row.lifecycle_state == ("archived" if kind == "product" else "active")


@pytest.mark.parametrize("row_id", ["prod_3", "prod_4"])
def test_a_thin_event_about_a_product_that_the_api_does_not_have_deactivates_it(webhooks, with_api, row_id):
    with_api("stripe", account)
    webhooks.send("stripe", "v1.product.updated", id=row_id, at=NOON)
    webhooks.drain()
    webhooks.advance(seconds=61)
    webhooks.drain()
    assert not webhooks.row(Product, row_id).active


def test_a_key_of_the_other_mode_deactivates_nothing(webhooks, with_api):
    said = "No such product: 'prod_1'; a similar object exists in live mode, but a test mode key was used to make this "
    error = {"code": "resource_missing", "type": "invalid_request_error", "message": f"{said}request."}
    with_api("stripe", lambda _: httpx.Response(404, json={"error": error}))
    webhooks.send("stripe", "product.created", id="prod_1", at=NOON - timedelta(hours=1), data={"name": "Lamp"})
    answer = webhooks.send("stripe", "v1.product.updated", id="prod_1", at=NOON)
    webhooks.drain()
    assert webhooks.row(Product, "prod_1").active
    assert "api_key is for test mode" in webhooks.delivery(answer)["attempts"][-1]["reason"]


def test_a_thin_delete_does_not_depend_on_the_api(webhooks, with_api):
    with_api("stripe", lambda _: httpx.Response(500))
    webhooks.send("stripe", "v1.product.deleted", id="prod_1", at=NOON)
    webhooks.send("stripe", "v1.price.deleted", id="price_1", at=NOON)
    webhooks.drain()
    assert (webhooks.row(Product, "prod_1").active, webhooks.row(Price, "price_1").active) == (False, False)


def test_without_an_api_a_thin_event_only_says_that_the_object_exists(webhooks):
    webhooks.send("stripe", "v1.product.created", id="prod_1", at=NOON)
    webhooks.drain()
    assert (webhooks.row(Product, "prod_1").active, webhooks.row(Product, "prod_1").name) == (True, None)


def test_every_row_of_the_lists_can_be_looked_up_by_its_id():
    client = api(stripe, account, api_url="http://api.test/v1")
    rows = list(listed_by(stripe, client))
    assert [row.external_id for row in rows] == ["prod_1", "price_1", "price_2", "price_9"]
    assert stripe.lookup_of is not None
    for row in rows:
        assert stripe.lookup_of.ask(client, Wanted(row.table, row.external_id)) == [row]


@pytest.mark.parametrize("external_id", ["prod_2", "prod_3"])
def test_a_product_that_is_missing_or_marked_deleted_is_deactivated(external_id):
    client = api(stripe, account, api_url="http://api.test/v1")
    assert stripe.lookup_of is not None
    assert stripe.lookup_of.ask(client, Wanted(Product, external_id)) == []


def test_a_404_of_another_kind_says_nothing():
    client = api(stripe, lambda _: httpx.Response(404, text="nothing here"))
    assert stripe.lookup_of is not None
    with pytest.raises(ApiError, match="check api_url"):
        stripe.lookup_of.ask(client, Wanted(Product, "prod_1"))


def test_reconcile_adds_rows_that_were_never_announced(webhooks, with_api):
    reconcile(webhooks.database, with_api("stripe", account))
    assert webhooks.row(Product, "prod_1").lifecycle_state == "archived"
    assert webhooks.row(Price, "price_2").unit_amount == Decimal(1990)


def test_a_walk_that_an_earlier_release_began_goes_on_with_the_active_prices():
    assert stripe.listing_of is not None
    page = stripe.listing_of.parts[1].read(api(stripe, account, api_url="http://api.test/v1"), "price_1")
    assert ([row.external_id for row in page.rows], page.next) == (["price_2"], ["false", None])


def test_reconcile_adds_archived_prices_too(webhooks, with_api):
    reconcile(webhooks.database, with_api("stripe", account))
    assert (webhooks.row(Price, "price_9").active, webhooks.row(Price, "price_9").lifecycle_state) == (True, "archived")
