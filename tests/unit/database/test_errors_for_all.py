"""Errors of the database in answers for anyone: what is wrong and what to do, without names of hosts and users."""

from __future__ import annotations

import asyncio
from contextlib import closing, contextmanager

import psycopg
import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.requests import Request

from receiver.api.readiness import Readiness
from receiver.api.routes import answer_database_error
from receiver.database.database import Database
from receiver.database.errors import NO_DATABASE, describe_for_all, explain
from receiver.inbox.inbox import Inbox

FAILED = 'connection failed: connection to server at "10.0.0.9", port 5432 failed: '

ROLE = "hookmirror_role_without_connections"


def of_opening(reason):
    return OperationalError("", None, psycopg.OperationalError(FAILED + reason))


@contextmanager
def full(url):
    """Give the URL of a role that may open no connection to this database."""
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {ROLE} LOGIN CONNECTION LIMIT 0")
        try:
            yield make_url(url).set(username=ROLE).render_as_string(hide_password=False)
        finally:
            owner.execute(f"DROP ROLE {ROLE}")


@pytest.mark.parametrize(
    "reason",
    [
        "FATAL:  sorry, too many clients already",
        "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
        'FATAL:  too many connections for role "hookmirror"',
        'FATAL:  too many connections for database "hookmirror"',
    ],
)
def test_a_server_without_a_free_connection_is_named_with_what_to_do(reason):
    said = describe_for_all(of_opening(reason))
    assert said.startswith("The database has no free connection: close other connections, or raise `max_connections`")
    assert "hookmirror" not in said


@pytest.mark.parametrize("reason", ['FATAL:  password authentication failed for user "x"', "FATAL:  Rolle fehlt"])
def test_a_server_that_refuses_the_connections_is_not_said_not_to_answer(reason):
    assert describe_for_all(of_opening(reason)).startswith("The database refuses the connections of this process: run")


@pytest.mark.parametrize("reason", ["Connection refused", "timeout expired"])
def test_a_server_that_cannot_be_reached_does_not_answer(reason):
    assert describe_for_all(of_opening(reason)) == NO_DATABASE


def test_a_file_that_cannot_be_opened_is_named_without_its_path(tmp_path):
    url = f"sqlite:///{tmp_path}/none/hookmirror.db"
    with closing(Database(url)) as database, pytest.raises(SQLAlchemyError) as raised, database.read():
        pass
    assert describe_for_all(raised.value).startswith("The file of the database cannot be used: run `hookmirror doctor`")


@pytest.mark.parametrize("code", ["53100", "42P01", "XX001"])
def test_a_server_that_answers_with_an_error_is_not_said_not_to_answer(code):
    said = describe_for_all(OperationalError("", None, psycopg.errors.lookup(code)("at 10.0.0.9")))
    assert said.startswith("The database answers with an error: run `hookmirror doctor`, and look into the log")


@pytest.mark.parametrize("code", ["57P01", "08006"])
def test_a_server_that_ends_the_connection_does_not_answer(code):
    assert describe_for_all(OperationalError("", None, psycopg.errors.lookup(code)(""))) == NO_DATABASE


def test_a_refused_statement_is_not_said_to_be_an_unusable_file(tmp_path):
    url = f"sqlite:///{tmp_path}/hookmirror.db"
    with closing(Database(url)) as database, pytest.raises(SQLAlchemyError) as raised, database.read() as connection:
        connection.exec_driver_sql("SELECT json('{')")
    assert describe_for_all(raised.value).startswith("The database answers with an error")


def test_a_used_up_pool_is_not_said_to_be_a_database_that_does_not_answer():
    assert describe_for_all(PoolTimeoutError("QueuePool limit")).startswith("All connections of this process are in")


def test_a_used_up_pool_is_not_blamed_on_the_url():
    said = explain(PoolTimeoutError("QueuePool limit of size 8 overflow 4 reached"), "postgresql://db/hookmirror")
    assert "All connections of this process are in use: look for what keeps the database busy" in said
    assert "HOOKMIRROR_DATABASE_URL" not in said


def test_readiness_says_that_the_database_has_no_free_connection(postgresql_url):
    with (
        full(postgresql_url) as url,
        closing(Database(url)) as database,
        closing(Readiness(Inbox(database), [], max_backlog_seconds=1)) as readiness,
    ):
        assert "has no free connection" in (asyncio.run(readiness.reason()) or "")


def test_an_answer_of_the_api_says_that_the_database_has_no_free_connection():
    request = Request({"type": "http", "path": "/api/v1/deliveries", "headers": [], "query_string": b""})
    answer = answer_database_error(request, of_opening("FATAL:  sorry, too many clients already"))
    assert answer.status_code == 503
    assert b"The database has no free connection" in answer.body
    assert b"10.0.0.9" not in answer.body
