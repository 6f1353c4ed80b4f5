"""The rows that Shopify's webhooks leave in the mirror."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from shopify import ShopProduct, ShopVariant

from receiver.testing import fixture_files

noon = datetime(2026, 6, 1, 12, tzinfo=UTC)
minute = timedelta(minutes=1)


@pytest.mark.parametrize("fixture", fixture_files(Path(__file__).parent / "fixtures"), ids=lambda path: path.name)
def test_a_fixture_leaves_the_rows_that_it_describes(webhooks, fixture):
    webhooks.check_fixture(fixture)


def test_a_late_update_does_not_bring_a_product_back(webhooks):
    webhooks.send("shopify", "products/delete", id="1")
    webhooks.send("shopify", "products/update", id="1", at=noon, data={"title": "Lamp"})
    webhooks.drain()
    assert not webhooks.row(ShopProduct, "1").active


def test_variants_that_an_update_does_not_list_are_gone(webhooks):
    both = {"title": "Lamp", "variants": [{"id": 7, "sku": "A"}, {"id": 8, "sku": "B"}]}
    webhooks.send("shopify", "products/update", id="1", at=noon, data=both | {"variants": both["variants"][:1]})
    webhooks.send("shopify", "products/update", id="1", at=noon - minute, data=both)
    webhooks.drain()
    assert [(row.external_id, row.active) for row in webhooks.rows(ShopVariant)] == [("7", True), ("8", False)]


def test_a_webhook_without_its_signature_is_refused(webhooks):
    webhooks.source("shopify")
    assert webhooks.post("shopify", b'{"id": 1}').body["error"] == "signature_missing"


def test_two_shops_never_collide(webhooks):
    for shop in ("north", "south"):
        webhooks.source(shop, dialect="shopify")
        webhooks.send(shop, "products/update", id="1", at=noon, data={"title": shop})
    webhooks.drain()
    assert [row.title for row in webhooks.rows(ShopProduct)] == ["north", "south"]
