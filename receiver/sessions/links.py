"""One-time links, with which a person signs in to the console without a password.

A person who may run commands on the server makes one with the secret key. It begins one session within ten minutes.
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

#: The time in which a link can be used.
LINK_LIFETIME = timedelta(minutes=10)

#: Bytes of a link's number, and most characters of a name.
LINK_BYTES, LONGEST_GUEST_NAME = 16, 64

ANOTHER_LINK = "ask for another link, which `hookmirror console-link` prints."


class Invitation(NamedTuple):
    """The contents of a link."""

    name: str
    role: Role
    #: Random, and unique among all links.
    number: str


class Links:
    """Makes and reads links. `keys` are oldest first: the last one signs, and all of them verify."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._serializer = URLSafeSerializer(list(keys), salt=LINK_SALT)

    def issue(self, name: str, role: Role, *, now: datetime) -> str:
        """Make the secret part of a link. Raises `ConfigurationError` for a name that is too long or not printable."""
        if not 0 < len(name) <= LONGEST_GUEST_NAME or name != name.strip() or not name.isprintable():
            raise ConfigurationError(
                f"A name has 1 to {LONGEST_GUEST_NAME} printable characters, and no blanks around them, such as ops-1: "
                "the record of actions shows it."
            )
        until = int((now + LINK_LIFETIME).timestamp())
        number = secrets.token_urlsafe(LINK_BYTES)
        return str(self._serializer.dumps({"name": name, "role": role.value, "until": until, "number": number}))

    def read(self, secret: str, *, now: datetime) -> Invitation:
        """Read the secret part of a link. Raises `NotAuthorized` for a forged, broken or expired one."""
        try:
            content = self._serializer.loads(secret)
            invitation = Invitation(str(content["name"]), Role(content["role"]), str(content["number"]))
            until = int(content["until"])
        except (BadSignature, KeyError, TypeError, ValueError, UnicodeError, AttributeError):
            raise NotAuthorized(f"This link was not made by this server, or is incomplete: {ANOTHER_LINK}") from None
        if now.timestamp() >= until:
            raise NotAuthorized(f"This link has expired: {ANOTHER_LINK}")
        return invitation
