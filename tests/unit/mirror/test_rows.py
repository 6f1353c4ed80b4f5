"""The verbs of the mirror: the writes of each, and every misuse refused by name."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from time import perf_counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handlers.catalog import Category, Group, Option, Product, Record, Variant
from receiver.envelope import Envelope
from receiver.errors import HandlerError, Unreadable
from receiver.mirror.news import Mirror, SessionRequested
from receiver.mirror.rows import Key, child_tables, mirror_tables
from receiver.mirror.versions import Patch, Rank, Registers, Version, dump, load, microseconds

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)


def mirror(**parts):
    usual = {"source": "shop", "occurred_at": NOON, "arrival": 7, "earlier": [], "read": lambda key, writes: None}
    return Mirror(**usual | parts)


def version(rank=Rank.UPDATE, at=NOON):
    return Version(microseconds(at), int(rank), 7)


def written(verb, *arguments, **named):
    """Return the writes that one verb makes."""
    speaking = mirror()
    getattr(speaking, verb)(*arguments, **named)
    return speaking.writes


# ── verbs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_upsert_says_that_the_row_is_active_and_has_these_values():
    (write,) = written("upsert", Product, "A1", name="Lamp", price=Decimal("9.90"))
    assert write.key == Key(Product, "shop", "A1")
    assert write.version == version()
    assert write.columns == {"active": True, "name": "Lamp", "price": Decimal("9.90")}
    assert write.children_gone is None


OFFSETS = st.integers(-23, 23).map(lambda hours: timezone(timedelta(hours=hours)))
LAST = datetime.max.replace(tzinfo=UTC)
#: The first time that does not count as missing, and the first in UTC.
SECOND_YEAR = datetime(2, 1, 1, tzinfo=UTC)
EARLIEST = datetime(2, 1, 1, tzinfo=timezone(timedelta(hours=23)))


@given(st.datetimes(timezones=OFFSETS), st.datetimes(timezones=OFFSETS))
@example(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), LAST)
@example(LAST, datetime(9999, 1, 1, 0, 0, 0, 1, tzinfo=UTC))
@example(SECOND_YEAR, EARLIEST)
def test_news_of_every_time_that_an_event_and_a_write_may_have_is_read_again_from_its_row(occurred_at, at):
    try:
        event = Envelope(event_type="product.updated", entity=None, occurred_at=occurred_at, data=None)
        speaking = mirror(occurred_at=event.occurred_at)
        speaking.upsert(Product, "A1", name="Lamp")
        speaking.upsert(Product, "A1", at=at, sku="L-1")
        speaking.deactivate(Product, "A1", at=at)
    except Unreadable:
        return
    row = Registers()
    for write in speaking.writes:
        row.merge_all(write.columns, write.version)
        if write.children_gone:
            row.lose_children("variants", write.version)
    held = {name: value for name, value in row.values.items() if name != "active"}
    assert load(held, dump(row)) == row


def test_an_explicit_none_is_a_value():
    (write,) = written("upsert", Product, "A1", name=None)
    assert write.columns == {"active": True, "name": None}


def test_an_upsert_may_say_that_a_row_is_inactive():
    (write,) = written("upsert", Product, "A1", active=False)
    assert write.columns == {"active": False}


def test_an_upsert_may_have_another_time():
    later = NOON + timedelta(minutes=5)
    (write,) = written("upsert", Product, "A1", at=later)
    assert write.version == version(at=later)


def test_a_deactivation_outranks_an_update_and_includes_the_children():
    own, children = written("deactivate", Product, "A1")
    assert (own.version, own.columns) == (version(Rank.DELETE), {"active": False})
    assert (children.key, children.version, children.columns) == (own.key, version(Rank.DELETE), {})
    assert children.children_gone is Variant


def test_a_deactivation_of_a_row_without_children_is_one_write():
    assert len(written("deactivate", Option, "O1")) == 1


def test_a_complete_list_is_weaker_than_an_update():
    speaking = mirror()
    speaking.upsert(Product, "A1")
    speaking.upsert(Variant, "V1", parent="A1")
    speaking.keep_only(Variant, ["V1"], parent="A1")
    write = speaking.writes[-1]
    assert (write.key, write.children_gone) == (Key(Product, "shop", "A1"), Variant)
    assert write.version == version(Rank.ABSENT)


def test_a_patch_names_members_of_a_document():
    (write,) = written("upsert", Record, "R1", data=Patch({"price": Decimal("1.50"), "tags": ("a", "b")}))
    assert write.columns["data"] == Patch({"price": Decimal("1.50"), "tags": ["a", "b"]})


def test_of_two_upserts_of_one_row_by_one_handler_the_later_decides_in_the_columns_that_it_names():
    speaking = mirror()
    speaking.upsert(Product, "A1", name="Lamp", sku="L-1", active=False)
    speaking.upsert(Product, "A1", name="Tent")
    (write,) = speaking.writes
    assert write.columns == {"active": False, "name": "Tent", "sku": "L-1"}


def test_a_second_upsert_of_each_of_many_rows_takes_no_longer_than_the_first():
    """A search among the handler's earlier writes would take six seconds for these."""
    speaking = mirror()
    began = perf_counter()
    for number in range(20_000):
        speaking.upsert(Product, f"A{number}", name="Lamp")
    first = perf_counter() - began
    for number in range(20_000):
        speaking.upsert(Product, f"A{number}", name="Tent")
    assert perf_counter() - began < 2 + 4 * first
    assert {write.columns["name"] for write in speaking.writes} == {"Tent"}


