"""Removes passwords from URLs of databases and from drivers' messages, so that these can be shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

from sqlalchemy import URL

from receiver.database.urls import servers

#: The secret parameters of a PostgreSQL connection that a URL's query may hold.
SECRET_PARAMETERS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")

#: Parameters of a query whose values may contain an `@`.
WITH_AT_SIGNS = ("user", "host", "dbname", "options", "passfile", "service", "application_name", *SECRET_PARAMETERS)

#: Characters of a password that is removed from a driver's message: a shorter one may be part of ordinary words.
SHORTEST = 4


def shown(url: URL) -> str:
    """Format a URL without its password; of PostgreSQL without its query, which may hold one under a misspelt name."""
    if url.drivername.startswith("sqlite"):
        return url.render_as_string(hide_password=True)
    told = url.set(drivername=url.get_backend_name(), query={}).render_as_string(hide_password=True)
    before, at, behind = told.rpartition("@") if "@" in told else told.partition("//")
    return before + at + servers(url) + behind


def has_bare_at_sign(text: str) -> bool:
    """Whether the URL has an unescaped `@` before the one in front of the host, so that the host is misread."""
    pieces = text.partition("?")[2].split("&")
    names = [piece.partition("=")[0] for piece in pieces if "@" in piece]
    return text.count("@") > 1 or any(name in WITH_AT_SIGNS for name in names)


def redacted(text: str, url: URL) -> str:
    """Remove the URL's secrets from a driver's message."""
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return text


def _secrets(url: URL) -> Iterator[str]:
    """The secrets in the URL, in each form that a message may quote."""
    given = [str(url.password or "")]
    for name in SECRET_PARAMETERS:
        values = url.query.get(name, ())
        given += [values] if isinstance(values, str) else values
    for secret in given:
        if len(secret) >= SHORTEST:
            yield from (secret, quote(secret, safe=""), quote_plus(secret))
