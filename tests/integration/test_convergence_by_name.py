"""The hard cases of convergence, in the terms of each dialect, each in every order of arrival."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import permutations
from math import factorial
from typing import Any

import pytest
from histories import new_kit

from handlers.catalog import Group, Option, Product, Variant

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Speech:
    """How a dialect describes a product, and the column that shows it."""

    dialect: str
    created: str
    updated: str
    deleted: str
    member: str
    column: str

    def says(self, value: str) -> dict[str, str]:
        return {self.member: value}


SPEECHES = [
    Speech("sigma", "entity.created", "entity.updated", "entity.deleted", "lifecycleState", "lifecycle_state"),
    Speech("indexed", "product.created", "product.updated", "product.deleted", "name", "name"),
    Speech("iimmpact", "product.created", "product.updated", "product.deleted", "display_name", "name"),
    Speech("sticky", "product.created", "product.updated", "product.deleted", "name", "name"),
]

#: Ids of sticky.io are final: a deleted one never comes back.
COMING_BACK = [speech for speech in SPEECHES if speech.dialect != "sticky"]

every_dialect = pytest.mark.parametrize("speech", SPEECHES, ids=lambda speech: speech.dialect)

#: Event type, id, seconds after noon, data.
News = tuple[str, str, int, Any]


def after(second):
    return NOON + timedelta(seconds=second)


def shown(row):
    return {name: value for name, value in row.model_dump().items() if name not in ("source", "versions")}


@pytest.fixture(scope="module", params=["sqlite"])
def database_system(request) -> str:
    """Use one database, the faster one: the property in test_convergence.py holds on both."""
    return str(request.param)


@pytest.fixture
def in_any_order(lend_database):
    """Return a function that sends events in every order, in one batch and one by one, and returns the common row.

    Each order goes to a source of its own, so that the orders share batches but not rows.
    """

    def in_any_order(dialect: str, news: list[News], table: type, external_id: str) -> Any:
        orders = dict(enumerate(permutations(news)))
        with new_kit(lend_database) as kit:

            def send(source: str, event_type: str, entity: str, second: int, data: Any) -> None:
                kit.send(source, event_type, id=entity, at=after(second), data=data)

            for number in orders:
                for way in ("single", "batched"):
                    kit.source(f"{way}-{number}", dialect=dialect)
            for place in range(len(news)):
                for number, order in orders.items():
                    send(f"single-{number}", *order[place])
                kit.drain()
            for number, order in orders.items():
                for each in order:
                    send(f"batched-{number}", *each)
            kit.drain()
            assert {delivery["state"] for delivery in kit.deliveries()} == {"processed"}
            rows = [row for row in kit.rows(table) if row.external_id == external_id]
        assert len(rows) == 2 * factorial(len(news))
        assert all(shown(row) == shown(rows[0]) for row in rows)
        return rows[0]

    return in_any_order


# ── all four dialects ─────────────────────────────────────────────────────────────────────────────────────────


@every_dialect
def test_a_delete_before_its_create_leaves_a_tombstone_with_the_create_s_values(speech, in_any_order):
    news = [(speech.created, "7", 1, speech.says("new")), (speech.deleted, "7", 2, None)]
    row = in_any_order(speech.dialect, news, Product, "7")
    assert (row.active, row.deactivated_at, getattr(row, speech.column)) == (False, after(2), "new")


@every_dialect
def test_a_late_update_of_a_deleted_product_does_not_revive_it(speech, in_any_order):
    news = [
        (speech.created, "7", 1, speech.says("new")),
        (speech.updated, "7", 2, speech.says("better")),
        (speech.deleted, "7", 3, None),
    ]
    row = in_any_order(speech.dialect, news, Product, "7")
    assert (row.active, getattr(row, speech.column)) == (False, "better")


@every_dialect
def test_a_delete_wins_over_an_update_of_the_same_time(speech, in_any_order):
    news = [(speech.updated, "7", 1, speech.says("new")), (speech.deleted, "7", 1, None)]
    row = in_any_order(speech.dialect, news, Product, "7")
    assert (row.active, row.tie) == (False, False)


@every_dialect
def test_of_two_updates_at_the_same_time_the_later_arrival_wins_as_a_tie_until_newer_news(speech, webhooks):
    for value in ("one", "two"):
        webhooks.send(speech.dialect, speech.updated, id="7", at=NOON, data=speech.says(value))
    webhooks.drain()
    row = webhooks.row(Product, "7")
    assert (getattr(row, speech.column), row.tie) == ("two", True)
    webhooks.send(speech.dialect, speech.updated, id="7", at=after(1), data=speech.says("three"))
    webhooks.drain()
    assert not webhooks.row(Product, "7").tie


@every_dialect
def test_equal_news_at_equal_times_is_not_a_tie(speech, webhooks):
    for event_type in (speech.created, speech.updated):
        webhooks.send(speech.dialect, event_type, id="7", at=NOON, data=speech.says("one"))
    webhooks.drain()
    assert not webhooks.row(Product, "7").tie


@every_dialect
def test_a_duplicate_that_comes_after_newer_news_changes_nothing(speech, webhooks):
    first = {"id": "7", "at": after(1), "data": speech.says("one")}
    webhooks.send(speech.dialect, speech.created, **first)
    webhooks.send(speech.dialect, speech.updated, id="7", at=after(2), data=speech.says("two"))
    webhooks.drain()
    assert webhooks.send(speech.dialect, speech.created, **first).body["status"] == "duplicate"
    webhooks.drain()
    assert getattr(webhooks.row(Product, "7"), speech.column) == "two"


@pytest.mark.parametrize("speech", COMING_BACK, ids=lambda speech: speech.dialect)
def test_a_deleted_product_comes_back_with_newer_news_only(speech, in_any_order):
    news = [
        (speech.created, "7", 1, speech.says("old")),
        (speech.deleted, "7", 2, None),
        (speech.created, "7", 3, speech.says("again")),
    ]
    row = in_any_order(speech.dialect, news, Product, "7")
    assert (row.active, row.deactivated_at, getattr(row, speech.column)) == (True, None, "again")


# ── Sigma ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sigma_a_transition_and_an_update_without_a_state_are_combined(in_any_order):
    news = [
        ("entity.created", "e", 1, {"lifecycleState": "draft"}),
        ("entity.transition", "e", 2, {"fromState": "draft", "toState": "published"}),
        ("entity.updated", "e", 3, {"changedAttributes": ["name"]}),
    ]
    row = in_any_order("sigma", news, Product, "e")
    assert (row.lifecycle_state, row.data["changedAttributes"]) == ("published", ["name"])


def test_sigma_a_late_variant_of_a_deleted_entity_is_inactive(in_any_order):
    news = [
        ("variant.created", "v", 1, {"entityId": "e"}),
        ("variant.updated", "v", 2, {"entityId": "e"}),
        ("entity.deleted", "e", 3, None),
    ]
    row = in_any_order("sigma", news, Variant, "v")
    assert (row.active, row.parent, row.deactivated_at) == (False, "e", after(3))


def test_sigma_a_variant_is_deactivated_with_its_entity_once_the_entity_is_known(in_any_order):
    news = [
        ("variant.updated", "v", 2, {}),
        ("variant.created", "v", 1, {"entityId": "e"}),
        ("entity.deleted", "e", 3, None),
    ]
    assert not in_any_order("sigma", news, Variant, "v").active


def test_sigma_a_variant_created_again_after_its_entity_came_back_is_active(in_any_order):
    news = [
        ("variant.created", "v", 1, {"entityId": "e"}),
        ("entity.deleted", "e", 2, None),
        ("entity.created", "e", 3, {"lifecycleState": "draft"}),
        ("variant.created", "v", 4, {"entityId": "e"}),
    ]
    assert in_any_order("sigma", news, Variant, "v").active


def test_sigma_an_entity_that_comes_back_does_not_bring_its_variants_back(in_any_order):
    news = [
        ("variant.created", "v", 1, {"entityId": "e"}),
        ("entity.deleted", "e", 2, None),
        ("entity.created", "e", 3, {"lifecycleState": "draft"}),
    ]
    assert not in_any_order("sigma", news, Variant, "v").active


# ── Indexed ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_indexed_patches_of_different_members_are_combined(in_any_order):
    news = [
        ("product.created", "p", 1, {"name": "Lamp", "sku": "L-1", "weight": 5}),
        ("product.updated", "p", 2, {"price": "9.90"}),
        ("product.updated", "p", 3, {"name": "Tent", "weight": None}),
    ]
    row = in_any_order("indexed", news, Product, "p")
    assert (row.name, row.sku, str(row.price)) == ("Tent", "L-1", "9.90")
    assert row.data == {"name": "Tent", "sku": "L-1", "weight": None, "price": "9.90", "externalId": "p"}


def test_indexed_patches_of_one_second_are_combined_if_their_members_differ(in_any_order):
    news = [("product.updated", "p", 1, {"name": "Lamp"}), ("product.updated", "p", 1, {"sku": "L-1"})]
    row = in_any_order("indexed", news, Product, "p")
    assert (row.name, row.sku, row.tie) == ("Lamp", "L-1", False)


def test_indexed_a_patch_between_delete_and_return_is_kept_for_the_return(in_any_order):
    news = [
        ("product_group.updated", "g", 1, {"name": "Lamps"}),
        ("product_group.deleted", "g", 2, {}),
        ("product_group.created", "g", 3, {"status": "open"}),
    ]
    row = in_any_order("indexed", news, Group, "g")
    assert (row.active, row.name, row.lifecycle_state) == (True, "Lamps", "open")


def test_indexed_a_product_stays_active_without_its_category(in_any_order):
    news = [
        ("product.created", "p", 1, {"category": {"id": 1, "externalId": "c"}}),
        ("category.deleted", "c", 2, {}),
    ]
    row = in_any_order("indexed", news, Product, "p")
    assert (row.active, row.parent) == (True, "c")


# ── IIMMPACT ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_iimmpact_a_product_that_is_switched_off_and_on_again_is_active(in_any_order):
    news = [
        ("product.created", "p", 1, {"display_name": "Reload"}),
        ("product.updated", "p", 2, {"display_name": "Reload", "is_active": False}),
        ("product.updated", "p", 3, {"display_name": "Reload", "is_active": True}),
    ]
    row = in_any_order("iimmpact", news, Product, "p")
    assert (row.active, row.deactivated_at) == (True, None)


def test_iimmpact_a_product_that_is_switched_off_is_inactive_from_then_on(in_any_order):
    news = [
        ("product.created", "p", 1, {"display_name": "Reload"}),
        ("product.updated", "p", 2, {"display_name": "Reload", "is_active": False}),
    ]
    row = in_any_order("iimmpact", news, Product, "p")
    assert (row.active, row.deactivated_at) == (False, after(2))


def test_iimmpact_an_option_stays_active_without_its_product(in_any_order):
    news = [("option.created", "o", 1, {"label": "RM 10", "product_code": "p"}), ("product.deleted", "p", 2, None)]
    assert in_any_order("iimmpact", news, Option, "o").active


# ── sticky.io ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_sticky_a_late_variant_of_a_deleted_product_is_inactive(in_any_order):
    news = [
        ("product.created", "1", 1, {"name": "Lamp", "variants": [{"id": 5}]}),
        ("variant.updated", "5", 2, {"product_id": 1, "sku_num": "L-1"}),
        ("product.deleted", "1", 3, None),
    ]
    row = in_any_order("sticky", news, Variant, "5")
    assert (row.active, row.sku, row.deactivated_at) == (False, "L-1", after(3))


def test_sticky_a_late_variant_event_does_not_revive_what_a_snapshot_removed(in_any_order):
    news = [
        ("variant.created", "5", 1, {"product_id": 1}),
        ("product.updated", "1", 2, {"name": "Lamp", "variants": [{"id": 6}]}),
    ]
    row = in_any_order("sticky", news, Variant, "5")
    assert (row.active, row.deactivated_at) == (False, after(2))


def test_sticky_a_snapshot_does_not_deactivate_a_variant_with_newer_news(in_any_order):
    news = [
        ("product.updated", "1", 2, {"name": "Lamp", "variants": []}),
        ("variant.created", "5", 3, {"product_id": 1}),
    ]
    assert in_any_order("sticky", news, Variant, "5").active


def test_sticky_a_variant_announced_in_the_second_of_a_snapshot_without_it_stays_active(in_any_order):
    news = [
        ("product.updated", "1", 2, {"name": "Lamp", "variants": []}),
        ("variant.created", "5", 2, {"product_id": 1}),
    ]
    assert in_any_order("sticky", news, Variant, "5").active


def test_sticky_a_bundle_says_nothing_about_variants(in_any_order):
    news = [
        ("variant.created", "5", 1, {"product_id": 1}),
        ("product.updated", "1", 2, {"name": "Bundle", "bundle_type": "Pre-built"}),
    ]
    assert in_any_order("sticky", news, Variant, "5").active


def test_sticky_partial_news_of_a_variant_is_combined(in_any_order):
    news = [
        ("variant.created", "5", 1, {"product_id": 1, "sku_num": "L-1", "price": "10.0000"}),
        ("variant.updated", "5", 2, {"price": "12.5000"}),
        ("bulk.variant.updated", "5", 3, [{"id": 5, "sku_num": "L-2"}, {"id": 6}]),
    ]
    row = in_any_order("sticky", news, Variant, "5")
    assert (row.sku, str(row.price), row.parent) == ("L-2", "12.5000", "1")
