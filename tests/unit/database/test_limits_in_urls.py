"""Time limits of connections in a URL: they have their effect, within bounds."""

from __future__ import annotations

from contextlib import closing

import pytest

from receiver.database.database import Database
from receiver.database.engines import CONNECT_ARGUMENTS, connect_arguments, doubts_about_url
from receiver.database.urls import parse
from receiver.server.doctor import _database
from receiver.settings.settings import Settings

SERVER = "postgresql://hookmirror@db/hookmirror"


def limit(name: str, value: str) -> object:
    return connect_arguments(parse(f"{SERVER}?{name}={value}"))[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [("connect_timeout", 12), ("keepalives_idle", 30), ("keepalives_interval", 10), ("keepalives_count", 5)],
)
def test_a_limit_in_the_url_wins(name, value):
    assert limit(name, str(value)) == value
    assert doubts_about_url(f"{SERVER}?{name}={value}", "THE_URL") == []


@pytest.mark.parametrize(
    ("name", "value", "used"),
    [
        ("connect_timeout", "300", 30),
        ("connect_timeout", "0", 5),
        ("connect_timeout", "-1", 5),
        ("connect_timeout", "soon", 5),
        ("connect_timeout", "9" * 5_000, 5),
        ("tcp_user_timeout", "1", 1_000),
        ("keepalives_idle", "7200", 60),
    ],
)
def test_a_limit_out_of_bounds_is_replaced_and_reported(name, value, used):
    assert limit(name, value) == used
    (doubt,) = doubts_about_url(f"{SERVER}?{name}={value}", "THE_URL")
    assert doubt.startswith(f"THE_URL has another {name} than {used}, which is used: write a whole number from ")


def test_a_password_behind_a_wrong_separator_is_not_shown():
    (doubt,) = doubts_about_url(f"{SERVER}?connect_timeout=5;password=hunter2", "THE_URL")
    assert "hunter2" not in doubt


def test_a_url_without_limits_has_the_usual_ones():
    assert connect_arguments(parse(SERVER)) == CONNECT_ARGUMENTS["postgresql"]
    assert doubts_about_url("sqlite:///hookmirror.db", "THE_URL") == []


def test_a_connection_has_the_limits_of_its_url(postgresql_url):
    address = f"{postgresql_url}?connect_timeout=7&keepalives_idle=31"
    with closing(Database(address)) as database, database.read() as connection:
        driver = connection.connection.driver_connection
        parameters = driver.info.get_parameters()  # type: ignore[union-attr]
    assert (parameters["connect_timeout"], parameters["keepalives_idle"]) == ("7", "31")


def test_doctor_names_a_limit_out_of_bounds():
    settings = Settings(database_url="postgresql://u@127.0.0.1:1/none?connect_timeout=300")
    first = next(iter(_database(settings, {})))
    assert (first.subject, first.good, first.doubtful) == ("database", True, True)
    assert "another connect_timeout than 30, which is used" in first.says
