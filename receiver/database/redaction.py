"""A database's URL as it may be shown: without its password, wherever that stands, or what may be a part of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

from sqlalchemy import URL

from receiver.database.urls import servers

#: The secret parameters of a PostgreSQL connection that a URL's query may hold.
SECRET_PARAMETERS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")

#: Of a query, what may well have an `@` in its value.
WITH_AT_SIGNS = ("user", "host", "dbname", "options", "passfile", "service", "application_name", *SECRET_PARAMETERS)

#: Characters of a password that is removed from a driver's message: a shorter one may be part of ordinary words.
SHORTEST = 4


def shown(url: URL) -> str:
    """The URL for people. Of PostgreSQL without its query: a password may be there under any name, if misspelt."""
    if url.drivername.startswith("sqlite"):
        return url.render_as_string(hide_password=True)
    told = url.set(drivername=url.get_backend_name(), query={}).render_as_string(hide_password=True)
    before, at, behind = told.rpartition("@") if "@" in told else told.partition("//")
    return before + at + servers(url) + behind


def has_bare_at_sign(text: str) -> bool:
    """Whether an `@` stands in the URL that is not the one before the host: what follows it would be taken for one."""
    pieces = text.partition("?")[2].split("&")
    names = [piece.partition("=")[0] for piece in pieces if "@" in piece]
    return text.count("@") > 1 or any(name in WITH_AT_SIGNS for name in names)


def redacted(text: str, url: URL) -> str:
    """What a driver says, without the secrets of the URL that it may quote."""
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return text


def _secrets(url: URL) -> Iterator[str]:
    """The secrets in the URL, in each way that they may be written."""
    given = [str(url.password or "")]
    for name in SECRET_PARAMETERS:
        values = url.query.get(name, ())
        given += [values] if isinstance(values, str) else values
    for secret in given:
        if len(secret) >= SHORTEST:
            yield from (secret, quote(secret, safe=""), quote_plus(secret))
