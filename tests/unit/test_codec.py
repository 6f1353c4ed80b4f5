"""JSON is read and written without loss, and anything else is `Unreadable` with its reason."""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from receiver import codec
from receiver.errors import Unreadable

DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | DECIMALS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("number", ["10.0000", "0.10", "1.5e-7", "-0.0", "123456789012345678901234567890.5"])
def test_fractions_keep_their_digits(number):
    found = codec.decode(number)
    assert (type(found), found.as_tuple()) == (Decimal, Decimal(number).as_tuple())


def test_whole_numbers_stay_whole():
    assert codec.decode("[1, 9223372036854775807]") == [1, 9223372036854775807]


def test_a_number_of_400_digits_is_read_without_loss():
    assert codec.decode("1" * 400) == Decimal("1" * 400)


def test_the_last_of_repeated_keys_counts():
    assert codec.decode('{"a": 1, "a": 2}') == {"a": 2}


def test_nul_in_text_is_read_and_written():
    assert codec.decode(codec.encode({"a": "x\0y"})) == {"a": "x\0y"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"not json", "not JSON"),
        (b'{"a": 1', "not JSON"),
        (b"[1] 2", "not JSON"),
        (b"NaN", "not JSON"),
        (b'"\xff"', "not JSON"),
        (b"[" * 10_000 + b"]" * 10_000, "nested too deeply"),
    ],
)
def test_text_that_is_not_json_is_unreadable_with_its_reason(body, reason):
    with pytest.raises(Unreadable, match=reason):
        codec.decode(body)


class DecoderOfLaterReleases:
    """Reports invalid UTF-8 as msgspec does from 0.23 on, in whichever release the tests run."""

    def __init__(self, decoder):
        self._decoder = decoder

    def decode(self, text):
        try:
            return self._decoder.decode(text)
        except UnicodeDecodeError:
            raise msgspec.DecodeError("Invalid UTF-8 encoded string") from None


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("body", [b'"\xff"', b'{"\xc3": 1}', b'["\\n\xff", "\\ud800"]'])
def test_bytes_that_are_no_text_are_reported_alike_whatever_the_decoder_raises(monkeypatch, body, later):
    if later:
        monkeypatch.setattr(codec, "_decoder_of_unusual", DecoderOfLaterReleases(codec._decoder_of_unusual))
    with pytest.raises(Unreadable, match=r"^The body is not JSON: it is not valid UTF-8\.$"):
        codec.decode(body)


@examples(60)
@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_a_value_or_unreadable(body):
    with suppress(Unreadable):
        codec.decode(body)


@examples(60)
@given(VALUES)
def test_a_value_that_is_written_and_read_is_unchanged(value):
    assert codec.decode(codec.encode(value)) == value


@examples(60)
@given(st.dictionaries(st.text(), VALUES, max_size=5), st.randoms(use_true_random=False))
def test_equal_objects_have_equal_canonical_bytes(value, chance):
    items = list(value.items())
    chance.shuffle(items)
    assert codec.canonical(dict(items)) == codec.canonical(value)


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("19.90", "19.90"),
        ("1e3", "1000"),
        ("1e1000", f"1{'0' * 1_000}"),
        ("1e1001", "1E+1001"),
        ("1e999999999", "1E+999999999"),
        ("-2e-999999999", "-2E-999999999"),
    ],
)
def test_a_number_is_written_out_unless_its_zeros_would_fill_the_memory(number, shown):
    assert codec.plain(codec.decode(number)) == shown


def test_different_digits_have_different_canonical_bytes():
    assert codec.canonical(Decimal("1.0")) != codec.canonical(Decimal("1.00"))


