import ast
import json
import re

import pytest
from captured import CAPTURED
from hypothesis import given
from hypothesis import strategies as some

from examples import examples
from receiver.drafting.captures import capture_of
from receiver.drafting.draft import draft
from receiver.drafting.event_types import guess_event_types
from receiver.drafting.search import VERB
from receiver.errors import ConfigurationError


def drafted(name, *, headers=None):
    body, captured = CAPTURED[name]
    return draft(name, capture_of(body.encode(), captured | (headers or {}), name=name), origin="a test")


def envelope(name):
    text = drafted(name).files[f"{name}.py"].decode()
    return dict(re.findall(r"^        (\w+)=(.+),$", text, re.M))


def test_the_parts_of_an_envelope_are_found_by_their_names():
    assert envelope("kiln") == {
        "event_type": "body.what",
        "entity": '("item", body.item)',
        "occurred_at": "body.when",
        "data": "body.content",
        "dedup_key": "body.message",
    }


def test_the_id_of_the_entity_is_not_taken_for_the_dedup_key():
    found = envelope("loom")
    assert (found["entity"], found["dedup_key"]) == ('("product", body.data["object"]["id"])', "body.id")


def test_an_id_with_the_name_of_the_kind_is_that_of_the_entity():
    assert envelope("stove")["entity"] == '("stove", body.stove)'


@pytest.mark.parametrize(
    ("body", "entity"),
    [
        ({"action": "published", "space_id": 606, "story_id": 107}, '("story", str(body["story_id"]))'),
        ({"event": "product.updated", "shop_id": 1, "category_id": 5, "product_id": 7}, "product_id"),
        ({"event": "actionProductUpdate", "id_shop": 1, "id_product": 12}, "id_product"),
        ({"event": "shop.updated", "owner_id": 1, "shop_id": 2}, "shop_id"),
        ({"type": "entries.changed", "user": {"id": 1}, "offer_id": 9}, "offer_id"),
        ({"sys": {"id": "5K", "type": "Entry"}, "fields": {"name": {"de": "Lampe"}}}, '["sys"]["id"]'),
        ({"op": "u", "before": {"id": 3, "n": 1}, "after": {"id": 3, "n": 2}}, '(body.after or body.before)["id"]'),
    ],
)
def test_the_id_of_a_thing_in_a_catalog_is_preferred_to_those_of_accounts_and_other_things(body, entity):
    made = draft("shop", capture_of(json.dumps(body).encode(), {}, name="shop"), origin="a test")
    (line,) = re.findall(r"^        entity=(.+),$", made.files["shop.py"].decode(), re.M)
    assert entity in line


@pytest.mark.parametrize(
    "body",
    [
        {"specversion": "1.0", "id": "e1", "type": "item.updated.v1", "time": "2026-06-01T12:00:00Z", "data": {}},
        {"object": "catalog", "entry": [{"id": "0", "changes": [{"field": "products"}]}]},
    ],
)
def test_neither_the_id_of_a_cloud_event_nor_a_word_for_a_kind_is_the_id_of_the_entity(body):
    made = draft("shop", capture_of(json.dumps(body).encode(), {}, name="shop"), origin="a test")
    assert any(line.startswith("entity: no member looks like an id") for line in made.unknown)


def test_the_id_of_a_cloud_event_recognises_duplicates():
    body = {"specversion": "1.0", "id": "e1", "type": "item.updated", "time": "2026-06-01T12:00:00Z"}
    made = draft("shop", capture_of(json.dumps(body | {"data": {"sku": "L"}}).encode(), {}, name="s"), origin="a test")
    assert "id of the change, for duplicates: `id`" in made.guessed


def test_the_subject_of_a_cloud_event_is_its_entity_if_the_data_has_no_id():
    body = {"specversion": "1.0", "id": "e1", "type": "item.updated", "subject": "items/42", "data": {"price": 5}}
    made = draft("shop", capture_of(json.dumps(body).encode(), {}, name="s"), origin="a test")
    assert "entity: `item`, with its id in `subject`" in made.guessed


