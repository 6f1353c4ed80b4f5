"""Texts that are longer than any index takes: a ready dialect leaves them out of their columns, and never fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from collecting import FIXTURES, columns_of, fixture, fixture_bodies, writes_of
from vendor_bodies import kept

from handlers.iimmpact import iimmpact
from handlers.indexed import indexed
from handlers.sigma import EntityRecord, sigma
from handlers.sticky import sticky
from receiver import Dialect, Discard, Envelope, Unreadable
from receiver.mirror.rows import indexed_texts
from vendors.akeneo import akeneo, akeneo_events
from vendors.bigcommerce import bigcommerce
from vendors.github import github
from vendors.shopify import shopify
from vendors.standard import standard
from vendors.stripe import stripe
from vendors.woocommerce import woocommerce

LONG = "x" * 4_000

DIALECTS = [
    *(sigma, indexed, iimmpact, sticky),
    *(akeneo, akeneo_events, bigcommerce, github, shopify, standard, stripe, woocommerce),
]


def with_a_long_text(value: Any) -> Iterator[Any]:
    """Yield copies of the JSON value, each with a long text in place of another text or number."""
    if isinstance(value, dict):
        yield from (value | {name: copy} for name, inner in value.items() for copy in with_a_long_text(inner))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from ([*value[:place], copy, *value[place + 1 :]] for copy in with_a_long_text(inner))
    elif not isinstance(value, bool):
        yield LONG


def written(dialect: Dialect, body: Any) -> list[Any]:
    """Return the writes of the body; none if it has nothing for the mirror, or a name or time is not valid."""
    content = kept(dialect, body)
    try:
        read = dialect.read(content)
        if isinstance(read, Envelope) and (read.entity is None or dialect.handler_for(read.event_type) is None):
            return []
        return writes_of(dialect, content)
    except Discard:
        return []
    except Unreadable as error:
        if "has an index" in str(error) or "`parent` is longer" in str(error):
            raise
        return []


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_no_long_text_in_a_body_of_a_ready_dialect_makes_a_row_that_an_index_refuses(dialect):
    tried = 0
    for name in fixture_bodies(dialect.name):
        for body in with_a_long_text(json.loads((FIXTURES / dialect.name / f"{name}.json").read_bytes())):
            for write in written(dialect, body):
                tried += 1
                assert LONG not in map(write.columns.get, indexed_texts(write.key.table))
    assert tried > 0


@pytest.mark.parametrize(
    ("event", "member", "column"),
    [
        ("product.updated", "product_code", "sku"),
        ("product.updated", "product_category_code", "parent"),
        ("option.updated", "product_code", "parent"),
        ("category.updated", "group_id", "parent"),
    ],
)
def test_a_long_code_of_iimmpact_is_null_in_its_column_and_stays_in_the_data(event, member, column):
    body = fixture("iimmpact", event)
    row = columns_of(iimmpact, body | {"data": body["data"] | {member: LONG}})
    assert (row[column], row["data"][member]) == (None, LONG)


@pytest.mark.parametrize("parent", [LONG, "", True, 1.5], ids=["long", "empty", "flag", "fraction"])
def test_a_parent_that_is_no_id_is_null_in_its_column_and_stays_in_the_data(parent):
    body = fixture("indexed", "product.updated")
    row = columns_of(indexed, body | {"product": body["product"] | {"category": {"externalId": parent}}})
    # An empty id counts as none, as in every relation that says nothing.
    assert row.get("parent") is None
    assert row["data"]["category"] == {"externalId": parent}

    body = fixture("sigma", "variant.updated")
    row = columns_of(sigma, body | {"data": body["data"] | {"entityId": parent}})
    assert (row["parent"], row["data"]["entityId"]) == (None, parent)

    body = fixture("sticky", "variant.updated")
    changed = body["data"] | {"object": body["data"]["object"] | {"product_id": parent}}
    row = columns_of(sticky, body | {"data": changed})
    assert (row.get("parent"), row["data"]["product_id"]) == (None, parent)


@pytest.mark.parametrize("parent", [LONG, "", True, 1.5], ids=["long", "empty", "flag", "fraction"])
@pytest.mark.parametrize(
    ("event", "member"),
    [
        ("product.updated", "product_category_code"),
        ("option.updated", "product_code"),
        ("category.updated", "group_id"),
    ],
)
def test_a_parent_s_code_that_is_no_id_is_null_for_iimmpact(event, member, parent):
    body = fixture("iimmpact", event)
    row = columns_of(iimmpact, body | {"data": body["data"] | {member: parent}})
    assert (row["parent"], row["data"][member]) == (None, parent)


@pytest.mark.parametrize("parent", [LONG, "", True, 1.5], ids=["long", "empty", "flag", "fraction"])
@pytest.mark.parametrize(("kind", "name"), [("product", "uuid"), ("product_model", "code")])
def test_a_parent_s_code_that_is_no_id_is_null_for_akeneo(kind, name, parent):
    resource = {name: "lamp", "parent": parent}
    event = {"action": f"{kind}.updated", "event_id": "e1", "event_datetime": "2026-06-01T12:00:00Z"}
    row = columns_of(akeneo_events, {"events": [event | {"data": {"resource": resource}}]})
    assert (row["parent"], row["data"]["parent"]) == (None, parent)


def test_a_long_sku_of_a_record_of_sigma_is_null_in_its_column():
    record = EntityRecord.model_validate({"id": "e1", "values": {"sku": [{"scope": {}, "value": LONG}]}})
    assert (record.columns()["sku"], record.columns()["data"]["values"]["sku"][0]["value"]) == (None, LONG)


@pytest.mark.parametrize(("text", "sku"), [("x" * 512, "x" * 512), ("x" * 513, None), (49, "49")])
def test_a_sku_has_at_most_as_many_characters_as_an_id(text, sku):
    body = fixture("iimmpact", "product.updated")
    assert columns_of(iimmpact, body | {"data": body["data"] | {"product_code": text}})["sku"] == sku
