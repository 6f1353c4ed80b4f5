"""Drafts of bodies that name the event, the entity or its time in one of the less usual ways."""

import json
import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

import pytest

from receiver.drafting.captures import capture_of
from receiver.drafting.draft import draft
from receiver.drafting.times import WRITTEN_TIMES, read_time, time_form


def made_of(body, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    text = body if isinstance(body, str) else json.dumps(body)
    return draft("shop", capture_of(text.encode(), named, name="it"), origin="a test")


def envelope(made):
    return dict(re.findall(r"^        (\w+)=(.+),$", made.files["shop.py"].decode(), re.M))


LAMP = {"id": 7, "name": "Lamp"}
WITH_STATES = {"before": LAMP | {"updated_at": "2026-05-01T12:00:00Z"}, "after": LAMP}


@pytest.mark.parametrize("op", ["u", "UPDATE", None])
@pytest.mark.parametrize("around", [(), ("payload",), ("event", "data")])
def test_the_states_of_a_row_tell_an_update_from_a_delete_whatever_the_sender_calls_it(op, around):
    body = {"op": op, **WITH_STATES}
    for name in reversed(around):
        body = {name: body}
    made = made_of(body)
    module = made.files["shop.py"].decode()
    assert re.findall(r'^@shop.on\("(.+)"\)$', module, re.M) == ["record.updated", "record.deleted"]
    assert not any(line.startswith(("delete:", "event type:")) for line in made.unknown)


@pytest.mark.parametrize(
    ("pair", "is_found"),
    [
        (("new", "old"), True),
        (("newImage", "oldImage"), True),
        (("record", "old_record"), True),
        (("current", "previous"), True),
        (("new", "before"), False),
    ],
)
def test_the_two_states_are_found_by_their_names(pair, is_found):
    made = made_of(dict.fromkeys(pair, LAMP))
    assert any(line.startswith("states of a row:") for line in made.guessed) is is_found


@pytest.mark.parametrize(
    "body",
    [
        {"id": 1, "changes": {"name": {"old": "a", "new": "b"}}},
        {"id": 1, "before": {"name": "a"}, "after": {"name": "b"}},
        {"id": 1, "before": None, "after": None},
        {"id": 1, "old": [LAMP], "new": [LAMP]},
        {"event": "lamp.updated", "data": {"id": 1, "shade": {"current": {"id": 2}, "previous": {"id": 3}}}},
    ],
)
def test_values_that_are_no_rows_are_not_states(body):
    assert not any(line.startswith("states of a row:") for line in made_of(body).guessed)


def test_the_time_at_the_source_of_a_row_is_preferred_to_that_of_the_program_that_read_it():
    found = envelope(made_of({**WITH_STATES, "source": {"ts_ms": 1780315200000}, "ts_ms": 1780315200005}))
    assert 'body.source["ts_ms"]' in found["occurred_at"]


def test_the_time_of_a_deleted_row_is_read_from_the_state_that_there_is():
    after = LAMP | {"updated_at": "2026-06-01T12:00:00Z"}
    found = envelope(made_of({"record": after, "old_record": LAMP, "table": "lamps"}))
    assert found["occurred_at"] == 'datetime.fromisoformat((body.record or body.old_record)["updated_at"])'


def test_an_event_type_beside_the_states_is_kept():
    made = made_of({"type": "lamp.sold.updated", **WITH_STATES})
    assert envelope(made)["event_type"] == "body.type"
    assert '@shop.on("lamp.sold.updated")' in made.files["shop.py"].decode()


@pytest.mark.parametrize("name", ["repository", "category", "old_record"])
def test_the_time_of_another_object_is_not_that_of_the_change(name):
    made = made_of({"event": "lamp.updated", name: {"id": 1, "updated_at": "2026-01-01T12:00:00Z"}, "lamp": LAMP})
    assert envelope(made)["occurred_at"] == "ARRIVAL"


@pytest.mark.parametrize("name", ["meta", "sys", "event_info"])
def test_the_time_in_an_object_about_the_event_is_that_of_the_change(name):
    made = made_of({"type": "lamp.updated", name: {"updated_at": "2026-01-01T12:00:00Z"}, "data": LAMP})
    assert f'body.{name}["updated_at"]' in envelope(made)["occurred_at"]


def test_of_a_time_in_two_zones_without_offset_the_one_in_utc_is_read():
    times = {"date_modified": "2026-06-01T14:00:00", "date_modified_gmt": "2026-06-01T12:00:00"}
    made = made_of({**LAMP, **times})
    found = envelope(made)
    assert not any(line.startswith("time zone") for line in made.unknown)
    assert 'body["date_modified_gmt"]' in found["occurred_at"]


def test_a_header_that_names_an_event_is_preferred_to_a_member_that_names_a_kind():
    made = made_of({**LAMP, "type": "simple"}, x_shop_event_id="e1", x_shop_topic="lamp.updated")
    assert 'trusts_header="X-Shop-Topic"' in made.files["shop.py"].decode()
    assert '@shop.on("lamp.updated")' in made.files["shop.py"].decode()


def test_a_member_that_names_an_event_is_preferred_to_a_header():
    made = made_of({"type": "lamp.updated", "data": LAMP}, x_shop_topic="lamps/update")
    assert envelope(made)["event_type"] == "body.type"


def test_an_object_that_a_header_names_is_the_changed_one():
    made = made_of({"action": "edited", "lamp": LAMP, "room": {"id": 1, "name": "Hall"}}, x_shop_event="lamp")
    assert envelope(made)["entity"] == '("lamp", str(body.lamp["id"]))'


@pytest.mark.parametrize(
    ("body", "joined", "kind"),
    [
        ({"event": "entry.update", "model": "lamp", "entry": LAMP}, "lamp.entry.update", "lamp"),
        ({"event": "items.update", "collection": "lamps", "key": "7", "payload": LAMP}, "lamps.items.update", "lamp"),
        ({"operation": "publish", "data": {"__typename": "Lamp", **LAMP}}, "Lamp.publish", "lamp"),
        ({"event": "entry.update", "model": "a/b", "entry": LAMP}, "entry.update", "entry"),
        ({"event": "lamp.update", "model": "x", "lamp": LAMP}, "lamp.update", "lamp"),
    ],
)
def test_an_event_type_about_things_of_any_kind_is_joined_with_the_kind(body, joined, kind):
    made = made_of(body)
    assert f'@shop.on("{joined}")' in made.files["shop.py"].decode()
    assert envelope(made)["entity"].startswith(f'("{kind}", ')


def test_an_object_with_an_id_inside_of_one_with_the_id_of_the_change_is_the_changed_one():
    found = envelope(made_of({"type": "lamp.updated", "data": {"id": "change-1", "object": LAMP}}))
    assert (found["entity"], found["dedup_key"]) == ('("lamp", str(body.data["object"]["id"]))', 'body.data["id"]')


def test_a_code_of_a_thing_is_its_id_if_there_is_no_other():
    assert envelope(made_of({"item_code": "A1", "name": "Lamp"}))["entity"] == '("item", body["item_code"])'


@pytest.mark.parametrize("noun", ["address", "addon", "edition", "editor"])
def test_a_word_that_begins_like_a_verb_is_not_the_event_type(noun):
    assert envelope(made_of({"type": noun, "event": "lamp.updated", "data": LAMP}))["event_type"] == "body.event"


@pytest.mark.parametrize("noun", ["credit", "credit_note", "editor"])
def test_a_word_that_only_looks_like_a_verb_is_a_kind_beside_a_header_that_names_the_event(noun):
    made = made_of({**LAMP, "type": noun}, x_shop_topic="lamp.updated")
    assert 'trusts_header="X-Shop-Topic"' in made.files["shop.py"].decode()


def test_a_part_of_a_thing_that_changed_is_news_of_the_thing_whose_delete_the_capture_has():
    events = [{"kind": "lamp.colourChange", "objectId": 1}, {"kind": "lamp.deletion", "objectId": 2}]
    made = made_of([{**each, "occurredAt": 1780315200000} for each in events])
    assert re.findall(r'^@shop.on\("(.+)"\)$', made.files["shop.py"].decode(), re.M) == [
        *("lamp.colourChange", "lamp.deletion")
    ]


def test_the_delete_of_a_part_is_not_the_delete_of_the_thing():
    events = [{"kind": "lamp.image.deleted", "objectId": 1}, {"kind": "lamp.updated", "objectId": 2}]
    made = made_of([{**each, "occurredAt": 1780315200000} for each in events])
    assert re.findall(r'^@shop.on\("(.+)"\)$', made.files["shop.py"].decode(), re.M) == ["lamp.image.deleted"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"type": "bulk.lamp.updated", "data": {"id": "c1", "object": [LAMP, LAMP]}}, "data.object"),
        ({"data": {"payload": [{"key": "7", "operation": "update"}], "event": "lamp.written"}}, "data.payload"),
        ({"channel_id": "c", "trigger_type": "change", "products": [LAMP]}, "products"),
        ({**LAMP, "variants": [LAMP]}, None),
        ({"event": "order.updated", "id": 1, "order": {"items": [LAMP]}}, None),
    ],
)
def test_a_list_that_may_hold_several_changed_entities_is_told(body, named):
    told = [line for line in made_of(body).unknown if line.startswith("entities:")]
    assert [line.split("`")[1] for line in told] == ([named] if named else [])


