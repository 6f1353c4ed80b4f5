"""Damaged times and numbers: they count as nothing, show a sentence, and are written back as they were stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select, text

from receiver.codec import canonical, encode
from receiver.database.columns import iso_text
from receiver.database.damage import damage_of, damaged_moment, damaged_number, read_choice
from receiver.database.database import Database
from receiver.findings.tables import DUTIES
from receiver.inbox.tables import State
from receiver.moments import time_text

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)

SAYS = "The stored value 'yesterday' is not a time. Correct it in the database."


def test_a_damaged_time_is_older_than_every_other_and_can_be_calculated_with():
    moment = damaged_moment("yesterday")
    assert moment < NOW
    assert max(moment, NOW) == NOW
    assert moment + timedelta(days=1) == datetime(1970, 1, 2, tzinfo=UTC)
    assert damage_of(moment + timedelta(days=1)) is None


@pytest.mark.parametrize("write", [str, time_text, "{:%H:%M}".format, lambda each: each.strftime("%Y")])
def test_every_text_of_a_damaged_time_is_the_sentence_about_it(write):
    assert write(damaged_moment("yesterday")) == f"damaged: {SAYS}"


def test_in_json_damage_is_a_sentence_and_a_time_calculated_from_it_is_a_time():
    moment = damaged_moment("yesterday")
    assert encode({"at": moment}) == f'{{"at":"damaged: {SAYS}"}}'.encode()
    assert canonical([moment]) == f'["damaged: {SAYS}"]'.encode()
    assert encode(moment + timedelta(seconds=1)) == b'"1970-01-01T00:00:01Z"'
    assert encode(damaged_number("many")).startswith(b"\"damaged: The stored value 'many' is not a whole number.")


def test_a_damaged_number_counts_as_nothing_and_is_shown_as_the_sentence_in_every_format():
    number = damaged_number("many")
    assert number + 1 == 1
    assert f"{number:,}" == str(number) == f"damaged: {damage_of(number)}"


@pytest.mark.parametrize("stored", ["yesterday", "", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00+05:00"])
def test_a_damaged_time_is_written_back_as_it_was_stored(tmp_path, stored):
    database = Database(f"sqlite:///{tmp_path}/d.db")
    database.create_tables()
    with database.write() as connection:
        connection.execute(insert(DUTIES).values(name="one", holder="h", until=NOW))
        connection.execute(text("UPDATE duties SET until = :stored"), {"stored": stored})
        read = connection.execute(select(DUTIES.c.until)).scalar_one()
        assert f"The stored value {stored!r} is not a time" in damage_of(read)
        connection.execute(insert(DUTIES).values(name="two", holder="h", until=read))
        assert connection.execute(text("SELECT until FROM duties WHERE name = 'two'")).scalar_one() == stored
    database.close()


def test_on_postgresql_a_time_beyond_the_calendar_is_damaged_and_is_written_back(postgresql_url):
    database = Database(postgresql_url)
    database.create_tables()
    with database.write() as connection:
        connection.execute(insert(DUTIES).values(name="one", holder="h", until=NOW))
        assert connection.execute(select(DUTIES.c.until)).scalar_one() == NOW
        connection.execute(text("UPDATE duties SET until = 'infinity'"))
        read = connection.execute(select(DUTIES.c.until)).scalar_one()
        assert "The stored value 'infinity' is not a time" in damage_of(read)
        connection.execute(insert(DUTIES).values(name="two", holder="h", until=read))
        connection.execute(insert(DUTIES).values(name="three", holder="h", until=read + timedelta(days=1)))
        found = connection.execute(text("SELECT until::text FROM duties WHERE name <> 'one' ORDER BY name")).scalars()
        assert list(found) == ["1970-01-02 00:00:00+00", "infinity"]
    database.close()


def test_a_time_that_sqlite_itself_wrote_is_in_utc(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/d.db")
    database.create_tables()
    with database.write() as connection:
        connection.execute(insert(DUTIES).values(name="one", holder="h", until=NOW))
        connection.execute(text("UPDATE duties SET until = datetime('2026-03-04 12:00:00')"))
        assert connection.execute(select(DUTIES.c.until)).scalar_one() == NOW
    database.close()


def test_a_state_that_no_release_has_is_its_text():
    assert read_choice(State, "dead") is State.DEAD
    assert read_choice(State, "odd") not in list(State)
    assert iso_text(NOW) == "2026-03-04T12:00:00.000000Z"
