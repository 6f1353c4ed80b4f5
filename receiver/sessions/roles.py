"""Roles: the rights of a person in the console."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Role(StrEnum):
    """A viewer reads; an operator also replays, reconciles, acknowledges and asks sources."""

    VIEWER = "viewer"
    OPERATOR = "operator"


class Guest(NamedTuple):
    """The person who looks at the console."""

    name: str
    role: Role
    #: The token that forms on this person's pages carry.
    token: str
    #: The id of the session; None for a person whom a trusted proxy has signed in.
    session: str | None = None
