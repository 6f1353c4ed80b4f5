"""No part of a password appears in a message about a database, however its URL is written."""

from __future__ import annotations

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from receiver.database.database import Database
from receiver.database.errors import explain
from receiver.database.redaction import has_bare_at_sign, redacted, shown
from receiver.database.urls import parse
from receiver.errors import ConfigurationError

#: No server listens there, so the driver reports the address.
NOBODY = "127.0.0.1:1/db"

PIECES = ("hun", "ter2")


def said_of(url: str) -> str:
    """Return the message about a database that cannot be used."""
    try:
        database = Database(url)
    except ConfigurationError as error:
        return str(error)
    with pytest.raises(SQLAlchemyError) as failed, database.read():
        pass
    database.close()
    return explain(failed.value, url)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:hunter2@{NOBODY}",
        f"postgresql://u:hun@ter2@{NOBODY}",
        f"postgresql://u:hun@te/r2@{NOBODY}",
        f"postgresql://u:@hunter2@{NOBODY}",
        f"postgresql://u:x@hun?ter2@{NOBODY}",
        f"postgresql://u:x@hun?ter2=1@{NOBODY}",
        f"postgresql://u:hun%40ter2@{NOBODY}",
        f"postgresql://u:hun%2540ter2@{NOBODY}",
        f"postgresql://u:hun%00ter2@{NOBODY}",
        f"postgresql://u@{NOBODY}?password=hunter2",
        f"postgresql://u@{NOBODY}?password=hun@ter2",
        f"postgresql://u@{NOBODY}?sslpassword=hun%40ter2",
        f"postgresql://u@{NOBODY}?password=one&password=hunter2",
        f"postgresql://u@{NOBODY}?pasword=hunter2",
        f"postgresql://u:hunter2@{NOBODY}?sslmode=hunter2",
        "postgresql://u:hunter2",
        "postgresql://u:hunter2@[::1/db",
        "postgresql://u:hunter2@127.0.0.1:1:2/db",
        "postgresql:/u:hunter2@127.0.0.1/db",
        "u:hunter2@127.0.0.1/db",
    ],
)
def test_no_part_of_a_password_is_shown(url):
    told = said_of(url)
    assert "cannot be used" in told
    assert [piece for piece in PIECES if piece in told] == []


def test_an_at_sign_in_a_password_is_answered_with_how_to_write_it():
    assert said_of(f"postgresql://u:hun@ter2@{NOBODY}") == (
        "HOOKMIRROR_DATABASE_URL cannot be used: it has an @ besides the one before the host. Write each @ in user, "
        "password or query as %40."
    )


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:p@h/db", "postgresql://u:p?q@h/db", "postgresql://u:p@h/db?options=-c%40", "postgresql:///db"],
)
def test_the_at_sign_before_the_host_is_not_taken_for_a_part_of_a_password(url):
    assert not has_bare_at_sign(url)


def test_a_file_is_shown_whole_and_a_server_without_its_password_and_query():
    assert shown(make_url("sqlite:///a.db?mode=ro&uri=true")) == "sqlite:///a.db?mode=ro&uri=true"
    assert shown(make_url("postgresql://u:p@h:5/db?password=x&sslmode=require")) == "postgresql://u:***@h:5/db"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://u:p@h1:5,h2/db?password=x", "postgresql://u:***@h1:5,h2/db"),
        ("postgresql://h1:5,[::1]:6/db", "postgresql://h1:5,[::1]:6/db"),
        ("postgres://u@/db?host=h1:5&host=h2:6", "postgresql://u@h1:5,h2:6/db"),
        ("postgresql:///db?host=/run/pg&port=6", "postgresql:///run/pg:6/db"),
    ],
)
def test_the_address_of_every_server_is_shown(url, told):
    assert shown(parse(url)) == told


def test_a_password_is_removed_from_a_driver_s_message_as_it_was_written_too():
    url = make_url("postgresql://u:p%40ss%20word@h/db?sslpassword=another")
    quoted = 'in "postgresql://u:p%40ss%20word@h", p@ss word, p%40ss+word and another of another-host'
    assert redacted(quoted, url) == 'in "postgresql://u:***@h", ***, *** and *** of ***-host'


def test_a_password_of_a_few_letters_does_not_spoil_a_message():
    assert redacted("a connection to a host", make_url("postgresql://u:a@h/db")) == "a connection to a host"