def test_a_verb_is_joined_with_the_table_beside_it():
    body = {"type": "UPDATE", "table": "products", "record": {"id": 7, "updated_at": "2026-06-01T12:00:00+00:00"}}
    made = draft("shop", capture_of(json.dumps(body).encode(), {}, name="s"), origin="a test")
    assert "event type: `type` behind `table` (products.UPDATE)" in made.guessed


@pytest.mark.parametrize(("member", "is_time"), [("eventCreated", True), ("created_by", False), ("storeId", False)])
def test_a_number_is_a_time_if_its_name_ends_like_one(member, is_time):
    body = {"eventType": "product.updated", "entityId": 7, member: 1780315200}
    made = draft("shop", capture_of(json.dumps(body).encode(), {}, name="s"), origin="a test")
    assert (f"time of the change: `{member}`" in made.guessed) is is_time


def test_a_time_of_expiry_and_the_id_of_a_subscription_are_not_those_of_the_change():
    found = envelope("silt")
    assert found["event_type"] == 'change["changeType"]'
    assert found["entity"].endswith('change["resource"])')
    assert 'change["lastModifiedDateTime"]' in found["occurred_at"]


def test_the_fixture_of_a_body_with_two_events_about_one_entity_expects_no_values_of_the_first():
    (name,) = [name for name in drafted("silt").files if name.endswith(".expected.json")]
    (row,) = json.loads(drafted("silt").files[name])["rows"]
    assert row.keys() == {"table", "external_id"}


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        (b"hush", 'Token(body="value[].state")'),
        (b"s", 'Token(body="value[].subscriptionId")'),
        (b"x", "--header"),
    ],
)
def test_a_secret_in_the_body_is_found(secret, told):
    body, headers = CAPTURED["silt"]
    made = draft("silt", capture_of(body.encode(), headers, name="silt"), origin="a test", secrets=[secret])
    assert told in made.unknown[0]


def test_a_header_that_seems_to_carry_the_secret_is_told_with_its_verifier():
    assert 'write Token(header="X-Pump-Token")' in drafted("pump").unknown[0]


def test_no_column_hides_a_type_or_a_parameter_of_upsert():
    text = drafted("sled").files["sled.py"].decode()
    assert re.findall(r"^    (\w+): .* = (?:None|\w+_field\(\))$", text, re.M)[:7] == [
        *("none_at", "none_table", "self", "none_datetime", "none_str", "none_int", "none_list")
    ]


def of_body(body, headers=()):
    """Return the draft of a body: the text of its module, and the rows that its fixture expects."""
    made = draft("shop", capture_of(json.dumps(body).encode(), dict(headers), name="it"), origin="a test").files
    (name,) = [name for name in made if name.endswith(".expected.json")]
    return made["shop.py"].decode(), json.loads(made[name])["rows"]


def test_no_column_has_a_name_that_sqlalchemy_keeps_for_itself():
    text, _ = of_body({"type": "list.updated", "data": {"id": "A1", "registry": "gifts"}})
    assert "    list_registry: str | None = None" in text


def test_the_fixture_expects_an_id_with_a_nul_as_the_mirror_keeps_it():
    _, (row,) = of_body({"type": "product.updated", "data": {"id": "A\0"}})
    assert row["external_id"] == "A\ufffd"


def test_an_id_that_looks_like_a_time_is_not_read_as_the_time_too():
    text, _ = of_body({"ID": "2026-06-01T12:00:00Z", "name": "Lamp"})
    assert "occurred_at=ARRIVAL" in text


def test_a_header_with_other_than_ascii_is_not_taken_for_an_event_type():
    text, _ = of_body({"id": "A1"}, {"X-Shop-Topic": "ünit.updated"})
    assert "trusts_header" not in text