#: Values of which some are equal in Python and different in JSON.
CONFUSABLE = st.recursive(
    st.sampled_from([True, False, 0, 1, Decimal("1.0"), Decimal("1.00"), Decimal("-0.0"), "1", None]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)


@examples(60)
@given(CONFUSABLE, CONFUSABLE)
def test_two_values_are_the_same_if_their_canonical_json_is(one, other):
    is_same = codec.canonical(one) == codec.canonical(other)
    assert codec.is_same(one, other) is is_same
    assert codec.changed_members({"x": one}, {"x": other}) == ([] if is_same else ["x"])


@pytest.mark.parametrize(
    ("one", "other"), [(1, True), (False, 0), ([0], [False]), ({"a": {"b": 1}}, {"a": {"b": True}})]
)
def test_a_boolean_is_neither_equal_to_a_number_nor_the_same(one, other):
    assert one == other, "in Python they are equal"
    assert not codec.is_equal(one, other)
    assert not codec.is_same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, Decimal("1.0")),
        ({"a": [Decimal("1.0"), True]}, {"a": [Decimal("1.00"), True]}),
        (Decimal("0.0"), Decimal("-0.0")),
    ],
)
def test_numbers_with_other_digits_are_equal_and_not_the_same(one, other):
    assert codec.is_equal(one, other)
    assert not codec.is_same(one, other)


def test_objects_in_another_order_are_the_same():
    assert codec.is_same({"a": 1, "b": [True]}, {"b": [True], "a": 1})


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("plain", "plain"),
        ("grün 🙂", "grün 🙂"),
        ("a\0b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        ("\udc00\0", "\ufffd\ufffd"),
    ],
)
def test_characters_that_no_column_holds_are_replaced(text, stored):
    assert codec.storable(text) == stored


@examples(60)
@given(st.text(st.characters(codec=None)))
def test_any_text_becomes_storable_and_then_stays_unchanged(text):
    found = codec.storable(text)
    assert "\0" not in found
    assert found.encode("utf-8").decode("utf-8") == found
    assert codec.storable(found) == found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (rb'"x\ud83dy"', "x\ufffdy"),
        (rb'"x\ude00y"', "x\ufffdy"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
        (rb'"\\ud83d"', "\\ud83d"),
    ],
)
def test_half_a_surrogate_pair_becomes_the_replacement_character_and_loses_nothing_else(text, value):
    assert codec.decode(text) == value


@examples(60)
@given(st.text(st.sampled_from('\ud800\udbff\udc00\udfff\\ud8"\U0001f642')))
def test_halves_of_pairs_are_read_as_by_a_decoder_of_utf_16(text):
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert codec.decode(json.dumps(text)) == expected


EVENT = '{"name": "Größe 灯 😊", "price": 1.50}'
ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_is_read_in_every_encoding_that_its_first_bytes_show(encoding):
    assert codec.decode(EVENT.encode(encoding)) == {"name": "Größe 灯 😊", "price": Decimal("1.50")}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_byte_order_mark_is_ignored_in_every_encoding(encoding):
    assert codec.decode(f"\ufeff{EVENT}".encode(encoding)) == codec.decode(EVENT)


def test_a_byte_order_mark_inside_a_text_is_ignored():
    assert codec.decode("\ufeff{}") == {}


@pytest.mark.parametrize(("body", "reason"), [(b"\xef\xbb\xbf", "is empty"), (b"\xef\xbb\xbf<a/>", "XML")])
def test_a_mark_before_something_else_does_not_hide_what_follows(body, reason):
    with pytest.raises(Unreadable, match=reason):
        codec.decode(body)


@pytest.mark.parametrize("body", ["[1]".encode("utf-16")[:-1], b"\xff\xfe\x00\xd8[\0", b"\0\0\xfe\xff\xff\xff\xff\xff"])
def test_damaged_utf_16_is_reported_as_such(body):
    with pytest.raises(Unreadable, match="UTF-16 or UTF-32 that is damaged"):
        codec.decode(body)


def test_half_a_surrogate_pair_is_replaced_in_utf_16_too():
    assert codec.decode('"\\ud800"'.encode("utf-16")) == "\N{REPLACEMENT CHARACTER}"


def test_endless_marks_are_refused_without_recursion():
    with pytest.raises(Unreadable, match="not JSON"):
        codec.decode(b"\xef\xbb\xbf" * 100_000 + b"{}")