def test_a_quantity_that_is_whole_in_the_capture_may_have_fractions():
    module = made_of({"type": "lamp.updated", "data": {"id": 7, "weight": 4, "stockLevel": 5, "rooms": 2}}).files
    text = module["shop.py"].decode()
    assert "    weight: Decimal | None = price_field()" in text
    assert "    stock_level: Decimal | None = price_field()" in text
    assert "    rooms: int | None = None" in text


def test_the_algorithm_of_a_signature_is_not_the_secret():
    (told,) = [
        line for line in made_of(LAMP, x_auth_algo="RSA", x_shop_sig="x").unknown if line.startswith(("proof", "sign"))
    ]
    assert "X-Shop-Sig is named like a signature" in told


def test_the_fixture_of_a_signed_form_is_the_captured_form():
    body, proof = "item_sku=H1&to=%2B1555", {"x_twilio_signature": "QUFB" * 6 + "QUE="}
    made = made_of(body, content_type="application/x-www-form-urlencoded", **proof)
    (name,) = [name for name in made.files if re.search(r"/[\w.]+(?<!expected)\.json$", name)]
    assert made.files[name] == body.encode()


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("1780315200", 'datetime.fromtimestamp(int(body.data["updated_at"]), UTC)'),
        ("1780315200123", 'datetime.fromtimestamp(int(body.data["updated_at"]) / 1000, UTC)'),
        (1780315200.25, 'datetime.fromtimestamp(float(body.data["updated_at"]), UTC)'),
        ("9" * 5000, "ARRIVAL"),
    ],
)
def test_a_unix_time_may_be_text_and_keeps_its_fraction(value, code):
    found = envelope(made_of({"type": "lamp.updated", "data": {"id": 7, "updated_at": value}}))
    assert found["occurred_at"] == code


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("2026-06-01 12:00:00 UTC", 'datetime.fromisoformat(body.at.removesuffix(" UTC")).replace(tzinfo=UTC)'),
        (
            "2026-06-01 12:00:00.5 +0000 UTC",
            'datetime.fromisoformat(body.at.removesuffix(" UTC").removesuffix(" +0000")).replace(tzinfo=UTC)',
        ),
        ("2026-06-01 12:00:00.5 +0200", 'datetime.fromisoformat("".join(body.at.rsplit(" ", 1)))'),
        ("2026-06-01T12:00:00 Z", 'datetime.fromisoformat("".join(body.at.rsplit(" ", 1)))'),
        ("20260601T120000Z", "datetime.fromisoformat(body.at)"),
        ("Mon, 01 Jun 2026 12:00:00 GMT", "parsedate_to_datetime(body.at)"),
        (1780315200123456, "datetime.fromtimestamp(int(body.at) / 1_000_000, UTC)"),
        ("2026-06-01 12:00:00 +0200 UTC", "ARRIVAL"),
        ("12 Jun 2026 12:00:00 +0000", "ARRIVAL"),
        ("Mon, 01 Jun 2026 12:00:00 -0000", "ARRIVAL"),
        ("Fri, 01 Jan 1960 12:00:00 GMT", "ARRIVAL"),
        ("Mon, 01 Jun 99999999999999 12:00:00 GMT", "ARRIVAL"),
        ("Mon, 01 Jun 2026 12:00:00 +99999999999999999999", "ARRIVAL"),
    ],
)
def test_a_time_of_another_form_than_models_read_dates_the_change(value, read):
    assert envelope(made_of({"type": "lamp.updated", "at": value, "data": {"id": 7}}))["occurred_at"] == read