def test_a_member_around_the_object_is_broken_into_lines_that_are_not_too_long():
    inside = {"variants": "2026-06-01 12:00:00", "entityId": "007", "mirror": "x"}
    text, _ = of_body({"type": "updated", "type_": 0, "body": inside, "event_type": "order.completed"})
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("member", ["HasStockKeepingUnitRemovedFromAffiliate", "removed" * 8, "gone!" * 20])
def test_a_member_with_a_long_name_is_broken_into_lines_that_are_not_too_long(member):
    text, _ = of_body({"id": 1, "event": "sku.updated", member: True})
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(("name", "table"), [("sled", "NoneRow"), ("dray", "DiscardRow")])
def test_no_table_has_the_name_of_a_keyword_or_an_import(name, table):
    assert f"class {table}(MirrorRow, table=True):" in drafted(name).files[f"{name}.py"].decode()


def test_the_event_type_is_not_taken_for_the_id_of_an_entity():
    capture = capture_of(b'{"event": "event.updated", "on": "2026-06-01T12:00:00Z"}', {}, name="dais")
    assert b"entity=None" in draft("dais", capture, origin="a test").files["dais.py"]


def test_an_object_inside_an_object_beside_an_account_is_the_entity():
    assert envelope("pier")["entity"] == '("ship", body.payload["object"]["id"])'


def test_an_object_named_in_the_event_type_is_the_entity():
    found = envelope("vats")
    assert (found["entity"], found["dedup_key"]) == (
        '("article", body.article["articleNumber"])',
        "body.notification_id",
    )


def test_a_body_without_a_time_is_dated_by_its_arrival():
    assert envelope("quay")["occurred_at"] == "ARRIVAL"
    assert any(line.startswith("time of the change") for line in drafted("quay").unknown)


def test_an_event_type_that_is_only_a_verb_is_joined_with_the_kind_beside_it():
    assert envelope("quay")["event_type"] == 'f"{body.model}.{body.action}"'


def test_a_verb_and_a_kind_of_a_body_without_a_model_are_joined_as_formatters_write_it():
    assert envelope("bark")["event_type"] == """f"{body['model']}.{body['action']}\""""


def test_an_event_type_in_a_header_is_trusted_and_reported():
    text = drafted("mill").files["mill.py"].decode()
    assert 'trusts_header="X-Mill-Topic"' in text
    assert any("X-Mill-Topic is signed" in line for line in drafted("mill").unknown)
    assert json.loads(drafted("mill").files["fixtures/mill/products-update.headers.json"]) == {
        "X-Mill-Topic": "products/update"
    }


def test_each_item_of_a_bundle_is_read_separately():
    assert 'return each(body["events"], read_change)' in drafted("oven").files["oven.py"].decode()


def made_of(body, **headers):
    return draft("comm", capture_of(json.dumps(body).encode(), headers, name="comm"), origin="a test")


def test_a_huge_number_in_a_capture_is_no_time_and_becomes_text():
    body = b'{"type": "lamp.updated", "at": 1e9999, "data": {"id": "1", "weight": 1e9999, "price": 1e9999}}'
    made = draft("comm", capture_of(body, {}, name="comm"), origin="a test")
    assert "occurred_at=ARRIVAL" in made.files["comm.py"].decode()
    assert b'"weight": "1E+9999"' in made.files["fixtures/comm/lamp.updated.expected.json"]


EVENT = {"event_id": "e1", "event": "ProductPublished", "occurred": "2026-06-01T12:00:00Z", "object": {"id": "p1"}}


@pytest.mark.parametrize(
    ("body", "path", "code"),
    [
        ({"batch": {"items": [EVENT, EVENT]}, "sent_at": "2026-06-01T13:00:00Z"}, "batch.items", '["batch"]["items"]'),
        (
            {"deeply": {"in": {"the": {"lines": [EVENT, EVENT]}}}},
            "deeply.in.the.lines",
            '["deeply"]["in"]["the"]["lines"]',
        ),
    ],
)
def test_a_list_of_events_is_found_below_other_members(body, path, code):
    made = made_of(body)
    module = made.files["comm.py"].decode()
    assert f"return each(body{code}, read_change)" in module
    assert f"several events in one body: 2 items in `{path}`" in made.guessed
    assert "sent" not in module


