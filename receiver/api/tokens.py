"""Tokens for the API: signed, expiring, with a scope. They are not stored, and a new secret key ends them all."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from itsdangerous import BadSignature, URLSafeSerializer

from receiver.errors import ConfigurationError, Forbidden, NotAuthorized

SALT = "hookmirror-api-token"

#: The name of a token without one, and the longest name in characters.
NAMELESS, LONGEST_TOKEN_NAME = "api", 64


class Scope(StrEnum):
    """The scope of a token; `operate` includes `read`."""

    READ = "read"
    OPERATE = "operate"

    def allows(self, wanted: Scope) -> bool:
        return self is Scope.OPERATE or wanted is Scope.READ


class ApiToken(NamedTuple):
    """The content of a valid token. Two tokens with one content are one and the same."""

    scope: Scope
    #: The second at which it expires.
    until: int
    #: Recorded with the actions; `api` if none was given.
    name: str


class Tokens:
    """Issues and checks tokens. `keys` are oldest first: the last signs, and each verifies."""

    def __init__(self, keys: list[str]) -> None:
        self._serializer = URLSafeSerializer(keys, salt=SALT)

    def issue(self, scope: Scope, *, now: datetime, lifetime: timedelta, name: str = "") -> str:
        """Issue a token; `name` is recorded with its actions. Raises `ConfigurationError` for an invalid name."""
        content = {"scope": scope.value, "until": int((now + lifetime).timestamp())}
        if name:
            content["name"] = _checked_name(name)
        return str(self._serializer.dumps(content))

    def check(self, authorization: str | None, wanted: Scope, *, now: datetime) -> ApiToken:
        """Check the header, and return the content of its token.

        Raises `NotAuthorized` or `Forbidden` unless the header `Authorization` carries a token for `wanted`.
        """
        kind, _, token = (authorization or "").strip(" \t").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise NotAuthorized("Send `Authorization: Bearer <token>`; `hookmirror token --scope read` makes one.")
        try:
            content = self._serializer.loads(token.strip())
            scope, until, name = Scope(content["scope"]), int(content["until"]), str(content.get("name", NAMELESS))
        except (BadSignature, KeyError, TypeError, ValueError, UnicodeError, AttributeError):
            raise NotAuthorized(
                "The token is not valid here: make one with `hookmirror token` and this server's HOOKMIRROR_SECRET_KEY."
            ) from None
        if now.timestamp() >= until:
            raise NotAuthorized("The token has expired: make a new one with `hookmirror token`.")
        if not scope.allows(wanted):
            raise Forbidden(f"The token is for `{scope}`: make one with `hookmirror token --scope {wanted}`.")
        return ApiToken(scope, until, name)


def _checked_name(name: str) -> str:
    if len(name) > LONGEST_TOKEN_NAME or name != name.strip() or not name.isprintable():
        raise ConfigurationError(
            f"A token's name takes 1 to {LONGEST_TOKEN_NAME} printable characters, without blanks at the ends, such as "
            "ops-1: the record of actions shows it."
        )
    return name
