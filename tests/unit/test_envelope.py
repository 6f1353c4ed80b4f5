"""The envelope: what it refuses, and what makes two deliveries the same."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from receiver.codec import storable
from receiver.envelope import ARRIVAL, LONGEST_KIND, LONGEST_NAME, Bundle, Envelope, lead_of, unread_identity
from receiver.errors import Unreadable

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)


def envelope(**parts):
    usual = {"event_type": "product.updated", "entity": ("product", "A1"), "occurred_at": NOON, "data": None}
    return Envelope(**usual | parts)


def test_times_are_converted_to_utc():
    eastern = timezone(-timedelta(hours=4))
    found = envelope(occurred_at=datetime(2026, 3, 8, 8, tzinfo=eastern)).occurred_at
    assert (found, found.tzinfo) == (NOON, UTC)


def test_a_time_without_offset_is_refused():
    with pytest.raises(Unreadable, match=r"has no offset from UTC: attach the sender's zone .* `AwareDatetime`"):
        envelope(occurred_at=NOON.replace(tzinfo=None))


def test_a_time_that_utc_cannot_express_is_refused():
    behind = timezone(timedelta(hours=-1))
    with pytest.raises(Unreadable, match="outside the years 1 to 9999"):
        envelope(occurred_at=datetime(9999, 12, 31, 23, 59, 59, tzinfo=behind))


class Moment(datetime):
    """As a library's own class of times."""


def test_a_time_of_another_class_becomes_a_plain_one():
    found = envelope(occurred_at=Moment(2026, 3, 8, 12, tzinfo=UTC)).occurred_at
    assert (type(found), found) == (datetime, NOON)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"occurred_at": "2026-03-08"}, "The time of the change is '2026-03-08' instead of a datetime"),
        ({"fingerprint": "0" * 64}, "instead of bytes"),
        ({"dedup_key": 7}, "The dedup key is 7 instead of text"),
        ({"event_type": None}, "The event type is None instead of text"),
    ],
)
def test_a_part_of_another_type_is_refused_by_name(parts, says):
    with pytest.raises(Unreadable, match=says):
        envelope(**parts)


@pytest.mark.parametrize("entity", ["A1", "", "product:A1", b"A1", 49, {"kind": "product", "id": "A1"}, ("A1",), ()])
def test_an_entity_that_is_not_a_kind_and_an_id_is_refused_with_what_to_write(entity):
    with pytest.raises(Unreadable, match=r"^The entity is .+ instead of its kind and its id: write such as `entity="):
        envelope(entity=entity)


def test_an_entity_may_be_a_list_of_its_kind_and_its_id():
    assert envelope(entity=["product", "A1"]).entity == ("product", "A1")


@pytest.mark.parametrize("seconds", [1_780_315_200, 1_000_000_000, 2_147_483_647])
def test_a_time_in_seconds_that_was_read_as_milliseconds_is_refused_as_such(seconds):
    with pytest.raises(Unreadable, match=r"is 1970-01-[12].*as if a time in seconds were read as milliseconds"):
        envelope(occurred_at=datetime.fromtimestamp(seconds / 1000, UTC))


@pytest.mark.parametrize("zero", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1970-01-01T00:00:00Z"])
def test_a_zero_time_is_refused_as_such(zero):
    with pytest.raises(Unreadable, match="programs write for a missing time"):
        envelope(occurred_at=datetime.fromisoformat(zero))


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ({"event_type": ""}, "event type"),
        ({"event_type": "x" * (LONGEST_NAME + 1)}, "event type"),
        ({"entity": ("", "A1")}, "entity kind"),
        ({"entity": ("product", "")}, "entity id"),
        ({"entity": ("product", "x" * (LONGEST_NAME + 1))}, "entity id"),
    ],
)
def test_an_empty_or_endless_name_is_refused_with_its_part(parts, what):
    with pytest.raises(Unreadable, match=f"The {what} is empty or longer than {LONGEST_NAME} characters"):
        envelope(**parts)


def test_a_name_of_the_greatest_length_is_accepted():
    assert len(envelope(entity=("product", "x" * LONGEST_NAME)).entity[1]) == LONGEST_NAME


