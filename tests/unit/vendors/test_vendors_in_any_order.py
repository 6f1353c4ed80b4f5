"""Properties of every ready dialect: changes in any order leave the same rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from collecting import rows_after, writes_of
from vendor_bodies import kept

from receiver import Dialect
from vendors.akeneo import akeneo_events
from vendors.shopify import shopify
from vendors.standard import standard
from vendors.stripe import stripe
from vendors.woocommerce import woocommerce

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

Told = tuple[str, str, dict[str, Any] | None]

#: The changes of one thing, one each hour.
HISTORIES: dict[Dialect, list[Told]] = {
    shopify: [
        ("products/update", "7", {"title": "A", "variants": [{"id": 1, "price": "1"}, {"id": 2, "price": "2"}]}),
        ("products/update", "7", {"title": "B", "status": "draft"}),
        ("products/update", "7", {"title": "C", "variants": [{"id": 2, "price": "3"}]}),
        ("inventory_levels/update", "5:6", {"available": 3}),
        ("inventory_levels/update", "5:6", {"available": 1}),
    ],
    standard: [
        ("product.created", "7", {"name": "A", "price": 1}),
        ("product.updated", "7", {"price": 2}),
        ("product.deleted", "7", None),
        ("variant.created", "8", {"product_id": "7", "name": "A, red"}),
        ("product.updated", "7", {"name": "B"}),
    ],
    stripe: [
        ("product.created", "prod_7", {"name": "A", "active": True}),
        ("price.created", "price_1", {"product": "prod_7", "unit_amount": 100}),
        ("product.updated", "prod_7", {"name": "B", "active": False}),
        ("product.deleted", "prod_7", None),
        ("price.updated", "price_1", {"unit_amount": 200}),
    ],
    woocommerce: [
        ("product.updated", "7", {"name": "A", "stock_quantity": 1}),
        ("product.updated", "8", {"type": "variation", "parent_id": 7, "name": "A, red"}),
        ("product.updated", "7", {"name": "B", "price": "2.50", "stock_quantity": 2}),
        ("product.updated", "8", {"type": "variation", "parent_id": 7, "sku": "R"}),
    ],
    akeneo_events: [
        ("product.created", "u7", {"identifier": "a", "parent": "m"}),
        ("product_model.created", "m", {"values": {}}),
        ("product.updated", "u7", {"identifier": "b", "enabled": False}),
        ("product.removed", "u7", None),
        ("product_model.removed", "m", None),
    ],
}


@pytest.mark.parametrize("dialect", HISTORIES, ids=lambda dialect: dialect.name)
def test_changes_in_any_order_leave_the_same_rows(dialect: Dialect):
    bodies = [
        kept(dialect, dialect.write(event_type, entity_id, at=NOON + timedelta(hours=hours), data=data))
        for hours, (event_type, entity_id, data) in enumerate(HISTORIES[dialect])
    ]
    in_order = rows_in(dialect, bodies)
    assert in_order
    for order in permutations(bodies):
        assert rows_in(dialect, order) == in_order


def rows_in(dialect: Dialect, bodies: Any) -> dict[tuple[str, str], dict[str, Any]]:
    writes = [write for arrival, body in enumerate(bodies, 1) for write in writes_of(dialect, body, arrival=arrival)]
    return rows_after(writes)
