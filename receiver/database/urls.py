"""URLs of databases, with one server or several, parsed as PostgreSQL's own library parses them.

SQLAlchemy accepts neither a list of hosts nor a socket's folder in place of a host, and splits an IPv6 address in the
query at its first colon. So this module parses the servers, and passes them on in the form that both libraries
understand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

#: The driver for each scheme of a URL.
DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}

#: The modes, in a URI of SQLite's own, in which opening creates no file.
MODES_OF_PRESENT_FILES = ("ro", "rw")

#: A URL with a server: the text before the server, the server or servers, and the text behind.
_WITH_SERVERS = re.compile(
    r"(?P<before>(?P<name>[\w+]+)://(?:[^:/?]*(?::[^@]*)?@)?)(?P<servers>[^/?]*)(?P<behind>.*)", re.DOTALL
)

#: One server: an address in brackets or any other name, and a port.
_SERVER = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>\d*))?")


class _Server(NamedTuple):
    #: A name, an address, or the folder of a socket; empty for the library's own default.
    host: str
    #: The port as written; empty for the library's own default.
    port: str


def parse(url: str) -> URL:
    """Parse a URL: add the driver if it is known, and put PostgreSQL's servers where both libraries find them.

    Raises `ValueError` for a port that is not a number, and SQLAlchemy's `ArgumentError` for text that is not a URL.
    """
    found = _WITH_SERVERS.fullmatch(url)
    if found is None or not DRIVERS.get(found["name"], "").startswith("postgresql"):
        parsed = make_url(url)
        return parsed.set(drivername=DRIVERS.get(parsed.drivername, parsed.drivername))
    named = [_server(each) for each in found["servers"].split(",")]
    parsed = make_url(found["before"] + found["behind"]).set(drivername=DRIVERS[found["name"]])
    query = {name: _one(name, value) for name, value in parsed.query.items() if name not in ("host", "port")}
    return _lead_to(parsed.set(query=query), list(_servers(named, _all(parsed, "host"), _all(parsed, "port"))))


def _servers(named: Sequence[_Server], hosts: Sequence[str], ports: Sequence[str]) -> Iterator[_Server]:
    """Yield the servers that the query names, or those before the query; a single port applies to all servers.

    Raises `ArgumentError` unless there is one port, or one port for each server, and `ValueError` for a port that is
    not a number.
    """
    servers = [_named(host) for host in hosts] or list(named)
    if len(ports) not in (0, 1, len(servers)):
        raise ArgumentError(f"it names {len(servers)} hosts and {len(ports)} ports")
    given = ports if len(ports) == len(servers) else [*ports] * len(servers)
    for server, port in zip(servers, given or [server.port for server in servers], strict=True):
        if port and not port.isdecimal():
            raise ValueError("a port is a number")
        yield server._replace(port=port)


def _named(text: str) -> _Server:
    """Parse a host in the query: as before the query, or an address with all its colons, or the folder of a socket."""
    if text.startswith("/") or (text.count(":") > 1 and not text.startswith("[")):
        return _Server(text, "")
    return _server(text)


def _server(text: str) -> _Server:
    """Parse `host`, `host:port`, `[address]:port`, or the folder of a socket with its slashes as %2F."""
    found = _SERVER.fullmatch(text)
    if found is None:
        raise ValueError("a port is a number")
    return _Server(unquote(found["host"]).strip("[]"), found["port"] or "")


def _lead_to(url: URL, servers: Sequence[_Server]) -> URL:
    only = servers[0]
    if len(servers) == 1 and only.host.startswith("/"):
        return url.update_query_dict({"host": only.host} | ({"port": only.port} if only.port else {}))
    if len(servers) == 1:
        return url.set(host=only.host or None, port=int(only.port) if only.port else None)
    hosts = {"host": ",".join(server.host for server in servers)}
    ports = {"port": ",".join(server.port for server in servers)}
    return url.update_query_dict(hosts | (ports if any(server.port for server in servers) else {}))


def servers(url: URL) -> str:
    """Format the servers that `parse` put into the query, as people write them before it; empty without any."""
    hosts, ports = (str(url.query.get(name, "")).split(",") for name in ("host", "port"))
    named = [f"[{host}]" if ":" in host else host for host in hosts]
    return ",".join(f"{host}:{port}" if port else host for host, port in zip_longest(named, ports, fillvalue=""))


def _one(name: str, value: str | tuple[str, ...]) -> str:
    """Reduce a repeated parameter to its last value, as PostgreSQL's library does; session options are joined."""
    if isinstance(value, str):
        return value
    return " ".join(value) if name == "options" else value[-1]


def _all(url: URL, name: str) -> list[str]:
    """List all values of a parameter, which may be repeated and may hold several values separated by commas."""
    value = url.query.get(name, ())
    values = [value] if isinstance(value, str) else value
    return [each for one in values for each in one.split(",")]


def path_of(url: URL) -> str:
    """The path of the SQLite file that a URL names, by itself or in a URI of SQLite's own; empty without one."""
    named = url.database or ""
    return path_in_uri(named) if url.query.get("uri") == "true" else named


def file_of(url: str) -> Path | None:
    """The SQLite file that a URL of the settings names; None for every other database and for an invalid URL."""
    with suppress(ArgumentError, ValueError):
        parsed = parse(url)
        path = path_of(parsed) if parsed.get_backend_name() == "sqlite" else ""
        return Path(path) if path not in ("", ":memory:") else None
    return None


def path_in_uri(uri: str) -> str:
    """The path in a URI of SQLite's own (https://sqlite.org/uri.html)."""
    path = uri.removeprefix("file:").partition("?")[0].partition("#")[0]
    if path.startswith("//"):
        path = "/" + path[2:].partition("/")[2]
    return unquote(path)


def absent_file(url: URL) -> Path | None:
    """The path of a SQLite file that does not exist, and that opening would create; None for every other database."""
    if url.get_backend_name() != "sqlite" or url.query.get("mode") in MODES_OF_PRESENT_FILES:
        return None
    path = Path(path_of(url))
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return path
    except OSError:
        # The folder may be closed to this user: opening the file then raises a clearer error.
        pass
    return None
