"""Advice for errors of the database that operators meet in unusual but real environments."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from receiver.database.database import Database
from receiver.database.errors import explain

SERVER = "postgresql://hookmirror@db/hookmirror"

#: Bits of a mounted file system as `os.statvfs` reports them.
READ_ONLY, WRITABLE = SimpleNamespace(f_flag=os.ST_RDONLY), SimpleNamespace(f_flag=0)


def opening(path):
    """Return the explanation of the error that comes from opening this file."""
    url = f"sqlite:///{path}"
    with closing(Database(url)) as database, pytest.raises(SQLAlchemyError) as raised, database.read():
        pass
    return explain(raised.value, url)


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ('FATAL:  role "nobody" does not exist', "Create the role on the server, or correct the user in"),
        ('FATAL:  database "nope" does not exist', "Create the database, or correct its name in"),
        ('root certificate file "/root/.postgresql/root.crt" does not exist', "as `sslrootcert=…` in"),
        ("SSL error: certificate verify failed", "Name the certificate of the server's authority"),
        ('server certificate for "db" does not match host name "127.0.0.1"', "by the name in its certificate"),
        ("server does not support SSL, but SSL was required", "Turn on SSL on the server, or correct `sslmode`"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "h", database "h", no encryption', "admit this user"),
        ('FATAL:  role "viewer" is not permitted to log in', "Run `ALTER ROLE … LOGIN`"),
        ("fe_sendauth: no password supplied", "Write the password into HOOKMIRROR_DATABASE_URL"),
        ("consuming input failed: server closed the connection unexpectedly", "wait until it answers, and run this"),
        ("FATAL:  the database system is starting up", "wait until it answers, and run this"),
        ("terminating connection due to administrator command", "wait until it answers, and run this"),
        ("failed to resolve host 'db.example'", "check the network between this machine and the server"),
        ('could not extend file "base/1/2": No space left on device', "Free some space on the server's disk"),
        ("canceling statement due to statement timeout", "The server took too long"),
        ("function shelf(text) does not exist", "Check HOOKMIRROR_DATABASE_URL"),
    ],
)
def test_an_error_of_the_server_is_explained_with_what_to_do(reason, advice):
    assert advice in explain(OperationalError("", None, Exception(reason)), SERVER)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("42501", "Give this user the rights it needs"),
        ("42P01", "run `hookmirror doctor`"),
        ("3F000", "names no schema that it may use"),
        ("25006", "Name the primary server"),
        ("55P03", "Another session holds what must be changed"),
        ("53100", "Free some space on the server's disk"),
        ("57P01", "wait until it answers, and run this again"),
        ("57014", "someone ended the statement"),
        ("58030", "cannot read or write its own files: check its disk"),
        ("XX001", "restore the database from a backup"),
        ("XX002", "rebuild the index by `REINDEX`"),
        ("53200", "Look into the log of the server"),
    ],
)
def test_the_advice_does_not_depend_on_the_language_of_the_server(code, advice):
    original = psycopg.errors.lookup(code)("keine Berechtigung, oder etwas anderes")
    assert advice in explain(OperationalError("", None, original), SERVER)


@pytest.mark.parametrize(
    ("code", "reason", "advice"),
    [
        ("22P02", 'malformed array literal: "x"', "Look into the log of the server"),
        ("55P03", 'could not obtain lock on relation "deliveries"', "Another session holds what must be changed"),
        ("58030", 'could not open file "base/1/2": Read-only file system', "check its disk"),
        ("23502", 'null value in column "x" of relation "y" violates not-null constraint', "Look into the log"),
    ],
)
def test_words_that_an_error_of_the_server_shares_with_another_do_not_decide(code, reason, advice):
    assert advice in explain(OperationalError("", None, psycopg.errors.lookup(code)(reason)), SERVER)


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("interrupted", "It took too long: look for what else keeps the machine busy"),
        ("locking protocol", "Its disk may not keep locks, as on a network: name a file on a disk of this machine"),
        ("parser stack overflow", "Run this again; if the error comes again, check the file"),
    ],
)
def test_an_error_of_an_opened_file_is_not_blamed_on_the_url(reason, advice):
    said = explain(OperationalError("", None, sqlite3.OperationalError(reason)), "sqlite:////data/hookmirror.db")
    assert advice in said
    assert "Check HOOKMIRROR_DATABASE_URL" not in said


def test_a_file_that_its_url_opens_for_reading_only_is_not_blamed_on_rights():
    error = OperationalError("", None, sqlite3.OperationalError("attempt to write a readonly database"))
    said = explain(error, "sqlite:///file:/data/hookmirror.db?uri=true&mode=ro")
    assert "HOOKMIRROR_DATABASE_URL opens the file for reading only: write `mode=rw` there" in said


def test_a_malformed_document_in_a_sound_file_is_not_explained_as_a_damaged_file(tmp_path):
    with closing(Database(f"sqlite:///{tmp_path}/hookmirror.db")) as database:
        with pytest.raises(SQLAlchemyError) as raised, database.read() as it:
            it.execute(text("SELECT value FROM json_each('[')")).all()
        assert "damaged" not in explain(raised.value, f"sqlite:///{tmp_path}/hookmirror.db")


def test_a_role_without_rights_gets_the_same_advice_whatever_the_server_says(postgresql_url):
    with closing(Database(postgresql_url)) as database, pytest.raises(SQLAlchemyError) as raised, database.read() as it:
        it.execute(text("DO $$ BEGIN RAISE insufficient_privilege USING MESSAGE = 'keine Berechtigung'; END $$"))
    assert explain(raised.value, postgresql_url).endswith("Give this user the rights it needs: see docs/deployment.md.")


def test_a_new_file_on_a_disk_that_is_mounted_read_only_is_explained_by_the_mount(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda _: READ_ONLY)
    assert "Its disk is mounted read-only, so mount it for writing, or name a file on another disk in" in opening(
        tmp_path / "none" / "hookmirror.db"
    )


def test_a_present_file_on_a_disk_that_is_mounted_read_only_is_explained_by_the_mount(tmp_path, monkeypatch):
    error, url = Exception("attempt to write a readonly database"), f"sqlite:///{tmp_path}/hookmirror.db"
    monkeypatch.setattr(os, "statvfs", lambda _: READ_ONLY)
    assert "Its disk is mounted read-only" in explain(error, url)
    monkeypatch.setattr(os, "statvfs", lambda _: WRITABLE)
    assert explain(error, url).endswith("Give this user the right to write the file and its folder.")


def test_a_link_to_a_folder_that_is_missing_is_explained_with_its_target(tmp_path):
    link = tmp_path / "hookmirror.db"
    link.symlink_to(tmp_path / "gone" / "data.db")
    assert f"It is a link to {tmp_path}/gone/data.db, so create the folder of that" in opening(link)
