"""Cursors: each is read as it was written, and only for the same list, filter, database and key."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer

from receiver.errors import BadRequest
from receiver.search.cursors import CURSOR_SALT, LONGEST_CURSOR, Cursors, ListedIn
from receiver.search.filters import DeliveryFilter, RowFilter

KEY = "key-of-these-tests"
CURSORS = Cursors([KEY])
DELIVERIES = ListedIn("deliveries", DeliveryFilter(), "here")
ROWS = ListedIn("products", RowFilter(source="shop"), "here")

ANY_TEXT = st.text(max_size=512)


@given(source=ANY_TEXT, external_id=ANY_TEXT)
def test_any_key_comes_back_as_it_was(source, external_id):
    cursor = CURSORS.write(ROWS, (source, external_id))
    assert cursor is not None
    assert len(cursor) <= LONGEST_CURSOR
    assert CURSORS.read(ROWS, cursor) == (source, external_id)


def test_the_last_page_has_no_cursor():
    assert CURSORS.write(ROWS, None) is None
    assert CURSORS.read(ROWS, None) is None


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        (ListedIn("variants", RowFilter(source="shop"), "here"), "belongs to the list products, not variants"),
        (ListedIn("products", RowFilter(source="mall"), "here"), "belongs to other filters"),
        (ListedIn("products", RowFilter(), "here"), "belongs to other filters"),
        (ListedIn("products", RowFilter(source="shop"), "there"), "belongs to another database"),
    ],
)
def test_a_cursor_of_another_list_is_refused_with_the_difference(listed, reason):
    cursor = CURSORS.write(ROWS, ("shop", "A1"))
    with pytest.raises(BadRequest, match=reason):
        CURSORS.read(listed, cursor)


def test_a_cursor_has_the_time_from_which_relative_times_count():
    began = datetime(2026, 11, 28, 12, 0, 0, 123_456, UTC)
    cursor = CURSORS.write(ListedIn("deliveries", DeliveryFilter(begin=began), "here", as_of=began), (7,))
    assert CURSORS.as_of(cursor) == began
    assert CURSORS.read(ListedIn("deliveries", DeliveryFilter(begin=began), "here"), cursor) == (7,)
    assert CURSORS.as_of(CURSORS.write(DELIVERIES, (7,))) is None
    assert CURSORS.as_of(None) is None


@given(st.data())
def test_a_cursor_with_any_character_changed_is_refused(data):
    cursor = CURSORS.write(ROWS, ("shop", "A1"))
    assert cursor is not None
    place = data.draw(st.integers(0, len(cursor) - 2))
    other = data.draw(st.characters().filter(lambda each: each != cursor[place]))
    with pytest.raises(BadRequest, match="`cursor` was not signed by this installation"):
        CURSORS.read(ROWS, cursor[:place] + other + cursor[place + 1 :])


@pytest.mark.parametrize("cursor", ["", "1", "x" * 100_000, "\0", "\ud800", "é", "a.b", "..", "%FF", "' OR 1=1 --"])
def test_a_text_that_is_not_a_cursor_is_refused(cursor):
    with pytest.raises(BadRequest, match="`cursor` was not signed by this installation"):
        CURSORS.read(DELIVERIES, cursor)


def test_a_cursor_survives_a_new_secret_key_while_the_old_one_is_configured():
    cursor = CURSORS.write(ROWS, ("shop", "A1"))
    assert Cursors([KEY, "newest"]).read(ROWS, cursor) == ("shop", "A1")
    with pytest.raises(BadRequest):
        Cursors(["newest"]).read(ROWS, cursor)


@pytest.mark.parametrize("content", [{}, [], [1, 2], "text", None, ["products", "x", "here", 5, ""]])
def test_a_signed_text_that_is_not_a_cursor_is_refused(content):
    with pytest.raises(BadRequest):
        CURSORS.read(ROWS, URLSafeSerializer(KEY, salt=CURSOR_SALT).dumps(content))


def test_a_token_of_the_api_is_not_a_cursor():
    with pytest.raises(BadRequest):
        CURSORS.read(ROWS, URLSafeSerializer(KEY, salt="hookmirror-api-token").dumps(["products", "", "here", [], ""]))