def test_two_upserts_with_times_of_their_own_stay_two_pieces_of_news():
    speaking = mirror()
    speaking.upsert(Product, "A1", name="Lamp")
    speaking.upsert(Product, "A1", name="Tent", at=NOON + timedelta(seconds=1))
    assert [write.columns["name"] for write in speaking.writes] == ["Lamp", "Tent"]


@pytest.mark.parametrize(
    ("earlier", "later", "kept"),
    [
        ({"a": 1, "b": 1}, Patch({"b": 2}), {"a": 1, "b": 2}),
        (None, Patch({"b": 2}), {"b": 2}),
        (None, Patch({}), None),
        (Patch({"a": 1, "b": 1}), Patch({"b": 2}), Patch({"a": 1, "b": 2})),
        (Patch({"a": 1}), {"b": 2}, {"b": 2}),
        (Patch({"a": 1}), None, None),
    ],
)
def test_a_later_patch_of_one_handler_changes_members_of_its_earlier_value(earlier, later, kept):
    speaking = mirror()
    speaking.upsert(Record, "R1", data=earlier)
    speaking.upsert(Record, "R1", data=later)
    (write,) = speaking.writes
    assert write.columns["data"] == kept


def test_values_are_converted_to_the_types_of_their_columns():
    (write,) = written("upsert", Product, "A1\0", name="a\0b", price="10.0000")
    assert (write.key.external_id, write.columns["name"]) == ("A1\ufffd", "a\ufffdb")
    assert str(write.columns["price"]) == "10.0000"


def test_reading_returns_the_row_with_the_earlier_writes_of_the_batch():
    asked = []

    def read(key, writes):
        asked.append((key, list(writes)))
        return Product(source="shop", external_id="A1", active=True, changed_at=NOON, versions="{}", name="Lamp")

    earlier = written("upsert", Product, "A1", name="Tent")
    speaking = mirror(read=read, earlier=earlier)
    speaking.upsert(Product, "A1", name="Lamp")
    assert speaking.get(Product, "A1").name == "Lamp"
    assert asked == [(Key(Product, "shop", "A1"), earlier + speaking.writes)]


def test_reading_an_unknown_row_returns_none():
    assert mirror().get(Product, "A1") is None


def test_asking_for_a_session_is_not_caught_by_a_handler_s_own_except():
    def ask():
        try:
            return mirror().session
        except Exception:
            return "swallowed"

    with pytest.raises(SessionRequested):
        ask()


def test_a_given_session_is_available():
    session = object()
    assert mirror(session=session).session is session


# ── misuse ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"colour": "red"}, r"Product has no column `colour`: it has sku, name, price"),
        ({"source": "other"}, "has no column `source`"),
        ({"changed_at": NOON}, "has no column `changed_at`"),
        ({"tie": True}, "has no column `tie`"),
        ({"versions": "{}"}, "has no column `versions`"),
        ({"kind": "asset"}, "has no column `kind`"),
        ({"active": "yes"}, "`active` takes true or false"),
        ({"active": None}, "`active` takes true or false"),
        ({"price": 9.9}, "`price` takes a Decimal, not the float"),
        ({"price": "cheap"}, "'cheap' is not a number"),
        ({"price": "1e9999"}, "'1e9999' is beyond"),
        ({"name": 5}, "`name` takes text"),
        ({"name": Patch({"a": 1})}, "`name` is not a document, so it takes no Patch"),
        ({"data": Patch({"a": object()})}, "`data` takes a value that JSON can express"),
        ({"data": {"a": {1, 2}.__iter__()}}, "`data` takes a value that JSON can express"),
        ({"at": NOON.replace(tzinfo=None)}, "`at` takes a datetime with its offset"),
    ],
)
def test_a_value_that_a_row_cannot_hold_is_refused_by_name(columns, reason):
    with pytest.raises(HandlerError, match=reason):
        mirror().upsert(Product, "A1", **columns)


