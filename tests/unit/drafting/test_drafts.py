import ast
import json
import re

import pytest
from captured import CAPTURED
from hypothesis import given, settings
from hypothesis import strategies as some

from receiver.drafting.captures import capture_of
from receiver.drafting.draft import draft
from receiver.drafting.event_types import guess_event_types
from receiver.drafting.members import VERB
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


def test_the_fixture_is_the_captured_body_byte_by_byte():
    assert drafted("kiln").files["fixtures/kiln/item.updated.json"] == CAPTURED["kiln"][0].encode()


def test_a_body_without_an_entity_is_discarded_by_its_handler():
    assert "raise Discard(" in drafted("tarn").files["tarn.py"].decode()


def test_a_list_without_objects_is_not_a_list_of_events():
    with pytest.raises(ConfigurationError, match="without objects"):
        draft("tarn", capture_of(b"[1]", {}, name="it"), origin="a test")


@pytest.mark.parametrize(
    ("example", "kind", "upserts", "delete"),
    [
        ("product.updated", "product", "product.*", "product.deleted"),
        ("products/create", "product", "products/*", "products/delete"),
        ("PRODUCT_UPDATED", "product", "PRODUCT_*", "PRODUCT_DELETED"),
        ("product.creation", "product", "product.*", "product.deletion"),
        ("productCreated", "product", "product*", "productDeleted"),
        ("item.removed", "item", "item.*", "item.removed"),
        ("pushed", "thing", "pushed", None),
    ],
)
def test_the_other_event_types_follow_the_form_of_the_captured_one(example, kind, upserts, delete):
    found = guess_event_types(example, kind="thing")
    assert (found.kind, found.upserts, found.delete) == (kind, upserts, delete)


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


@settings(max_examples=150, deadline=None)
@given(body=some.dictionaries(names, values, min_size=1, max_size=8))
def test_any_object_makes_a_module_of_valid_python_and_rows_of_valid_json(body):
    made = draft("shop", capture_of(json.dumps(body).encode(), {}, name="it"), origin="a test")
    for name, content in made.files.items():
        (ast.parse if name.endswith(".py") else json.loads)(content)


def test_verbs_are_distinguished_from_other_words():
    assert VERB.fullmatch("updated")
    assert not VERB.fullmatch("product")
