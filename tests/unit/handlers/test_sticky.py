"""sticky.io: Eastern time, snapshots with complete lists of variants, bulk events, the test event and the API."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest
from collecting import (
    api,
    columns_of,
    fixture,
    fixture_bodies,
    json_body,
    leaves_what_it_must,
    quick_retries,
    rows_after,
    writes_of,
)
from hypothesis import given
from hypothesis import strategies as st
from listings import listed_by

from handlers.catalog import Product, Variant
from handlers.eastern import EASTERN, is_second_reading, read_eastern, write_eastern
from handlers.sticky import sticky
from receiver import Wanted
from receiver.errors import ApiError, ConfigurationError, NotVerified, Unreadable
from receiver.settings.settings import SourceSettings
from receiver.verify.ciphers import CIPHERS
from receiver.verify.request import WebhookRequest
from receiver.verify.verifiers import Credentials, Secret

REGULAR = fixture("sticky", "product.created.regular")
DELETED = fixture("sticky", "product.deleted")
BULK = fixture("sticky", "bulk.variant.updated")
TEST = fixture("sticky", "test")


def saying(*, sample=REGULAR, at=None, content=None, **change):
    """Return a sample with another time, object, type, or member of `data`."""
    top = {name: change.pop(name) for name in ("type", "time") if name in change}
    data = sample["data"] | change | ({} if content is None else {"object": content})
    return sample | top | {"data": data} | ({} if at is None else {"time": at})


def product(**members):
    return saying(content={"id": 49, **members})


def identity(body):
    text = json_body(body)
    return sticky.read(text).identity(text)


@pytest.mark.parametrize("name", fixture_bodies("sticky"))
def test_every_fixture_leaves_the_rows_that_it_describes(name):
    leaves_what_it_must(sticky, name)


# time


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2024-12-18 11:17:23", "2024-12-18T16:17:23"),  # standard time
        ("2024-07-01 11:17:23", "2024-07-01T15:17:23"),  # daylight saving
        ("2024-03-10 01:59:59", "2024-03-10T06:59:59"),  # the last second before the jump
        ("2024-03-10 02:30:00", "2024-03-10T07:30:00"),  # the hour that is skipped: a clock that was not set forward
        ("2024-03-10 03:00:00", "2024-03-10T07:00:00"),  # the first second after it
        ("2024-11-03 00:59:59", "2024-11-03T04:59:59"),
        ("2024-11-03 01:30:00", "2024-11-03T05:30:00"),  # the repeated hour: the earlier reading
        ("2024-11-03 02:00:00", "2024-11-03T07:00:00"),
        ("2026-11-01 01:00:00", "2026-11-01T05:00:00"),  # another year, another day
    ],
)
def test_eastern_time_is_read_by_the_rules_of_its_zone(text, utc):
    assert read_eastern(text) == datetime.fromisoformat(utc).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("updated", "hour"),
    [
        ("2024-11-03T01:30:00-04:00", 5),
        ("2024-11-03T01:30:00-05:00", 6),
        ("2024-11-03T01:29:59-04:00", 5),
        ("2024-11-03T00:10:00-04:00", 5),
        ("2024-11-03T01:05:00-05:00", 6),
    ],
)
def test_in_the_repeated_hour_the_object_s_own_time_decides_the_reading(updated, hour):
    body = saying(at="2024-11-03 01:30:00", content={"id": 49, "updated_at": updated})
    assert sticky.read(json_body(body)).occurred_at == datetime(2024, 11, 3, hour, 30, tzinfo=UTC)


@pytest.mark.parametrize("updated", [None, 5, "never", "2024-11-03T01:30:00"])
def test_an_ambiguous_update_time_leaves_the_earlier_reading(updated):
    body = saying(at="2024-11-03 01:30:00", content={"id": 49, "updated_at": updated})
    assert sticky.read(json_body(body)).occurred_at == datetime(2024, 11, 3, 5, 30, tzinfo=UTC)


def test_in_a_bulk_event_any_object_may_decide_the_reading():
    content = [{"id": 7}, {"id": 8, "updated_at": "2024-11-03T01:30:00-05:00"}]
    body = saying(sample=BULK, at="2024-11-03 01:30:00", content=content)
    assert sticky.read(json_body(body)).occurred_at == datetime(2024, 11, 3, 6, 30, tzinfo=UTC)


def test_a_delete_in_the_repeated_hour_has_the_later_reading():
    body = saying(sample=DELETED, at="2024-11-03 01:30:00")
    assert sticky.read(json_body(body)).occurred_at == datetime(2024, 11, 3, 6, 30, tzinfo=UTC)


def test_outside_the_repeated_hour_a_later_update_time_and_a_delete_change_nothing():
    later = saying(content={"id": 49, "updated_at": "2030-01-01T00:00:00-05:00"})
    assert sticky.read(json_body(later)).occurred_at == datetime(2024, 12, 18, 16, 17, 23, tzinfo=UTC)
    assert sticky.read(json_body(DELETED)).occurred_at == datetime(2024, 12, 18, 19, 48, 11, tzinfo=UTC)


def test_the_offset_of_a_time_is_respected():
    assert read_eastern("2024-11-03T01:30:00-05:00") == datetime(2024, 11, 3, 6, 30, tzinfo=UTC)


#: Every second except those that programs write for no time at all.
SECONDS = st.integers(1, 2_145_916_800).filter(lambda seconds: seconds != 5 * 3_600)


@given(SECONDS.map(lambda seconds: datetime.fromtimestamp(seconds, UTC)))
def test_a_time_written_in_eastern_time_reads_back(moment):
    read = read_eastern(write_eastern(moment), updated=[moment])
    assert read == moment
    assert is_second_reading(moment) == (moment.astimezone(EASTERN).fold == 1)


# the envelope


def test_the_envelope_is_read_from_the_body():
    envelope = sticky.read(json_body(REGULAR))
    assert (envelope.event_type, envelope.entity) == ("product.created", ("product", "49"))
    assert envelope.data == REGULAR["data"]["object"]


def test_a_bulk_event_is_about_its_first_variant():
    assert sticky.read(json_body(BULK)).entity == ("variant", "7")


def test_a_repeated_delivery_with_another_id_is_the_same_change():
    """Whether `data.id` survives a redelivery is not known (docs/sources.md)."""
    assert identity(saying(id="another", created="2024-12-18 12:00:00")) == identity(REGULAR)


@pytest.mark.parametrize("change", [{"type": "product.updated"}, {"content": {"id": 50}}, {"correlationId": "another"}])
def test_events_and_objects_with_the_same_correlation_id_stay_distinct(change):
    assert identity(saying(**change))[0] != identity(REGULAR)[0]


def test_the_order_of_the_ids_in_a_bulk_event_does_not_matter():
    assert identity(saying(sample=BULK, content=[{"id": 8}, {"id": 7}]))[0] == identity(BULK)[0]
    assert identity(saying(sample=BULK, content=[{"id": 8}]))[0] != identity(BULK)[0]


@pytest.mark.parametrize("change", [{"at": "2024-12-18 11:17:24"}, {"content": {"id": 49, "name": "x"}}])
def test_the_same_key_with_other_content_has_another_fingerprint(change):
    key, fingerprint = identity(saying(**change))
    assert key == identity(REGULAR)[0]
    assert fingerprint != identity(REGULAR)[1]


def test_without_a_correlation_id_the_content_identifies_the_change():
    key, fingerprint = identity(saying(correlationId=None))
    assert key.endswith("-" + fingerprint.hex())


def test_a_bulk_event_of_many_variants_has_a_short_key():
    body = saying(sample=BULK, content=[{"id": number} for number in range(1_000)])
    assert len(identity(body)[0]) == 64


def test_the_test_event_is_read_and_ignored():
    envelope = sticky.read(json_body(TEST))
    assert (envelope.event_type, envelope.entity, envelope.data) == ("test", None, TEST)
    assert envelope.occurred_at == datetime(2000, 1, 1, tzinfo=UTC)
    assert sticky.handler_for("test") is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (REGULAR | {"type": None}, "type"),
        ({name: value for name, value in REGULAR.items() if name != "type"}, "type"),
        ({"message": "m", "reference": "r"}, "type"),
        (REGULAR | {"time": None}, "time"),
        (REGULAR | {"time": "yesterday"}, "not a time"),
        (REGULAR | {"time": "2024-12-18"}, "not a time"),
        (REGULAR | {"time": "0001-01-01 00:00:00+14:00"}, "not a time"),
        (REGULAR | {"data": None}, "data"),
        (saying(content={}), "has no id"),
        (saying(content=[]), "empty list"),
        (saying(sample=BULK, content=[{"id": 7}, {}]), "has no id"),
        (saying(content={"id": 1.0}), "not a valid id"),
        (saying(content={"id": True}), "not a valid id"),
        (saying(content={"id": None}), "has no id"),
        (saying(content="49"), "has no id"),
    ],
)
def test_a_body_without_a_required_part_is_unreadable_with_the_reason(body, reason):
    with pytest.raises(Unreadable, match=reason):
        sticky.read(json_body(body))


def test_an_event_type_without_a_handler_needs_no_id():
    assert sticky.read(json_body(saying(type="order.created", content={}))).entity is None


@given(body=st.binary(max_size=200))
def test_any_bytes_are_read_or_unreadable(body):
    with pytest.raises(Unreadable):
        sticky.read(body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"", "not JSON"), (b"[]", "not what"), (b'{"data":' * 10_000, "nested"), (b'{"type":"\xff"}', "UTF-8")],
)
def test_unreadable_bodies_have_their_reason(body, reason):
    with pytest.raises(Unreadable, match=reason):
        sticky.read(body)


def test_a_huge_number_a_nul_and_a_repeated_member_break_nothing():
    text = json.dumps(product(name="\0"))[:-1] + ', "n": ' + "9" * 400 + ', "type": "product.updated"}'
    envelope = sticky.read(text.encode())
    assert envelope.event_type == "product.updated"
    assert len(envelope.identity(text.encode())[1]) == 32


@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_body_is_encrypted_and_decrypted_in_every_cipher(cipher):
    credentials = Credentials(
        secrets=(Secret(b"0123456789abcdefghijABCDEFGHIJ45"),), app_key="app_key_here", cipher=cipher
    )
    sealed, _ = sticky.verifier.sign(WebhookRequest(json_body(REGULAR)), credentials)
    assert sticky.read(sticky.verifier.verify(WebhookRequest(sealed), credentials).plain).entity == ("product", "49")


@pytest.mark.parametrize("cipher", sorted(set(CIPHERS) - {"none"}))
def test_an_encrypted_body_that_was_cut_short_is_refused(cipher):
    credentials = Credentials(
        secrets=(Secret(b"0123456789abcdefghijABCDEFGHIJ45"),), app_key="app_key_here", cipher=cipher
    )
    sealed, _ = sticky.verifier.sign(WebhookRequest(json_body(REGULAR)), credentials)
    with pytest.raises(NotVerified, match="does not decrypt"):
        sticky.verifier.verify(WebhookRequest(sealed[:-8]), credentials)


@pytest.mark.parametrize("event_type", sorted({handler.pattern.text for handler in sticky.handlers}))
@pytest.mark.parametrize("at", [datetime(2024, 12, 18, 16, tzinfo=UTC), datetime(2024, 11, 3, 6, 30, tzinfo=UTC)])
def test_a_composed_body_reads_as_its_parts(event_type, at):
    envelope = sticky.read(sticky.write(event_type, "49", at=at, data={"name": "n"}))
    assert (envelope.event_type, envelope.occurred_at) == (event_type, at)
    assert envelope.entity == (event_type.split(".")[-2], "49")


def test_a_composed_body_has_whole_seconds():
    at = datetime(2024, 12, 18, 16, 0, 0, 900_000, tzinfo=UTC)
    assert sticky.read(sticky.write("product.deleted", "49", at=at, data=None)).occurred_at == at - timedelta(
        microseconds=900_000
    )


# rows


def test_a_snapshot_deactivates_the_variants_that_it_does_not_list():
    later = saying(at="2024-12-18 11:17:24", type="product.updated", content={"id": 49, "variants": [{"id": 8}]})
    rows = rows_after([*writes_of(sticky, json_body(REGULAR)), *writes_of(sticky, json_body(later), arrival=2)])
    assert {key: row["active"] for key, row in rows.items()} == {
        ("products", "49"): True,
        ("variants", "7"): False,
        ("variants", "8"): True,
    }


def test_a_late_snapshot_does_not_deactivate_newer_variants():
    newer = saying(sample=BULK, at="2024-12-19 00:00:00")
    rows = rows_after([*writes_of(sticky, json_body(newer)), *writes_of(sticky, json_body(REGULAR), arrival=2)])
    assert rows["variants", "8"]["active"]


def test_an_empty_list_of_variants_is_complete_and_a_missing_one_is_not_news():
    emptied = saying(at="2024-12-18 11:17:24", content={"id": 49, "variants": []})
    silent = saying(at="2024-12-18 11:17:24", content={"id": 49})
    for body, active in ((emptied, False), (silent, True)):
        rows = rows_after([*writes_of(sticky, json_body(REGULAR)), *writes_of(sticky, json_body(body), arrival=2)])
        assert rows["variants", "7"]["active"] is active


def test_a_deleted_product_takes_its_variants_with_it():
    deleted = saying(at="2024-12-18 12:00:00", type="product.deleted", content={"id": 49})
    rows = rows_after([*writes_of(sticky, json_body(REGULAR)), *writes_of(sticky, json_body(deleted), arrival=2)])
    assert [row["active"] for row in rows.values()] == [False, False]


@pytest.mark.parametrize(
    ("members", "column", "value"),
    [
        ({"sku": 12}, "sku", "12"),
        ({"name": None}, "name", None),
        ({"price": "10.0000"}, "price", Decimal("10.0000")),
        ({"price": 10}, "price", Decimal(10)),
        ({"price": "on request"}, "price", None),
        ({"category": {"id": 5}}, "parent", "5"),
        ({"category": None}, "parent", None),
        ({"category": []}, "parent", None),
    ],
)
def test_members_of_a_product_become_columns(members, column, value):
    assert columns_of(sticky, product(**members))[column] == value


def test_a_missing_member_is_not_news():
    assert columns_of(sticky, product(sku="x")).keys().isdisjoint({"name", "price", "parent", "lifecycle_state"})


def variant(**members):
    return saying(type="variant.updated", content={"id": 7, **members})


def named(*options):
    return [{"id": 1, "attribute": {"name": "a", "option": {"id": 2, "name": name}}} for name in options]


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        (named("blue", "small"), "blue / small"),
        (named("blue"), "blue"),
        (named("blue", None, 5), "blue"),
        ([{"attribute": None}, {}, None], None),
        ([], None),
        (None, None),
    ],
)
def test_a_variant_is_named_by_its_options(attributes, name):
    assert columns_of(sticky, variant(attributes=attributes))["name"] == name


def test_a_variant_without_its_product_says_nothing_about_its_parent():
    assert "parent" not in columns_of(sticky, variant(sku_num="x"))
    assert "parent" not in columns_of(sticky, variant(product_id=None))
    assert columns_of(sticky, variant(product_id=49))["parent"] == "49"


@pytest.mark.parametrize("kind", ["variant", "bulk.variant"])
def test_one_variant_or_several_are_read_in_every_event(kind):
    many = saying(type=f"{kind}.deleted", content=[{"id": 7}, {"id": 8}])
    single = saying(type=f"{kind}.deleted", content={"id": 7})
    assert len(rows_after(writes_of(sticky, json_body(many)))) == 2
    assert len(rows_after(writes_of(sticky, json_body(single)))) == 1


# the API


def listed(number, **members):
    return {"id": number, "name": f"P{number}", "sku": f"S{number}", "price": "1.00", "category": {"id": 5}, **members}


def shop(products, *, per_page=2, gone=()):
    def answer(request):
        tail = request.url.path.removeprefix("/api/v2/products").strip("/")
        if tail:
            if int(tail) in gone:
                return httpx.Response(404, json={"status": "FAILURE"})
            return httpx.Response(200, json={"status": "SUCCESS", "data": products[int(tail)]})
        page, rows = int(request.url.params["page"]), list(products.values())
        last = -(-len(rows) // per_page)
        content = {"data": rows[(page - 1) * per_page : page * per_page], "last_page": last, "total": len(rows)}
        return httpx.Response(200, json={"status": "SUCCESS", "current_page": page, **content})

    return answer


def walk(answer, attempts=1):
    with quick_retries(attempts), api(sticky, answer) as client:
        return list(listed_by(sticky, client))


def test_the_walk_reads_every_page_and_the_variants_of_each_product():
    products = {number: listed(number, variants=[{"id": number * 10}]) for number in (1, 2, 3)}
    assert [(row.table, row.external_id) for row in walk(shop(products))] == [
        (Product, "1"),
        (Variant, "10"),
        (Product, "2"),
        (Variant, "20"),
        (Product, "3"),
        (Variant, "30"),
    ]


def test_the_walk_gives_the_columns_of_an_event_instead_of_the_api_s_own_object():
    content = REGULAR["data"]["object"]
    rows = rows_after(writes_of(sticky, json_body(REGULAR)))
    listed_rows = walk(shop({49: content}))
    assert {(row.table.__tablename__, row.external_id) for row in listed_rows} == rows.keys()
    for row in listed_rows:
        mirrored = rows["products" if row.table is Product else "variants", row.external_id]
        assert dict(row.columns) == {column: mirrored[column] for column in row.columns}
        assert row.columns.keys() >= {"sku", "name", "price", "parent"}
        assert "data" not in row.columns


def test_a_product_deleted_during_the_walk_is_left_out():
    assert [row.external_id for row in walk(shop({1: listed(1), 2: listed(2)}, gone=[1]))] == ["2"]


def test_an_empty_list_is_complete():
    assert walk(shop({})) == []


def test_the_api_is_asked_with_http_basic():
    seen = []

    def answer(request):
        seen.append(request.headers["authorization"])
        return shop({})(request)

    walk(answer)
    assert seen == ["Basic " + "a2V5OmMyVmpjbVYw"]


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (httpx.Response(401), "check api_key"),
        (httpx.Response(503), "Repeated attempts failed"),
        (httpx.Response(200, json={"status": "FAILURE", "data": [], "last_page": 1, "total": 0}), "instead of SUCCESS"),
        (httpx.Response(200, json={"status": "SUCCESS"}), "undocumented shape"),
    ],
)
def test_an_api_that_does_not_answer_is_an_api_error_with_advice(answer, advice):
    with pytest.raises(ApiError, match=advice):
        walk(lambda request: answer)


def test_a_page_only_names_its_products_and_has_the_total():
    with api(sticky, shop({number: listed(number) for number in (1, 2, 3)})) as client:
        page = sticky.listing_of.parts[0].read(client, None)
    assert sticky.listing_of.parts[0].names_only
    assert ([row.columns for row in page.rows], page.total) == ([{}] * 2, 3)


@pytest.mark.parametrize("missing", ["api_key", "api_secret"])
def test_an_api_url_without_user_or_password_is_a_configuration_error(missing):
    settings = {"name": "sticky", "api_url": "http://api.test", "api_key": "u", "api_secret": "p", missing: None}
    with pytest.raises(ConfigurationError, match=missing):
        sticky.client(SourceSettings(**settings))


# ── the lookup ────────────────────────────────────────────────────────────────────────────────────────────────


def ask(answer, wanted):
    with quick_retries(1), api(sticky, answer) as client:
        return sticky.lookup_of.ask(client, wanted)


def test_the_lookup_returns_one_product_with_its_variants_and_the_time_of_its_change():
    time = {"date": "2026-06-01 08:00:00.000000", "timezone_type": 3, "timezone": "America/New_York"}
    product, variant = ask(shop({1: listed(1, variants=[{"id": 10}]) | {"updated_at": time}}), Wanted(Product, "1"))
    assert (product.external_id, product.changed_at) == ("1", datetime(2026, 6, 1, 12, tzinfo=UTC))
    assert (variant.external_id, variant.columns["parent"]) == ("10", "1")


def test_a_variant_is_looked_up_by_its_product():
    answer = shop({1: listed(1, variants=[{"id": 10}, {"id": 11}])})
    assert [row.external_id for row in ask(answer, Wanted(Variant, "11", parent="1"))] == ["11"]
    assert ask(answer, Wanted(Variant, "12", parent="1")) == []
    with pytest.raises(ApiError, match="by its product, and the mirror has no product"):
        ask(answer, Wanted(Variant, "11"))


def test_only_the_api_s_own_404_means_that_a_product_is_gone():
    assert ask(shop({}, gone=[1]), Wanted(Product, "1")) == []
    with pytest.raises(ApiError, match="answered 404: check api_url"):
        ask(lambda request: httpx.Response(404, text="<html>"), Wanted(Product, "1"))
