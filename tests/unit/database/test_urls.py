"""URLs of one server or several, read as PostgreSQL's own library reads them."""

from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import ArgumentError

from receiver.database.urls import parse

#: URLs that PostgreSQL's own library understands.
READ_BY_BOTH = [
    "postgresql://u:p@h1:5432,h2:5433/db?target_session_attrs=read-write",
    "postgresql://u:p%40%2C@h1,h2:5433,h3/db",
    "postgresql://h1:5432,h2:5433",
    "postgresql://u@[::1]:5433,[fe80::1]/db",
    "postgresql://u@[::1]:5433/db",
    "postgresql://u@%2Ftmp%2Fx:5433/db",
    "postgresql://%2Ftmp,h2:6/db",
    "postgresql://u@:5433,:5434/db",
    "postgresql:///db?host=/tmp&port=5433",
    "postgresql://u@/db?host=h1,h2&port=1,2",
    "postgresql://h/db?host=::1&port=3",
    "postgresql://h1:1/db?sslmode=allow&sslmode=require",
    "postgresql:///db",
    "postgres://u:p%2Cq@h1/db",
]


def told(url: str) -> dict[str, str]:
    """Return the driver's arguments: each server, and the user and database there."""
    parsed = parse(url)
    _, named = create_engine(parsed).dialect.create_connect_args(parsed)
    named.pop("context")
    return {name: str(value) for name, value in named.items() if str(value).strip(",")}


@pytest.mark.parametrize("url", READ_BY_BOTH)
def test_a_url_is_read_as_by_postgresql_s_own_library(url):
    read = conninfo_to_dict(url)
    assert told(url) == {name: str(value) for name, value in read.items() if str(value).strip(",")}


@pytest.mark.parametrize(
    ("url", "hosts", "ports"),
    [
        ("postgresql://u@/db?host=h1:5432&host=h2:5433", "h1,h2", "5432,5433"),
        ("postgresql://u@/db?host=h1&host=h2", "h1,h2", ""),
        ("postgresql://u@/db?host=h1,h2&port=7", "h1,h2", "7,7"),
        ("postgresql:///db?host=[::1]:4&host=fe80::2&host=/run/pg", "::1,fe80::2,/run/pg", "4,,"),
        ("postgresql://h1:1,h2:2/db?port=7", "h1,h2", "7,7"),
    ],
)
def test_each_host_named_in_the_query_is_a_server(url, hosts, ports):
    assert (told(url)["host"], told(url).get("port", "")) == (hosts, ports)


@pytest.mark.parametrize("url", [*READ_BY_BOTH, "postgresql://u@/db?host=h1:5432&host=h2:5433"])
def test_a_url_that_was_read_is_written_so_that_it_reads_the_same(url):
    written = parse(url).render_as_string(hide_password=False)
    assert parse(written) == parse(url)


def test_options_of_the_session_are_combined():
    assert parse("postgresql://h/db?options=-ca%3D1&options=-cb%3D2").query["options"] == "-ca=1 -cb=2"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h1:x,h2/db",
        "postgresql://u:s3cret",
        "postgresql://u:s3:cret",
        "postgresql://h/db?port=x",
        "postgresql://[::1]x/db",
    ],
)
def test_a_port_that_is_not_a_number_is_refused(url):
    with pytest.raises(ValueError, match="a port is a number"):
        parse(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql:///db?host=h1,h2,h3&port=1,2", "^it names 3 hosts and 2 ports$"),
        ("postgresql://u:s3cret@h1,h2,h3/db?port=1,2", "^it names 3 hosts and 2 ports$"),
    ],
)
def test_ambiguous_servers_are_refused_without_being_shown(url, reason):
    with pytest.raises(ArgumentError, match=reason):
        parse(url)


@pytest.mark.parametrize("url", ["sqlite:///a,b.db", "sqlite:////var/x.db", "mysql://h1,h2/db"])
def test_urls_of_other_systems_are_read_unchanged(url):
    assert parse(url) == make_url(url)
