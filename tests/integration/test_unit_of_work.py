"""The apply path on a real database: the effect of news on the mirror and its change feed.

Each test runs twice: with each delivery in a batch of its own on SQLite, and with all in one batch on PostgreSQL.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import permutations

import pytest
from telling import NOON, Shop, shop

from handlers.catalog import Variant
from receiver.codec import encode
from receiver.testing import Webhooks


@pytest.fixture
def catalog(database_system, tmp_path, mirror_url):
    kit = Webhooks(tmp_path, {"shop": shop}, database_url=mirror_url)
    yield Shop(kit, one_by_one=database_system == "sqlite")
    kit.close()


def after(second):
    return NOON + timedelta(seconds=second)


# ── the change feed ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_feed_has_each_change_with_the_earlier_values(catalog):
    catalog.tell("product.updated", "A1", 1, {"name": "Lamp", "price": "9.90"})
    catalog.tell("product.updated", "A1", 2, {"price": "10.0000"})
    catalog.tell("product.deleted", "A1", 3)
    catalog.tell("product.updated", "A1", 4, {"name": "Tent"})
    told = [(entry["operation"], entry["before"], entry["after"]) for entry in catalog.feed()]
    assert [(told[0][0], told[0][1])] == [("insert", {})]
    assert {name: value for name, value in told[0][2].items() if value is not None} == {
        "active": True,
        "name": "Lamp",
        "price": "9.90",
    }
    assert told[1:] == [
        ("update", {"price": "9.90"}, {"price": "10.0000"}),
        ("deactivate", {"active": True}, {"active": False}),
        ("reactivate", {"active": False, "name": "Lamp"}, {"active": True, "name": "Tent"}),
    ]


def test_a_change_names_its_delivery_and_its_time(catalog):
    delivery = catalog.tell("product.updated", "A1", 5, {"name": "Lamp"})
    (entry,) = catalog.feed()
    assert (entry["table"], entry["source"], entry["external_id"]) == ("products", "shop", "A1")
    assert (str(entry["delivery_id"]), entry["changed_at"]) == (delivery, after(5))


def test_changes_are_in_the_order_of_their_commits(catalog):
    for number in range(5):
        catalog.tell("product.updated", f"A{number}", -number)
    feed = catalog.feed()
    assert [entry["external_id"] for entry in feed] == [f"A{number}" for number in range(5)]
    assert [entry["seq"] for entry in feed] == sorted({entry["seq"] for entry in feed})


def test_news_without_a_visible_change_is_not_in_the_feed(catalog):
    catalog.tell("product.updated", "A1", 2, {"name": "Lamp"})
    same, stale = (catalog.tell("product.updated", "A1", second, {"name": "Lamp"}) for second in (3, 1))
    assert len(catalog.feed()) == 1
    assert (catalog.outcome(same), catalog.outcome(stale)) == ("unchanged", "stale")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"stock": 1, "on": True, "a": [0]}, {"stock": True, "on": 1, "a": [False]}),
        ({"stock": 1}, {"stock": Decimal("1.0")}),
        ({"price": Decimal("1.0")}, {"price": Decimal("1.00")}),
    ],
    ids=["booleans for numbers", "a fraction for a whole number", "another digit"],
)
@pytest.mark.parametrize("event_type", ["product.updated", "product.patched"])
def test_a_document_that_only_python_takes_for_the_same_is_a_change(catalog, event_type, old, new):
    catalog.tell("product.updated", "A1", 1, {"data": old})
    delivery = catalog.tell(event_type, "A1", 2, {"data": new} if event_type == "product.updated" else new)
    assert [encode([each["before"]["data"], each["after"]["data"]]) for each in catalog.feed()[1:]] == [
        encode([old, new])
    ]
    assert (catalog.outcome(delivery), encode(catalog.product().data)) == ("applied", encode(new))


def test_the_delete_of_a_parent_makes_a_change_for_each_child(catalog):
    catalog.tell("variant.updated", "V2", 1, {"parent": "A1"})
    catalog.tell("variant.updated", "V1", 1, {"parent": "A1"})
    catalog.tell("variant.updated", "V3", 1, {"parent": "A2"})
    delivery = catalog.tell("product.deleted", "A1", 2)
    told = [entry for entry in catalog.feed() if str(entry["delivery_id"]) == delivery]
    assert [(entry["external_id"], entry["operation"]) for entry in told] == [
        ("A1", "insert"),
        ("V1", "deactivate"),
        ("V2", "deactivate"),
    ]


# ── outcomes ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_news_that_only_deactivates_children_is_applied(catalog):
    catalog.tell("product.snapshot", "A1", 1, ["V1", "V2"])
    fewer = catalog.tell("product.snapshot", "A1", 2, ["V2"])
    assert not catalog.variant("V1").active
    assert catalog.outcome(fewer) == "applied"


def test_a_late_delete_that_only_deactivates_children_is_applied(catalog):
    catalog.tell("variant.updated", "V1", 1, {"parent": "A1"})
    catalog.tell("product.updated", "A1", 3)
    late = catalog.tell("product.deleted", "A1", 2)
    assert (catalog.product().active, catalog.variant().active) == (True, False)
    assert catalog.outcome(late) == "applied"


def test_news_that_only_revives_a_child_after_its_parent_s_delete_is_applied(catalog):
    catalog.tell("variant.updated", "V1", 1, {"parent": "A1"})
    catalog.tell("product.deleted", "A1", 2)
    back = catalog.tell("variant.updated", "V1", 3, {"parent": "A1"})
    assert catalog.variant().active
    assert catalog.outcome(back) == "applied"


# ── tombstones ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_delete_before_its_create_leaves_a_tombstone_that_the_create_fills(catalog):
    catalog.tell("product.deleted", "A1", 2)
    catalog.tell("product.updated", "A1", 1, {"name": "Lamp"})
    row = catalog.product()
    assert (row.active, row.name, row.deactivated_at) == (False, "Lamp", after(2))


def test_a_delete_of_an_unknown_row_is_a_tombstone(catalog):
    catalog.tell("product.deleted", "A1", 2)
    row = catalog.product()
    assert (row.active, row.changed_at, row.deactivated_at) == (False, after(2), after(2))


def test_a_late_update_fills_a_column_without_reviving_the_row(catalog):
    catalog.tell("product.updated", "A1", 1, {"name": "Lamp"})
    catalog.tell("product.deleted", "A1", 3)
    late = catalog.tell("product.updated", "A1", 2, {"sku": "L-1"})
    row = catalog.product()
    assert (row.active, row.name, row.sku, row.deactivated_at) == (False, "Lamp", "L-1", after(3))
    assert catalog.outcome(late) == "applied"


def test_newer_news_revives_a_row_and_clears_its_deactivation(catalog):
    for second, event_type in [(1, "product.updated"), (2, "product.deleted"), (3, "product.updated")]:
        catalog.tell(event_type, "A1", second)
    row = catalog.product()
    assert (row.active, row.deactivated_at, row.changed_at) == (True, None, after(3))


def test_a_delete_wins_over_an_update_of_the_same_time_without_a_tie(catalog):
    catalog.tell("product.deleted", "A1", 1)
    catalog.tell("product.updated", "A1", 1)
    row = catalog.product()
    assert (row.active, row.tie) == (False, False)


# ── children ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_late_child_of_a_deleted_parent_is_inactive_as_of_the_delete(catalog):
    catalog.tell("product.deleted", "A1", 2)
    catalog.tell("variant.updated", "V1", 1, {"parent": "A1", "name": "blue"})
    row = catalog.variant()
    assert (row.active, row.name, row.deactivated_at) == (False, "blue", after(2))


def test_a_child_with_newer_news_stays_active_after_its_parent_s_delete(catalog):
    catalog.tell("product.deleted", "A1", 2)
    catalog.tell("variant.updated", "V1", 3, {"parent": "A1"})
    assert catalog.variant().active


def test_a_child_whose_parent_becomes_known_later_is_deactivated_with_it(catalog):
    catalog.tell("product.deleted", "A1", 3)
    catalog.tell("variant.updated", "V1", 1, {"name": "blue"})
    assert catalog.variant().active
    catalog.tell("variant.updated", "V1", 2, {"parent": "A1"})
    assert not catalog.variant().active


MOVED = [("variant.updated", "V1", 1, {"parent": "A1"}), ("variant.updated", "V1", 2, {"parent": "A2"})]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_child_that_moved_away_stays_active_when_its_old_parent_is_deleted(catalog, order):
    news = [*MOVED, ("product.deleted", "A1", 3)]
    for number in order:
        catalog.tell(*news[number])
    row = catalog.variant()
    assert (row.parent, row.active) == ("A2", True)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_child_that_moved_is_deactivated_with_its_new_parent(catalog, order):
    news = [*MOVED, ("product.deleted", "A2", 3)]
    for number in order:
        catalog.tell(*news[number])
    row = catalog.variant()
    assert (row.parent, row.active, row.deactivated_at) == ("A2", False, after(3))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_child_that_moves_away_from_a_deleted_parent_is_active_again(catalog, order):
    news = [MOVED[0], ("product.deleted", "A1", 2), ("variant.updated", "V1", 3, {"parent": "A2"})]
    for number in order:
        catalog.tell(*news[number])
    assert catalog.variant().active


# ── full snapshots ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_full_snapshot_deactivates_the_children_that_it_does_not_list(catalog):
    catalog.tell("product.snapshot", "A1", 1, ["V1", "V2"])
    catalog.tell("product.snapshot", "A1", 2, ["V2"])
    gone = catalog.variant("V1")
    assert (gone.active, gone.deactivated_at) == (False, after(2))
    assert catalog.variant("V2").active


def test_a_full_snapshot_does_not_deactivate_children_with_newer_news(catalog):
    catalog.tell("variant.updated", "V1", 3, {"parent": "A1"})
    catalog.tell("product.snapshot", "A1", 2, [])
    assert catalog.variant().active


def test_an_older_child_event_does_not_revive_what_a_full_snapshot_deactivated(catalog):
    catalog.tell("product.snapshot", "A1", 2, ["V2"])
    catalog.tell("variant.updated", "V1", 1, {"parent": "A1"})
    assert not catalog.variant("V1").active


def test_a_full_snapshot_does_not_change_the_children_of_other_parents(catalog):
    catalog.tell("variant.updated", "V1", 1, {"parent": "A2"})
    catalog.tell("product.snapshot", "A1", 2, [])
    assert catalog.variant().active


def test_a_late_snapshot_does_not_revive_a_child_that_was_deleted(catalog):
    catalog.tell("variant.deleted", "V1", 2)
    catalog.tell("product.snapshot", "A1", 1, ["V1"])
    row = catalog.variant()
    assert (row.active, row.parent) == (False, "A1")


# ── ties and partial news ─────────────────────────────────────────────────────────────────────────────────────


def test_different_values_at_equal_times_are_a_tie_that_newer_news_clears(catalog):
    catalog.tell("product.updated", "A1", 1, {"name": "Lamp"})
    later = catalog.tell("product.updated", "A1", 1, {"name": "Tent"})
    row = catalog.product()
    assert (row.name, row.tie, catalog.outcome(later)) == ("Tent", True, "tie")
    catalog.tell("product.updated", "A1", 2, {"name": "Tent"})
    assert not catalog.product().tie


def test_a_tie_of_one_column_is_not_cleared_by_news_about_another(catalog):
    for name in ("Lamp", "Tent"):
        catalog.tell("product.updated", "A1", 1, {"name": name})
    catalog.tell("product.updated", "A1", 2, {"sku": "T-1"})
    assert catalog.product().tie


PARTIAL = [
    ("product.updated", "A1", 1, {"name": "Lamp", "sku": "L-1"}),
    ("product.updated", "A1", 2, {"price": "9.90"}),
    ("product.updated", "A1", 3, {"name": "Tent"}),
    ("product.patched", "A1", 4, {"color": "red", "size": "S"}),
    ("product.patched", "A1", 5, {"size": "M"}),
]


@pytest.mark.parametrize("order", list(permutations(range(5)))[::17])
def test_partial_news_in_any_order_ends_the_same(catalog, order):
    for number in order:
        catalog.tell(*PARTIAL[number])
    row = catalog.product()
    assert (row.name, row.sku, row.price, row.changed_at) == ("Tent", "L-1", Decimal("9.90"), after(5))
    assert row.data == {"color": "red", "size": "M"}


def test_a_text_that_is_too_long_for_its_index_makes_only_its_own_delivery_dead_at_once(catalog):
    long = catalog.tell("product.updated", "A1", 1, {"sku": "x" * 2_049})
    parent = catalog.tell("variant.updated", "V1", 1, {"parent": "x" * 513})
    catalog.tell("product.updated", "A2", 1, {"sku": "x" * 2_048})
    assert catalog.product("A2").sku == "x" * 2_048
    told = [catalog.kit.delivery(each) for each in (long, parent)]
    assert [(each["state"], each["attempts_made"]) for each in told] == [("dead", 1)] * 2
    assert "`sku` has an index, which takes at most 2,048 bytes" in told[0]["reason"]
    assert "`parent` is longer than 512 characters" in told[1]["reason"]


# ── exact values ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("digits", ["10.0000", "0.10", "12", "0.0000001", "99999999999999999999.999999"])
def test_a_price_keeps_its_digits(catalog, digits):
    catalog.tell("product.updated", "A1", 1, {"price": digits, "data": {"price": Decimal(digits)}})
    row = catalog.product()
    assert [Decimal(price).as_tuple() for price in (row.price, row.data["price"])] == [Decimal(digits).as_tuple()] * 2
    assert catalog.feed()[0]["after"]["price"] == digits


def test_a_price_with_more_digits_keeps_them(catalog):
    for second, digits in enumerate(["10.0", "10.00"]):
        catalog.tell("product.updated", "A1", second, {"price": digits})
    assert str(catalog.product().price) == "10.00"


@pytest.mark.parametrize(("digits", "kept"), [("-0", "0"), ("-0.00", "0.00"), ("0E+5", "0"), ("1E+2", "100")])
def test_the_same_price_again_is_unchanged_however_the_number_is_written(catalog, digits, kept):
    first, *others = (catalog.tell("product.updated", "A1", second, {"price": digits}) for second in (1, 2, 3))
    assert [catalog.outcome(each) for each in (first, *others)] == ["applied", "unchanged", "unchanged"]
    assert [entry["after"]["price"] for entry in catalog.feed()] == [kept]


def test_a_nul_becomes_a_replacement_character_in_text_and_ids_and_stays_in_the_data(catalog):
    catalog.tell("product.updated", "A\0", 1, {"name": "a\0b", "data": {"name": "a\0b"}})
    row = catalog.product("A\ufffd")
    assert (row.name, row.data) == ("a\ufffdb", {"name": "a\0b"})


def test_text_beyond_the_basic_plane_is_kept(catalog):
    catalog.tell("product.updated", "A1", 1, {"name": "grün 🙂"})
    assert catalog.product().name == "grün 🙂"


def test_half_a_surrogate_pair_becomes_a_replacement_character_in_ids_text_and_data(catalog):
    columns = {"name": "x", "data": {"x": "x"}}
    body = encode({"type": "product.updated", "id": "x", "timestamp": NOON, "data": columns})
    catalog.kit.source("shop")
    assert catalog.kit.send_body("shop", body.replace(b'"x"', b'"\\ud800"')).status == 200
    row = catalog.product("\ufffd")
    assert (row.name, row.data) == ("\ufffd", {"\ufffd": "\ufffd"})


def test_two_sources_of_one_dialect_never_collide(catalog):
    for name in ("shop-eu", "shop-us"):
        catalog.kit.source(name, dialect="shop")
        catalog.tell("product.updated", "A1", 1, {"name": name}, source=name)
        catalog.tell("variant.updated", "V1", 1, {"parent": "A1"}, source=name)
    catalog.tell("product.deleted", "A1", 2, source="shop-us")
    found = {name: catalog.product(source=name) for name in ("shop-eu", "shop-us")}
    assert {source: row.name for source, row in found.items()} == {"shop-eu": "shop-eu", "shop-us": "shop-us"}
    assert {source: row.active for source, row in found.items()} == {"shop-eu": True, "shop-us": False}
    assert {row.source: row.active for row in catalog.kit.rows(Variant)} == {"shop-eu": True, "shop-us": False}


def test_more_rows_than_one_query_takes_are_changed_in_one_batch(tmp_path, mirror_url):
    kit = Webhooks(tmp_path, {"shop": shop}, database_url=mirror_url)
    many = [f"V{number}" for number in range(1_200)]
    kit.send("shop", "product.snapshot", id="A1", at=after(1), data=many)
    kit.drain()
    kit.send("shop", "product.snapshot", id="A1", at=after(2), data=many[:1])
    kit.drain()
    assert [row.external_id for row in kit.rows(Variant) if row.active] == ["V0"]
    kit.close()
