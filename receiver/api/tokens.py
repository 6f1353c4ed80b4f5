"""Tokens for the API: signed, expiring, with a scope. Nothing is stored; a new secret key ends them all."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from itsdangerous import BadSignature, URLSafeSerializer

from receiver.errors import Forbidden, NotAuthorized

SALT = "hookmirror-api-token"


class Scope(StrEnum):
    """What a token allows: `operate` includes `read`."""

    READ = "read"
    OPERATE = "operate"

    def allows(self, wanted: Scope) -> bool:
        return self is Scope.OPERATE or wanted is Scope.READ


class Tokens:
    """Issues and checks tokens. `keys` are oldest first: the last one signs, all of them verify."""

    def __init__(self, keys: list[str]) -> None:
        self._serializer = URLSafeSerializer(keys, salt=SALT)

    def issue(self, scope: Scope, *, now: datetime, lifetime: timedelta) -> str:
        return str(self._serializer.dumps({"scope": scope.value, "until": int((now + lifetime).timestamp())}))

    def check(self, authorization: str | None, wanted: Scope, *, now: datetime) -> None:
        """Raises `NotAuthorized` or `Forbidden` unless the header `Authorization` carries a token for `wanted`."""
        kind, _, token = (authorization or "").strip(" \t").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise NotAuthorized("Send `Authorization: Bearer <token>`; `hookmirror token --scope read` makes one.")
        try:
            content = self._serializer.loads(token.strip())
            scope, until = Scope(content["scope"]), int(content["until"])
        except (BadSignature, KeyError, TypeError, ValueError, UnicodeError):
            raise NotAuthorized(
                "The token is not one of this server: make one with `hookmirror token` under its HOOKMIRROR_SECRET_KEY."
            ) from None
        if now.timestamp() >= until:
            raise NotAuthorized("The token has expired: make a new one with `hookmirror token`.")
        if not scope.allows(wanted):
            raise Forbidden(f"The token is for `{scope}`: make one with `hookmirror token --scope {wanted}`.")