@pytest.mark.parametrize(
    "body",
    [
        {"event": "order.updated", "id": 1, "order": {"items": [EVENT]}},
        {"order": {"items": [{"id": 1, "type": "gift", "created_at": "2026-06-01T12:00:00Z"}]}, "id": 1},
        {"a": {"b": {"c": {"d": {"e": [EVENT]}}}}},
        {"one": {"items": [EVENT]}, "two": {"items": [EVENT]}},
        {"batch": {"items": [7, EVENT]}},
        {"batch": {"items": []}},
    ],
)
def test_a_list_that_is_not_clearly_one_of_events_is_part_of_one_event(body):
    assert "each(" not in made_of(body).files["comm.py"].decode()


@pytest.mark.parametrize("name", ["sent_at", "dispatchedAt", "delivered_at", "sentTimestamp"])
def test_a_time_of_sending_is_not_that_of_the_change_if_there_is_another(name):
    times = {name: "2026-06-01T13:00:00Z"}
    made = made_of({"type": "product.updated", **times, "data": {"id": "p1", "created_at": "2026-06-01T12:00:00Z"}})
    assert 'occurred_at=datetime.fromisoformat(body.data["created_at"])' in made.files["comm.py"].decode()
    assert f"`{name}` looks like the time of sending, and is not used" in made.guessed


@pytest.mark.parametrize(
    ("event_type", "handled"),
    [("ProductPublished", ["ProductPublished"]), ("product.deleted", ["product.deleted"]), ("pushed", ["pushed"])],
)
def test_only_the_event_type_that_was_seen_gets_a_handler(event_type, handled):
    made = made_of({**EVENT, "event": event_type})
    assert re.findall(r'^@comm.on\("(.+)"\)$', made.files["comm.py"].decode(), re.M) == handled
    (told,) = [line for line in made.guessed if line.startswith("handlers:")]
    assert "ignored until you add a handler, and `hookmirror findings` lists them" in told


def test_the_delete_is_a_hint_with_the_line_to_add():
    assert any('@comm.on("ProductDeleted")' in line for line in made_of({**EVENT, "event": "ProductUpdated"}).unknown)


def test_an_update_and_a_delete_that_are_both_seen_get_both_handlers():
    made = made_of({"events": [{**EVENT, "event": "product.updated"}, {**EVENT, "event": "product.deleted"}]})
    module = made.files["comm.py"].decode()
    assert re.findall(r'^@comm.on\("(.+)"\)$', module, re.M) == ["product.updated", "product.deleted"]
    assert b"test_a_late_update_does_not_revive" in made.files["test_comm.py"]


def test_a_delete_with_another_verb_in_the_capture_gets_its_handler_and_no_other_type_is_passed_over():
    types = ("article.changed", "article.removed", "ferry.sailed")
    made = made_of({"events": [{**EVENT, "event": each} for each in types]})
    module = made.files["comm.py"].decode()
    assert re.findall(r'^@comm.on\("(.+)"\)$', module, re.M) == ["article.changed", "article.removed"]
    (told,) = [line for line in made.guessed if line.startswith("handlers:")]
    assert "article.removed deactivates. The capture also has ferry.sailed, without a handler. Webhooks of" in told
    assert not any(line.startswith("delete:") for line in made.unknown)