@pytest.mark.parametrize("form", sorted(WRITTEN_TIMES))
def test_the_code_of_a_time_reads_what_it_writes(form):
    names = {"at": datetime(2026, 6, 1, 12, tzinfo=UTC), "UTC": UTC, "datetime": datetime}
    names |= {"format_datetime": format_datetime, "parsedate_to_datetime": parsedate_to_datetime}
    names["written"] = eval(WRITTEN_TIMES[form], names)
    assert eval(read_time("written", names["written"], form), names) == names["at"]
    assert time_form(names["written"]) == ("aware" if form == "iso" else form)


def test_a_text_of_digits_is_a_time_only_if_its_name_says_so():
    found = envelope(made_of({"type": "lamp.updated", "phone": "1780315200", "data": {"id": 7}}))
    assert found["occurred_at"] == "ARRIVAL"


def test_a_row_that_a_later_event_of_the_body_deletes_is_not_expected_as_before():
    made = made_of([{"before": None, "after": LAMP}, {"before": LAMP, "after": None}])
    (name,) = [name for name in made.files if name.endswith(".expected.json")]
    assert json.loads(made.files[name])["rows"] == [{"table": "shop_records", "external_id": "7"}]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({**LAMP, "Signature": "QUFB" * 85, "Message": "x"}, "Signature"),
        ({"items": [{"type": "lamp.updated", **LAMP, "extra": {"hmacSignature": "QUFB"}}]}, "extra.hmacSignature"),
    ],
)
def test_a_signature_in_the_body_is_told(body, place):
    (told,) = [line for line in made_of(body).unknown if line.startswith("proof:")]
    assert told.startswith(f"proof: `{place}` in the body is named like a signature.")


