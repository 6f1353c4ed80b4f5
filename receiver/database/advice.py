"""Advice for errors of the database: what a person can do, by the words of the error or by PostgreSQL's code.

A server words its errors in its own language, and gives the code of most of them. Errors of opening a connection have
no code.
"""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from receiver.database import urls
from receiver.database.sqlite.connections import DOUBTFUL
from receiver.database.sqlite.files import BESIDE_MOVED, MOVED
from receiver.system_limits import explain_few_files, has_few_files

#: The message of PostgreSQL's library for a server that accepts no writes.
NO_WRITES = "session is read-only"

#: PostgreSQL's messages for a server, a role or a database with as many connections as it may have.
NO_FREE_CONNECTION = ("too many connections", "too many clients", "remaining connection")

#: SQLite's message for any failure to open a file.
_NOT_OPENED = "unable to open database file"

#: SQLite's words for a file that cannot be written.
_NOT_WRITABLE = (_NOT_OPENED, "readonly database")


def advise(error: BaseException, reason: str, url: URL) -> str:
    """Say what to do about this error, whose words are `reason`. `{setting}` stands for the setting with the URL."""
    words = reason.lower()
    if _NOT_WRITABLE[1] in words and url.query.get("mode") == "ro":
        return _ONLY_READ
    about_file = _advise_about_file(words, urls.path_of(url)) if url.get_backend_name() == "sqlite" else None
    if about_file is not None:
        return about_file
    if isinstance(error, PoolTimeoutError):
        return _ALL_IN_USE
    system = url.get_backend_name()
    by_words = next((mend for symptom, mend in _BY_WORDS[system] if _fits(symptom, words)), None)
    return by_words or _BY_STATE.get(_state(error), _advise_by_place(error, system))


def _advise_by_place(error: BaseException, system: str) -> str:
    """Say what to do about an unknown error: the URL is in doubt only if no connection may have been opened."""
    if _state(error) is not None:
        return _REFUSED
    if not isinstance(error, SQLAlchemyError):
        return _OF_URL
    if not isinstance(error, OperationalError):
        return _OF_PROGRAM
    return _OF_FILE if system == "sqlite" else _OF_URL


def _advise_about_file(words: str, file: str) -> str | None:
    """Say what to do about a SQLite file that cannot be opened or written; None if its words say more."""
    if not any(each in words for each in _NOT_WRITABLE):
        return None
    if _is_mounted_read_only(file):
        return _sentence(advise_about_new_file(file))
    if _NOT_OPENED not in words:
        return None
    if has_few_files():
        return explain_few_files()
    if os.path.isdir(file):
        return "This path is a folder: name a file in {setting}."
    if os.path.exists(file) and not os.access(file, os.R_OK | os.W_OK):
        return "Give this user the right to read and write the file."
    return _sentence(advise_about_new_file(file))