def test_an_event_type_that_deletes_under_another_name_is_named_as_the_likely_delete():
    made = made_of({"events": [{**EVENT, "event": "product.saved"}, {"event": "products.deleted", "ids": [1, 2]}]})
    (told,) = [line for line in made.unknown if line.startswith("delete:")]
    assert told.startswith("delete: whether products.deleted, which the capture has, deletes a ")
    assert '@comm.on("products.deleted") with mirror.deactivate' in told


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ("products.deleted", "products.deleted"),
        ("order.deleted", "product.deleted"),
        ("product.image.deleted", "product.deleted"),
        ("deleted", "product.deleted"),
    ],
)
def test_a_delete_of_another_thing_in_the_capture_is_not_named_as_the_likely_delete(other, named):
    made = made_of({"events": [{**EVENT, "event": "product.updated"}, {**EVENT, "event": other}]})
    (told,) = [line for line in made.unknown if line.startswith("delete:")]
    assert f'add @comm.on("{named}") with mirror.deactivate' in told


@pytest.mark.parametrize(
    ("item", "mark"),
    [
        ({**EVENT, "deleted": True}, "deleted"),
        ({**EVENT, "object": {"id": "p1", "name": "Lamp", "isDeleted": False}}, "object.isDeleted"),
    ],
)
def test_a_flag_that_marks_a_delete_is_named(item, mark):
    for body in (item, {"events": [EVENT, item]}):
        (told,) = [line for line in made_of(body).unknown if line.startswith("delete:")]
        assert (
            f"`{mark}` looks like the mark of one. The module takes an event in which it is true for an update" in told
        )


def test_a_flag_is_not_told_beside_an_event_type_that_deletes():
    body = {"events": [{**EVENT, "event": "ship.updated"}, {**EVENT, "event": "ship.deleted", "deleted": True}]}
    assert not any("mark of one" in line for line in made_of(body).unknown)


@pytest.mark.parametrize(
    ("item", "is_doubted"),
    [
        ({"id": "c1", "article": {"number": "A1", "title": "Rope"}}, True),
        ({"article": {"id": "A1", "title": "Rope"}}, False),
        ({"id": "A1", "change_id": "c1", "title": "Rope"}, False),
    ],
    ids=["beside the object", "in the object", "no object"],
)
def test_an_id_beside_the_changed_object_may_be_the_id_of_the_change(item, is_doubted):
    made = made_of({"changes": [{"kind": "article.changed", "at": "2026-06-01T12:00:00Z", **item}]})
    doubts = [line for line in made.unknown if line.startswith("entity: whether `id`, which is outside of `article`")]
    assert len(doubts) == is_doubted


PROJECTION = {"name": {"en": "Lamp"}, "sku": "L-1", "prices": [1], "slug": "lamp", "version": 3}