def test_a_header_that_names_the_event_of_a_list_of_items_with_a_kind_alone_is_told():
    body = [{"type": "Lamp", **LAMP}]
    told = [line for line in made_of(body, shop_event="lamp_updated").unknown if line.startswith("event type:")]
    assert [line.partition(",")[0] for line in told] == ["event type: Shop-Event names it"]
    assert not any(line.startswith("event type:") for line in made_of(body).unknown)


@pytest.mark.parametrize("topic", ["lamps/update", "lamp.updated"])
def test_an_object_that_the_event_type_names_in_the_plural_is_the_changed_one(topic):
    made = made_of({"topic": topic, "store": {"id": 9}, "lamp": LAMP, "room": {"id": 5}})
    assert envelope(made)["entity"] == '("lamp", str(body.lamp["id"]))'


def test_the_id_of_the_shop_is_not_that_of_the_entity():
    made = made_of({"topic": "lamps/update", "store": {"id": 9}, "seller": {"id": 5, "a": 1}})
    assert envelope(made)["entity"] == "None"


@pytest.mark.parametrize(
    ("body", "joined"),
    [
        ({"meta": {"action": "change", "entity": "lamp", "entity_id": "7"}, "data": LAMP}, "lamp.change"),
        ({"meta": {"action": "updated", "object": "lamp"}, "current": LAMP, "previous": LAMP}, "lamp.updated"),
    ],
)
def test_the_kind_may_stand_beside_the_action_in_an_object_about_the_event(body, joined):
    assert f'@shop.on("{joined}")' in made_of(body).files["shop.py"].decode()


def test_an_action_inside_of_the_changed_object_has_no_kind_beside_it():
    assert '@shop.on("updated")' in made_of({"data": {"action": "updated", **LAMP}}).files["shop.py"].decode()