def advise_about_new_file(file: str) -> str:
    """Say what to do about a SQLite file that cannot be created. `{setting}` stands for the setting with the URL."""
    if _is_mounted_read_only(file):
        return "its disk is mounted read-only, so mount it for writing, or name a file on another disk in {setting}"
    target = os.path.realpath(file)
    if os.path.islink(file):
        return f"it is a link to {target}, so create the folder of that, or give this user the right to write there"
    return "create its folder, or give this user the right to write there"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _is_mounted_read_only(file: str) -> bool:
    path = Path(os.path.realpath(file))
    there = next((each for each in (path, *path.parents) if os.path.exists(each)), None)
    try:
        return there is not None and bool(os.statvfs(there).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _fits(symptom: str, words: str) -> bool:
    """Whether an error has these words; … stands for any words in between."""
    return all(part in words for part in symptom.split("…"))


def _state(error: BaseException) -> str | None:
    state: str | None = getattr(getattr(error, "orig", None) or error, "sqlstate", None)
    return state


_NO_PRIMARY = (
    "Name the primary server in {setting}, not a copy of it; if a failover is under way, wait for its end. If it is "
    "the primary, turn off `default_transaction_read_only` of the role or of the database."
)

_POOLER = "There is a pooler in between: let it pool sessions, or name PostgreSQL's own address in {setting}."

_NO_CONNECTION = (
    "Close other connections, or raise `max_connections` of the server or the role's own limit: docs/deployment.md "
    "says how many are needed."
)

_OTHER_TABLES = "The tables are not those of this release: run `hookmirror doctor`, which says what to do."

_LOCKED = "Another session holds what must be changed: end it, or wait for it, and run this again."

_NO_SCHEMA = (
    "The role's `search_path` names no schema that it may use: create one, or run "
    "`ALTER ROLE … SET search_path = public`."
)

_RIGHTS = "Give this user the rights it needs: see docs/deployment.md."

_ENDED = "The server was stopped or restarted, or ended the connection: wait until it answers, and run this again."

_UNREACHED = "Correct host and port in {setting}, or check the network between this machine and the server."

_FULL = "Free some space on the server's disk; nothing that was acked is lost."

_OVERDUE = (
    "The server took too long, or someone ended the statement: look for what else keeps the server busy, and run this "
    "again."
)

_DAMAGED = "Files of the server are damaged: check its disk, and restore the database from a backup."

#: An index holds nothing that its table does not, so no backup is needed.
_DAMAGED_INDEX = "An index on the server is damaged: check the server's disk, and rebuild the index by `REINDEX`."

_DAMAGED_FILE = "The file is damaged, or cannot be read: check its disk, or restore it from a backup."

_NOT_READ = "The server cannot read or write its own files: check its disk."

_ALL_IN_USE = (
    "All connections of this process are in use: look for what keeps the database busy, or for a session that holds a "
    "lock, and run this again."
)

_OF_URL = "Check {setting}."

#: The file was opened, so the setting leads to it.
_OF_FILE = "Run this again; if the error comes again, check the file by `PRAGMA integrity_check`, and report the error."

#: The error was raised before a database could have raised it, or without one.
_OF_PROGRAM = "Run this again; if the error comes again, report it."

#: The server answered, so the setting leads to it.
_REFUSED = "Look into the log of the server, which may say more."

_ONLY_READ = "{setting} opens the file for reading only: write `mode=rw` there, or leave the mode out."

_WITHOUT_LOCKS = "Its disk may not keep locks, as on a network: name a file on a disk of this machine in {setting}."

_OF_SQLITE = (
    (MOVED, "Put the file back; or stop every process that has it open, and start them again."),
    (BESIDE_MOVED, "Stop every process that has the database open, and start them again."),
    (DOUBTFUL, "Check its disk; writing resumes by itself once a checkpoint has succeeded."),
    ("readonly", "Give this user the right to write the file and its folder."),
    ("permission denied", "Give this user the right to read and write the file and its folder."),
    ("disk is full", "Free some space on its disk; nothing that was acked is lost."),
    ("disk i/o error", "Check its disk: is there space left, and may this user write there?"),
    ("not a database", "The file is not an SQLite database: name another file in {setting}."),
    # Not every "malformed", because a document in a sound file may be.
    *((symptom, _DAMAGED_FILE) for symptom in ("image is malformed", "malformed database")),
    ("interrupted", "It took too long: look for what else keeps the machine busy, and run this again."),
    ("locking protocol", _WITHOUT_LOCKS),
    ("locked", "Another program holds the file: stop that program, or wait for it."),
    *((symptom, _OTHER_TABLES) for symptom in ("no such column", "no such table", "has no column named")),
)

_OF_POSTGRESQL = (
    *((symptom, _NO_PRIMARY) for symptom in (NO_WRITES, "read-only transaction", "during recovery")),
    *((symptom, _POOLER) for symptom in ("unsupported startup parameter", "prepared statement")),
    ("lock timeout", _LOCKED),
    *((symptom, _NO_CONNECTION) for symptom in NO_FREE_CONNECTION),
    ("no schema has been selected", _NO_SCHEMA),
    ("refused", "Start PostgreSQL, or correct host and port in {setting}."),
    ("password authentication", "Correct user and password in {setting}."),
    ("no password supplied", "Write the password into {setting}, or into a file that PGPASSFILE names."),
    (
        "row-level security",
        "Run `ALTER TABLE … DISABLE ROW LEVEL SECURITY` for the table, or `ALTER ROLE … BYPASSRLS`.",
    ),
    *((symptom, _OTHER_TABLES) for symptom in ('relation "…does not exist', "column …does not exist")),
    (
        "root certificate",
        "Name the file with the certificate of the server's authority as `sslrootcert=…` in {setting}, or allow "
        "connections without that check by `sslmode=require`.",
    ),
    ("certificate verify failed", "Name the certificate of the server's authority as `sslrootcert=…` in {setting}."),
    ("certificate…does not match", "Name the server in {setting} by the name in its certificate."),
    ("does not support ssl", "Turn on SSL on the server, or correct `sslmode` in {setting}."),
    ("pg_hba.conf", "Let the server's pg_hba.conf admit this user from this machine, or correct {setting}."),
    ('database "…does not exist', "Create the database, or correct its name in {setting}."),
    ('role "…does not exist', "Create the role on the server, or correct the user in {setting}."),
    ("not permitted to log in", "Run `ALTER ROLE … LOGIN`, or correct the user in {setting}."),
    ("must be owner of", "Run `hookmirror migrate` as the role that owns the tables: see docs/deployment.md."),
    ("permission denied", _RIGHTS),
    *((symptom, _ENDED) for symptom in ("terminating connection", "closed the connection", "database system is")),
    *((symptom, _ENDED) for symptom in ("connection has been closed", "the connection is lost", "connection reset")),
    *((symptom, _UNREACHED) for symptom in ("failed to resolve host", "timeout expired", "no route", "unreachable")),
    ("no space left on device", _FULL),
    ("statement timeout", _OVERDUE),
)

#: The first that fits counts, so special cases come before general ones.
_BY_WORDS = {"sqlite": _OF_SQLITE, "postgresql": _OF_POSTGRESQL}

#: By PostgreSQL's code, for a server whose words are not English.
_BY_STATE: dict[str | None, str] = {
    "25006": _NO_PRIMARY,
    "3F000": _NO_SCHEMA,
    "42501": _RIGHTS,
    "42703": _OTHER_TABLES,
    "42P01": _OTHER_TABLES,
    "53100": _FULL,
    "53300": _NO_CONNECTION,
    "55P03": _LOCKED,
    "57014": _OVERDUE,
    **dict.fromkeys(("57P01", "57P02", "57P03"), _ENDED),
    "58030": _NOT_READ,
    "XX001": _DAMAGED,
    "XX002": _DAMAGED_INDEX,
}