@pytest.mark.parametrize(
    ("inside", "entity"),
    [
        ({"id": "p1", **PROJECTION}, 'body.product_projection["id"]'),
        (PROJECTION, 'body.resource["id"]'),
    ],
)
def test_the_object_with_the_most_members_is_preferred_to_a_reference_to_it(inside, entity):
    made = made_of(
        {
            "type": "ProductPublished",
            "createdAt": "2026-06-01T12:00:00Z",
            "resource": {"id": "p1", "typeId": "product"},
            "user": {"id": "u1", "a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6},
            "productProjection": inside,
            "tags": [{"id": 1}] * 20,
        }
    )
    module = made.files["comm.py"].decode()
    assert f'entity=("product", {entity})' in module
    assert "data=body.product_projection" in module
    (told,) = [line for line in made.guessed if line.startswith("changed object:")]
    assert told.startswith("changed object: `productProjection`; not used: ")
    assert "`user`, `tags`" in told


@pytest.mark.parametrize(
    ("inside", "holder"), [({"id": "p1", **PROJECTION}, "productProjection"), (PROJECTION, "resource")]
)
def test_a_reference_inside_the_changed_object_is_recognised(inside, holder):
    both = {"resource": {"id": "p1", "typeId": "product"}, "productProjection": inside}
    made = made_of({**EVENT, "object": both})
    module = made.files["comm.py"].decode()
    assert f'entity=("product", body.object["{holder}"]["id"])' in module
    assert 'data=body.object["productProjection"]' in module
    (told,) = [line for line in made.guessed if line.startswith("changed object:")]
    assert ("`object.resource`" in told) == (holder == "productProjection")


def test_an_object_with_a_usual_name_and_values_of_its_own_stays_the_changed_object():
    body = {"type": "product.updated", "data": {"id": "p1", "tags": []}, "shipment": dict.fromkeys("abcdefg", 1)}
    assert "data=body.data," in made_of(body).files["comm.py"].decode()


def test_a_time_of_sending_that_is_the_only_time_is_used_and_told():
    made = made_of({"type": "product.updated", "sent_at": "2026-06-01T13:00:00Z", "data": {"id": "p1"}})
    assert "occurred_at=body.sent_at" in made.files["comm.py"].decode()
    assert any(line.startswith("time of the change: `sent_at` looks like the time of sending") for line in made.unknown)


def test_the_fixture_is_the_captured_body_byte_by_byte():
    assert drafted("kiln").files["fixtures/kiln/item.updated.json"] == CAPTURED["kiln"][0].encode()


def test_a_body_without_an_entity_is_discarded_by_its_handler():
    assert "raise Discard(" in drafted("tarn").files["tarn.py"].decode()


def test_a_list_without_objects_is_not_a_list_of_events():
    with pytest.raises(ConfigurationError, match="without objects"):
        draft("tarn", capture_of(b"[1]", {}, name="it"), origin="a test")


@pytest.mark.parametrize(
    ("example", "kind", "update", "delete"),
    [
        ("product.updated", "product", "product.updated", "product.deleted"),
        ("products/create", "product", "products/create", "products/delete"),
        ("PRODUCT_UPDATED", "product", "PRODUCT_UPDATED", "PRODUCT_DELETED"),
        ("product.creation", "product", "product.creation", "product.deletion"),
        ("productCreated", "product", "productCreated", "productDeleted"),
        ("item.removed", "item", "item.updated", "item.removed"),
        ("pushed", "thing", "pushed", None),
        ("DeletedEntry", "thing", "UpdatedEntry", "DeletedEntry"),
        ("XMLDeletedEntry", "thing", "XMLUpdatedEntry", "XMLDeletedEntry"),
        ("product.deleted.v2", "thing", "product.updated.v2", "product.deleted.v2"),
        ("product_delete_commit_after", "thing", "product_update_commit_after", "product_delete_commit_after"),
        ("product.updated.v2", "thing", "product.updated.v2", None),
    ],
)
def test_the_other_event_types_follow_the_form_of_the_captured_one(example, kind, update, delete):
    found = guess_event_types(example, kind="thing")
    assert (found.kind, found.update, found.delete) == (kind, update, delete)


NAMES = [
    "type",
    "id",
    "data",
    "object",
    "class",
    "source",
    "metadata",
    "updated_at",
    "event_id",
    "price",
    "__x",
    "",
    "ä",
]
TEXTS = ["product.created", "1.50", "2026-06-01T12:00:00Z", "2026-06-01 12:00:00", 'a"b', "a'b", "\\"]

names = some.sampled_from(NAMES) | some.text(max_size=6)
scalars = some.none() | some.booleans() | some.integers() | some.sampled_from(TEXTS) | some.text(max_size=12)
values = some.recursive(
    scalars, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(names, inner, max_size=4), max_leaves=12
)


@examples(60)
@given(body=some.dictionaries(names, values, min_size=1, max_size=8))
def test_any_object_makes_a_module_of_valid_python_and_rows_of_valid_json(body):
    made = draft("shop", capture_of(json.dumps(body).encode(), {}, name="it"), origin="a test")
    for name, content in made.files.items():
        (ast.parse if name.endswith(".py") else json.loads)(content)


def test_verbs_are_distinguished_from_other_words():
    assert VERB.fullmatch("updated")
    assert not VERB.fullmatch("product")
