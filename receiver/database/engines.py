"""Engines: SQLAlchemy's engine for the URL of a database, with the options of its driver and its pool."""

from __future__ import annotations

import sqlite3
from typing import Any
from urllib.parse import parse_qsl

from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.exc import ArgumentError

from receiver.database import postgresql, urls
from receiver.database.postgresql import SERVER_WANTED, TAKES_WRITES
from receiver.database.redaction import has_bare_at_sign
from receiver.database.sqlite import connections as sqlite
from receiver.errors import ConfigurationError

#: Seconds that opening a PostgreSQL connection may take, so that an unreachable database is detected quickly.
CONNECT_TIMEOUT = 5

#: Options of libpq: a network that drops all packets is detected within about this many seconds, on an idle connection
#: and on one with unconfirmed data. The system's own timeouts are a quarter of an hour and two hours.
KEEP_ALIVE: dict[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

#: The least and the greatest value of each of these options that a URL may set. A greater one would hide for minutes
#: that the server, or the network to it, is gone.
LIMITS_IN_URL = {
    "connect_timeout": (1, 30),
    "keepalives_idle": (1, 60),
    "keepalives_interval": (1, 30),
    "keepalives_count": (1, 10),
    "tcp_user_timeout": (1_000, 60_000),
}

#: The driver's options by system. A SQLite connection caches few prepared statements, because a multi-row INSERT is
#: large, and a different statement for each number of rows.
CONNECT_ARGUMENTS: dict[str, dict[str, Any]] = {
    "sqlite": {"cached_statements": 48},
    # UTF-8 overrides settings of the role, the database and PGCLIENTENCODING. Of several servers, the driver
    # chooses one that accepts writes, not a standby.
    "postgresql": {
        "connect_timeout": CONNECT_TIMEOUT,
        "client_encoding": "utf8",
        **KEEP_ALIVE,
        SERVER_WANTED: TAKES_WRITES,
    },
}

#: The most digits of a limit.
LONGEST_LIMIT = 9

#: The first SQLite that returns the rows of a statement that changes them.
OLDEST_SQLITE = (3, 35)

#: The parameters that the URL of a file may have. Others have no effect, or undo what this program relies on: they make
#: a database in memory, or one without locks.
FILE_PARAMETERS = {"uri": ("true",), "mode": ("ro", "rw", "rwc")}


def open_engine(url: str, pool_size: int, setting: str, *, overflow: int = 4) -> Engine:
    """Make an engine that opens its first connection when it is used.

    Raises `ConfigurationError` for a URL that no installed driver understands; `setting` names its setting.
    """
    try:
        parsed = urls.parse(url)
        _check(parsed, url, setting)
        options: dict[str, Any] = {
            "pool_size": pool_size,
            "max_overflow": overflow,
            "pool_timeout": CONNECT_TIMEOUT,
            # Parameters contain bodies and decrypted content, which must not be logged.
            "hide_parameters": True,
            # The connection used last has prepared statements and cached pages.
            "pool_use_lifo": True,
            "connect_args": connect_arguments(parsed),
        }
        engine = create_engine(parsed, **options)
    except ImportError as error:
        raise ConfigurationError(
            f"{setting} names PostgreSQL, whose driver cannot be imported ({error}): install it with "
            "`pip install 'psycopg[binary]'`."
        ) from None
    except ArgumentError as error:
        raise ConfigurationError(f"{setting} cannot be used: {error}. Write sqlite:///path or postgresql://…") from None
    except ValueError:
        # The error is not shown, because it quotes the supposed port, which may be a part of the password.
        raise ConfigurationError(
            f"{setting} cannot be used: its port is not a number. Write postgresql://user:password@host/db, "
            "with special characters of user and password as %40 and the like."
        ) from None
    if parsed.get_backend_name() == "sqlite":
        sqlite.look_after(engine)
    else:
        postgresql.look_after(engine, setting=setting)
    return engine


def _check(parsed: URL, url: str, setting: str) -> None:
    """Raise `ConfigurationError` for a valid URL that is not supported here."""
    system = parsed.get_backend_name()
    if "\0" in urls.path_of(parsed) or (not url.isascii() and any("\ud800" <= each <= "\udfff" for each in url)):
        raise ConfigurationError(f"{setting} cannot be used: it has a NUL, or is not text in UTF-8. Correct it.")
    if system == "postgresql" and has_bare_at_sign(url):
        # Otherwise a part of the password would be resolved as a host, and shown in error messages.
        raise ConfigurationError(
            f"{setting} cannot be used: it has an @ besides the one before the host. Write each @ in user, password "
            "or query as %40."
        )
    if parsed.drivername not in urls.DRIVERS.values():
        raise ConfigurationError(f"{setting} names `{parsed.drivername}`: use sqlite:///path or postgresql://…")
    if system == "sqlite" and sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise ConfigurationError(
            f"{setting} names a SQLite file, and the SQLite {sqlite3.sqlite_version} of this Python is older than "
            f"{'.'.join(map(str, OLDEST_SQLITE))}: use a Python with a later one, or name PostgreSQL."
        )
    given = parse_qsl(url.partition("?")[2], keep_blank_values=True)
    unknown = [name for name, value in given if value not in FILE_PARAMETERS.get(name, ())]
    # SQLAlchemy passes the values of a repeated parameter on as the text of a tuple.
    unknown += [name for name in FILE_PARAMETERS if [each for each, _ in given].count(name) > 1]
    if system == "sqlite" and unknown:
        raise ConfigurationError(
            f"{setting} has the parameter `{unknown[0]}`, which a file cannot have here: write sqlite:/// and the path "
            "alone. A path with a question mark cannot be named."
        )
    if system == "sqlite" and urls.path_of(parsed) in ("", ":memory:"):
        raise ConfigurationError(f"{setting} names a database in memory, which would lose acked webhooks: name a file.")


def connect_arguments(url: URL) -> dict[str, Any]:
    """The options for the driver. The URL may override the choice among several servers, and time limits in bounds."""
    arguments = CONNECT_ARGUMENTS[url.get_backend_name()]
    limits = {name: _limit(url, name) for name in LIMITS_IN_URL if name in arguments and name in url.query}
    return {name: value for name, value in arguments.items() if name != SERVER_WANTED or name not in url.query} | limits


def doubts_about_url(url: str, setting: str) -> list[str]:
    """Describe each time limit in a valid URL that is not applied as written; `setting` names the URL's setting.

    The written value is not quoted, because behind a wrong separator it may hold a password.
    """
    parsed = urls.parse(url)
    if parsed.get_backend_name() == "sqlite":
        return []
    changed = {name: _limit(parsed, name) for name in LIMITS_IN_URL if name in parsed.query}
    return [
        f"{setting} has another {name} than {limit}, which is used: write a whole number from "
        f"{LIMITS_IN_URL[name][0]} to {LIMITS_IN_URL[name][1]}."
        for name, limit in changed.items()
        if str(limit) != parsed.query[name]
    ]


def _limit(url: URL, name: str) -> int:
    """The limit that the URL sets, in its bounds; the usual one for a value that is not a whole number."""
    text, (least, most) = str(url.query[name]), LIMITS_IN_URL[name]
    # libpq takes 0 for no limit, or for the system's own.
    if not text.isdecimal() or len(text) > LONGEST_LIMIT or not int(text):
        return int(CONNECT_ARGUMENTS["postgresql"][name])
    return min(max(int(text), least), most)