@pytest.mark.parametrize("external_id", ["", None, 5, b"A1"])
@pytest.mark.parametrize("verb", ["upsert", "deactivate"])
def test_an_id_must_be_text_and_not_empty(verb, external_id):
    with pytest.raises(HandlerError, match="A row of Product needs its id as text, not"):
        getattr(mirror(), verb)(Product, external_id)


def test_an_id_that_is_too_long_is_the_source_s_mistake():
    with pytest.raises(Unreadable, match="`external_id` is longer than 512 characters"):
        mirror().upsert(Product, "x" * 513)
    with pytest.raises(Unreadable, match="`parent` is longer than 512 characters"):
        mirror().upsert(Product, "A1", parent="x" * 513)


@pytest.mark.parametrize("text", ["x" * 2_049, "灯" * 683, "\0" * 683], ids=["ASCII", "of three bytes", "NUL"])
def test_a_text_that_is_too_long_for_its_index_is_the_source_s_mistake(text):
    with pytest.raises(Unreadable, match="`sku` has an index, which takes at most 2,048 bytes"):
        mirror().upsert(Product, "A1", sku=text)


@pytest.mark.parametrize("text", ["x" * 2_048, "灯" * 682, "😊" * 512], ids=["ASCII", "of three bytes", "of four"])
def test_a_text_of_the_longest_length_is_taken_for_its_index(text):
    assert written("upsert", Product, "A1", sku=text)[0].columns["sku"] == text


def test_a_text_without_an_index_may_have_any_length():
    assert written("upsert", Product, "A1", name="x" * 100_000)[0].columns["name"] == "x" * 100_000


def test_a_deactivation_needs_a_time_with_offset():
    with pytest.raises(HandlerError, match="`at` takes a datetime with its offset"):
        mirror().deactivate(Product, "A1", at=NOON.replace(tzinfo=None))


def test_a_complete_list_without_a_parent_is_refused():
    with pytest.raises(HandlerError, match="Product has no parent table, so there is no complete list of its rows"):
        mirror().keep_only(Product, [], parent="A1")


def test_a_complete_list_needs_its_parent_upserted():
    with pytest.raises(HandlerError, match="keep_only needs Product 'A1' upserted by the same handler"):
        mirror().keep_only(Variant, [], parent="A1")


def test_a_complete_list_needs_each_child_upserted():
    speaking = mirror()
    speaking.upsert(Product, "A1")
    with pytest.raises(HandlerError, match="keep_only needs Variant 'V1' upserted by the same handler"):
        speaking.keep_only(Variant, ["V1"], parent="A1")


@pytest.mark.parametrize("odd", ["V\0", "V\ud800"])
def test_a_complete_list_may_name_a_child_by_an_id_that_is_kept_in_another_form(odd):
    speaking = mirror()
    speaking.upsert(Product, odd)
    speaking.upsert(Variant, odd, parent=odd)
    speaking.keep_only(Variant, [odd], parent=odd)
    assert speaking.writes[-1].children_gone is Variant


def test_a_complete_list_names_its_children_by_text():
    speaking = mirror()
    speaking.upsert(Product, "A1")
    with pytest.raises(HandlerError, match="keep_only needs Variant 7 upserted by the same handler"):
        speaking.keep_only(Variant, [7], parent="A1")


def test_a_refused_write_is_not_collected():
    speaking = mirror()
    with pytest.raises(HandlerError):
        speaking.upsert(Product, "A1", colour="red")
    assert speaking.writes == []


# ── tables ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_tables_of_the_catalog_are_mirror_tables():
    assert {Product, Variant, Category, Group, Option, Record} <= set(mirror_tables())


def test_only_variants_are_deactivated_with_their_product():
    assert child_tables(Product) == [Variant]
    assert child_tables(Category) == []


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("class Bad(MirrorRow, table=True):\n    name: str", "The mirror table Bad requires name: make every column"),
        ("class Bad(MirrorRow, table=True):\n    parent_table = Product", "names a parent table but has no `parent`"),
        (
            "class Bad(MirrorRow, table=True):\n    parent_table = Variant\n    parent: str | None = None",
            "The mirror table Bad names Variant as its `parent_table`, which has a parent",
        ),
        (
            "class Bad(MirrorRow, table=True):\n    parent: str | None = None\nBad.parent_table = Bad",
            "The mirror table Bad names Bad as its `parent_table`, which has a parent",
        ),
    ],
)
def test_a_table_that_cannot_work_is_refused(table, reason):
    """The table is declared in another process, because a declaration cannot be undone."""
    code = (
        "from handlers.catalog import Product, Variant\nfrom receiver.mirror.rows import MirrorRow, mirror_tables\n"
        f"from receiver.errors import WiringError\n{table}\n"
        "try:\n    mirror_tables()\nexcept WiringError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert reason in done.stdout, done.stderr