def test_a_kind_of_wide_characters_is_bounded_in_bytes():
    assert envelope(entity=("字" * (LONGEST_KIND // 3), "A1")).entity[0] == "字" * (LONGEST_KIND // 3)
    with pytest.raises(Unreadable, match=f"The entity kind is longer than {LONGEST_KIND} bytes"):
        envelope(entity=("字" * (LONGEST_KIND // 3 + 1), "A1"))


def test_an_event_need_not_concern_an_entity():
    assert envelope(entity=None).entity is None


def test_characters_that_no_database_holds_are_replaced_in_names():
    found = envelope(event_type="a\0b", entity=("product", "c\ud800d"))
    assert (found.event_type, found.entity) == ("a\ufffdb", ("product", "c\ufffdd"))


def test_without_a_dedup_key_the_whole_body_identifies_the_change():
    digest = hashlib.sha256(b"body").digest()
    assert envelope().identity(b"body") == (f"1772971200000000-{digest.hex()}", digest)


def test_an_unreadable_body_is_identified_by_its_bytes():
    digest = hashlib.sha256(b"body").digest()
    assert unread_identity(b"body") == (digest.hex(), digest)


def test_a_fingerprint_depends_on_the_body():
    one, other = (envelope(fingerprint=b"\1" * 32).identity(body) for body in (b"body", b"another"))
    assert one == other
    assert one[0].endswith("01" * 32)


def test_a_fingerprint_that_is_no_hash_makes_a_key_that_every_database_takes():
    """Canonical JSON, for example, which somebody forgot to hash."""
    keys = []
    for last in (b"a", b"b"):
        one = envelope(fingerprint=b"\1" * 5_000 + last)
        keys += [one.identity(b"body")[0], one.identity_of_item(b"\2" * 32, 0)[0]]
    assert all(len(key) < LONGEST_NAME for key in keys)
    assert (len(set(keys)), keys[0] == keys[1], keys[0].startswith("1772971200000000-")) == (2, True, True)


def test_a_fingerprint_of_some_hundred_bytes_stands_in_the_key_as_it_is():
    key, _ = envelope(fingerprint=b"\1" * 500, occurred_at=ARRIVAL).identity(b"body")
    assert key == "01" * 500


def test_the_sender_s_key_identifies_the_change_and_the_fingerprint_the_body():
    assert envelope(dedup_key="del-1").identity(b"body") == ("del-1", hashlib.sha256(b"body").digest())


def test_an_item_with_a_key_is_identified_by_it_and_by_its_own_content():
    item, other = envelope(dedup_key="del-1", data={"n": 1}), envelope(dedup_key="del-1", data={"n": 2})
    assert item.identity_of_item(b"a" * 32, 0) == item.identity_of_item(b"b" * 32, 7)
    assert item.identity_of_item(b"a" * 32, 0)[0] == "del-1"
    assert item.identity_of_item(b"a" * 32, 0)[1] != other.identity_of_item(b"a" * 32, 0)[1]


def test_an_item_whose_content_is_no_json_is_identified_by_its_place_in_the_body():
    item = envelope(dedup_key="del-1", data=object())
    assert item.identity_of_item(b"a" * 32, 1) == ("del-1", hashlib.sha256(b"a" * 32 + (1).to_bytes(8)).digest())


@pytest.mark.parametrize("place", [None, 1, 2])
def test_a_place_behind_the_last_event_of_a_body_is_unreadable(place):
    bundle = Bundle([envelope()])
    assert bundle.item(0) == envelope()
    with pytest.raises(
        Unreadable, match=f"holds 1 events by today's code, and this delivery is number {(place or 0) + 1}"
    ):
        bundle.item(place)


@pytest.mark.parametrize(
    ("moment", "lead"),
    [
        ("1969-12-31T23:59:58.75+00:00", "-1750000-"),
        ("1970-01-01T00:00:00.25+00:00", "0250000-"),
        ("1971-01-01T00:00:00+00:00", "31536000000000-"),
        ("2026-03-08T12:00:00.000001+00:00", "1772971200000001-"),
        ("2026-03-08T12:00:00.999999+02:00", "1772964000999999-"),
        ("2100-12-31T23:59:59.999999+00:00", "4133980799999999-"),
        ("2514-06-02T15:53:19.999999-04:14", "17180194040999999-"),
        ("9999-12-31T23:59:59.999999+00:00", "253402300800999999-"),
    ],
)
def test_the_lead_of_a_time_never_changes_since_stored_keys_have_it(moment, lead):
    assert lead_of(datetime.fromisoformat(moment)) == lead


def test_the_time_leads_the_senders_key_where_the_whole_body_is_the_fingerprint():
    assert envelope(dedup_key="del-1").lead() == "1772971200000000-"
    assert envelope(dedup_key="del-1", fingerprint=b"\1" * 32).lead() == ""


def test_nothing_leads_a_key_that_is_derived_and_none_without_a_time():
    assert envelope().lead() == ""
    assert envelope(dedup_key="del-1", occurred_at=ARRIVAL).lead() == ""


@pytest.mark.parametrize("key", ["x" * (LONGEST_NAME + 1), "nul \0 inside", "surrogate \ud800 inside"])
def test_a_key_that_no_database_holds_is_replaced_by_its_hash(key):
    found = envelope(dedup_key=key).identity(b"body")[0]
    assert found == hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


@examples(60)
@given(st.lists(st.text(st.characters(codec=None), max_size=20) | st.just("x" * 600), unique=True, max_size=5))
def test_different_keys_stay_different_and_storable(keys):
    found = [envelope(dedup_key=key).identity(b"body")[0] for key in keys]
    assert len(set(found)) == len(keys)
    assert all(storable(key) == key and len(key) <= LONGEST_NAME for key in found)
