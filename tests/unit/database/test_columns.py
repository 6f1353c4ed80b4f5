"""Column values are kept exactly or refused with the name of their column, and come back equal from a database."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    MetaData,
    String,
    Table,
    insert,
    select,
    text,
)
from sqlmodel.sql.sqltypes import AutoString

from examples import examples
from receiver.database.columns import Document, ExactDecimal, UtcDateTime, iso_text
from receiver.database.database import Database
from receiver.database.normalizers import normalizer
from receiver.errors import HandlerError

PRICES = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20)
TABLE = Table(
    "values",
    MetaData(),
    Column("price", ExactDecimal()),
    Column("moment", UtcDateTime()),
    Column("data", Document()),
)


@pytest.fixture(scope="module")
def connection(lend_database, tmp_path_factory):
    with (
        lend_database(tmp_path_factory.mktemp("columns")) as url,
        closing(Database(url)) as database,
        database.engine.connect() as opened,
    ):
        TABLE.create(opened)
        yield opened


def stored(connection, column, value):
    """Store the value; return it as read back, and as text from the database."""
    connection.execute(TABLE.delete())
    connection.execute(insert(TABLE).values({column: value}))
    back = connection.execute(select(TABLE.c[column])).scalar_one()
    return back, connection.execute(text(f'SELECT CAST("{column}" AS TEXT) FROM "values"')).scalar_one()


@pytest.mark.parametrize("digits", ["10.0000", "0.10", "-3", "1E+3", "0.0000001", "99999999999999999999.99"])
def test_a_price_keeps_its_digits_in_the_database(connection, digits):
    assert stored(connection, "price", Decimal(digits)) == (Decimal(digits), format(Decimal(digits), "f"))


@examples(40)
@given(price=PRICES)
def test_any_price_comes_back_equal(connection, price):
    assert stored(connection, "price", price)[0] == price


@examples(60)
@given(price=PRICES)
@example(price=Decimal("-0"))
@example(price=Decimal("-0.00"))
@example(price=Decimal("0E+5"))
@example(price=Decimal("1.50E+3"))
def test_the_stored_form_of_a_price_comes_back_with_its_digits_and_sign(connection, price):
    kept = normalizer(ExactDecimal())("price", price)
    assert kept == price
    assert stored(connection, "price", kept)[0].as_tuple() == kept.as_tuple()


@pytest.mark.parametrize(("price", "kept"), [("-0", "0"), ("-0.00", "0.00"), ("-0E+5", "0"), ("-0.01", "-0.01")])
def test_a_zero_loses_its_sign_and_keeps_its_digits(price, kept):
    assert normalizer(ExactDecimal())("price", Decimal(price)).as_tuple() == Decimal(kept).as_tuple()


def test_a_time_is_kept_in_utc_as_text_that_sorts(connection):
    moment = datetime(2026, 3, 8, 14, 0, 0, 5, tzinfo=timezone(timedelta(hours=2)))
    back, kept = stored(connection, "moment", moment)
    assert (back, back.tzinfo) == (moment, UTC)
    assert kept in ("2026-03-08T12:00:00.000005Z", "2026-03-08 12:00:00.000005+00")


@examples(40)
@given(moments=st.tuples(*[st.datetimes(timezones=st.just(UTC))] * 2))
def test_times_as_text_sort_like_the_times(connection, moments):
    one, other = (stored(connection, "moment", moment)[1] for moment in moments)
    assert (one < other) == (moments[0] < moments[1])


@examples(40)
@given(data=st.dictionaries(st.text(), st.integers(-9, 9) | st.text() | PRICES | st.none(), max_size=4))
def test_a_document_comes_back_with_its_fractions_exact(connection, data):
    assert stored(connection, "data", data)[0] == data


@pytest.mark.parametrize("column", ["price", "moment", "data"])
def test_null_stays_null(connection, column):
    assert stored(connection, column, None) == (None, None)


@pytest.mark.parametrize(
    ("kind", "given_value", "kept"),
    [
        (ExactDecimal(), "12.50", Decimal("12.50")),
        (ExactDecimal(), 12, Decimal(12)),
        (Document(), {"a": (1, Decimal("1.50"))}, {"a": [1, Decimal("1.50")]}),
        (String(), "a\0b\ud800", "a\ufffdb\ufffd"),
        (AutoString(), "a\0b", "a\ufffdb"),
        (Boolean(), True, True),
        (Integer(), -5, -5),
        (BigInteger(), 2**63 - 1, 2**63 - 1),
    ],
)
def test_a_value_is_converted_to_the_type_of_its_column(kind, given_value, kept):
    assert normalizer(kind)("column", given_value) == kept


def test_a_decimal_in_a_document_is_not_a_float():
    assert type(normalizer(Document())("data", {"price": Decimal("0.1")})["price"]) is Decimal


def test_a_time_is_converted_to_utc():
    eastern = datetime(2026, 3, 8, 8, tzinfo=timezone(-timedelta(hours=4)))
    assert normalizer(UtcDateTime())("at", eastern).isoformat() == "2026-03-08T12:00:00+00:00"


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (ExactDecimal(), 1.5, "a float has lost digits already"),
        (ExactDecimal(), True, "takes a Decimal"),
        (ExactDecimal(), "on request", "'on request' is not a number"),
        (ExactDecimal(), Decimal("NaN"), "within 10"),
        (ExactDecimal(), Decimal("Infinity"), "within 10"),
        (ExactDecimal(), Decimal("1E+1001"), "within 10"),
        (ExactDecimal(), Decimal("1E-1001"), "within 10"),
        (UtcDateTime(), datetime(2026, 3, 8), "with its offset"),  # noqa: DTZ001
        (UtcDateTime(), "2026-03-08T12:00:00Z", "with its offset"),
        (Document(), {"a": object()}, "a value that JSON can express"),
        (Document(), {"a": "\ud800"}, "a value that JSON can express"),
        (String(), 5, "takes text, not the int 5"),
        (AutoString(), 5, "takes text, not the int 5"),
        (Boolean(), 1, "takes true or false"),
        (Integer(), 2**63, "at most 64 bits"),
        (Integer(), True, "a whole number"),
        (Integer(), "5", "a whole number"),
    ],
)
def test_a_value_that_a_column_cannot_keep_exactly_is_refused_with_the_column_s_name(kind, value, reason):
    with pytest.raises(HandlerError, match=reason) as refused:
        normalizer(kind)("the_column", value)
    assert "`the_column`" in str(refused.value)


def test_an_endlessly_nested_document_is_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(HandlerError, match="a value that JSON can express"):
        normalizer(Document())("data", endless)


def test_both_hours_of_a_clock_that_is_set_back_stay_distinct():
    first = datetime(2026, 11, 1, 1, 30, tzinfo=ZoneInfo("America/New_York"))
    assert (iso_text(first), iso_text(first.replace(fold=1))) == (
        "2026-11-01T05:30:00.000000Z",
        "2026-11-01T06:30:00.000000Z",
    )


@given(moment=st.datetimes(timezones=st.just(UTC)))
def test_any_time_is_written_with_microseconds(moment):
    assert iso_text(moment) == moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
