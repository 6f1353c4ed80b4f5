"""One-time links: how a person gets into the console without a password.

Made with the secret key by somebody who may run commands on the server; good for ten minutes, and for one session.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from itsdangerous import BadSignature, URLSafeSerializer

from receiver.errors import ConfigurationError, NotAuthorized
from receiver.sessions.roles import Role

LINK_SALT = "hookmirror-console-link"

#: How long a link is good.
LINK_LIFETIME = timedelta(minutes=10)

#: Bytes of the number that tells one link from another, and characters of a name.
LINK_BYTES, LONGEST_GUEST_NAME = 16, 64

ANOTHER_LINK = "ask for another one, which `hookmirror console-link` prints."


class Invitation(NamedTuple):
    """What a link says."""

    name: str
    role: Role
    #: Tells it from all other links.
    number: str


class Links:
    """Makes and reads links. `keys` are oldest first: the last one signs, all of them verify."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._serializer = URLSafeSerializer(list(keys), salt=LINK_SALT)

    def issue(self, name: str, role: Role, *, now: datetime) -> str:
        """The secret part of a link. Raises `ConfigurationError` for a name that cannot be read."""
        if not 0 < len(name) <= LONGEST_GUEST_NAME or name != name.strip() or not name.isprintable():
            raise ConfigurationError(
                f"A name takes 1 to {LONGEST_GUEST_NAME} characters that can be printed, without blanks around them, "
                "such as ops-1: the record of actions shows it."
            )
        until = int((now + LINK_LIFETIME).timestamp())
        number = secrets.token_urlsafe(LINK_BYTES)
        return str(self._serializer.dumps({"name": name, "role": role.value, "until": until, "number": number}))

    def read(self, secret: str, *, now: datetime) -> Invitation:
        """What the link says. Raises `NotAuthorized` for one that is not ours, or has expired."""
        try:
            content = self._serializer.loads(secret)
            invitation = Invitation(str(content["name"]), Role(content["role"]), str(content["number"]))
            until = int(content["until"])
        except (BadSignature, KeyError, TypeError, ValueError, UnicodeError, AttributeError):
            raise NotAuthorized(f"This link is not one of this server, or was cut short: {ANOTHER_LINK}") from None
        if now.timestamp() >= until:
            raise NotAuthorized(f"This link has expired: {ANOTHER_LINK}")
        return invitation
