"""Bytes reach PostgreSQL as they are, which compresses them with LZ4 where it can and nobody chose otherwise."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import psycopg
import pytest

from benchmarks.senders import IIMMPACT, STICKY
from receiver.database.byte_arrays import ByteArray
from receiver.database.database import Database
from receiver.database.postgresql import COMPRESS_BY_LZ4
from receiver.inbox.arrival import Arrival
from receiver.inbox.inbox import Inbox
from receiver.ingest.admission import Request, admit

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)

#: The most bytes of a statement's parameters besides the bodies.
REST = 2_000


@pytest.mark.parametrize(
    "elements",
    [[], [b""], [b"\x00\xff"], [None], [b"one", None, b"\\x00", None, b"x" * 100_000]],
    ids=["none", "empty", "not text", "null", "several"],
)
def test_an_array_of_bytes_arrives_as_it_was(postgresql_url, elements):
    with closing(Database(postgresql_url)) as database, database.read() as connection:
        found = connection.exec_driver_sql("SELECT unnest(CAST(%b AS bytea[]))", (ByteArray(elements),)).scalars().all()
    assert found == elements


@pytest.mark.parametrize("sender", [IIMMPACT, STICKY], ids=["plain", "encrypted"])
def test_a_body_is_sent_to_the_server_as_it_is(new_postgresql_url, sender):
    """In base64, it would be larger by a third."""
    sent = sender.sent(1, size=100_000)
    headers = [(sender.header.lower().encode(), sent.signature.encode())]
    [arrival] = admit([Request(sender.source, headers, sent.body)], now=NOON)
    assert isinstance(arrival, Arrival)
    sizes: list[int] = []

    def measure(cursor: psycopg.Cursor[Any], *given: Any, **named: Any) -> Any:
        result = execute(cursor, *given, **named)
        sizes.append(sum(len(each or b"") for each in cursor._query.params or ()))
        return result

    execute = psycopg.Cursor.execute
    with closing(Database(new_postgresql_url())) as database:
        database.create_tables()
        inbox = Inbox(database)
        inbox.prepare([arrival])
        with patch.object(psycopg.Cursor, "execute", measure):
            [answer] = inbox.accept([arrival])
        with database.read() as connection:
            found = connection.exec_driver_sql("SELECT body, plain FROM bodies").all()
    assert answer.status == "accepted"
    assert found == [(arrival.body, arrival.plain)]
    assert len(arrival.body) < max(sizes) < len(arrival.body) + len(arrival.plain or b"") + REST


def test_large_values_are_compressed_by_lz4_if_the_server_offers_it(postgresql_url):
    with closing(Database(postgresql_url)) as database, database.read() as connection:
        asked = "SELECT enumvals, setting FROM pg_settings WHERE name = 'default_toast_compression'"
        offered, chosen = connection.exec_driver_sql(asked).one()
    assert chosen == ("lz4" if "lz4" in offered else "pglz")


@pytest.mark.parametrize(("source", "offered", "is_set"), [("default", "lz4", True), ("database", "lz4", False)])
def test_a_compression_that_an_administrator_chose_stays(postgresql_url, source, offered, is_set):
    """The server of the tests may not offer LZ4, so a table stands for its list of settings."""
    with psycopg.connect(postgresql_url) as connection:
        connection.execute("CREATE TABLE public.pg_settings (name text, source text, enumvals text[])")
        row = ("default_toast_compression", source, ["pglz", offered])
        connection.execute("INSERT INTO public.pg_settings VALUES (%s, %s, %s)", row)
        connection.execute("SET search_path = public, pg_catalog")
        try:
            found = connection.execute(f"SELECT {COMPRESS_BY_LZ4}").fetchone() == ("lz4",)
        except psycopg.errors.InvalidParameterValue:
            found = True
    assert found == is_set
