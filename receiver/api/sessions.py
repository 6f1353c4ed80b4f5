"""Sessions of the console over HTTP: lists them, and ends them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from msgspec import Meta
from sqlalchemy import RowMapping

from receiver.api.actions import IDEMPOTENCY_KEY, WHY, asked_by
from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.tokens import Scope
from receiver.errors import BadRequest, KeyUsed, NotFound, ReasonWanted, Unavailable
from receiver.schemas import Moment, Shape
from receiver.sessions import sessions
from receiver.sessions.roles import Role


class SessionShown(Shape, frozen=True):
    """One person who is signed in to the console."""

    id: Annotated[str, Meta(description="The hash of the cookie's value.")]
    name: str
    role: Role
    created_at: Moment
    seen_at: Annotated[Moment, Meta(description="The time of the last request for a page, to the minute.")]
    ends_at: Moment


class SessionList(Shape, frozen=True):
    items: list[SessionShown]


SESSION_ID = Parameter("id", {"type": "string"}, "The id of a session.", str, "")


class ConsoleSessions:
    """Lists and ends sessions of the console."""

    def __init__(self, lookup: Lookup, *, idle: timedelta) -> None:
        """`idle` is the time after which an unused session ends."""
        self._lookup = lookup
        self._idle = idle

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="list_sessions",
                path="/api/v1/sessions",
                summary="The sessions of the console, newest first",
                answer=self.list_sessions,
                answers={200: SessionList},
                scope=Scope.READ,
                refusals=(BadRequest, Unavailable),
            ),
            Operation(
                name="end_session",
                method="post",
                path="/api/v1/sessions/{id}/end",
                summary="End a session of the console at once",
                answer=self.end,
                answers={200: SessionShown},
                scope=Scope.OPERATE,
                parameters=(SESSION_ID, WHY, IDEMPOTENCY_KEY),
                refusals=(BadRequest, NotFound, KeyUsed, ReasonWanted, Unavailable),
            ),
        ]

    def list_sessions(self, _: Question) -> SessionList:
        listed = sessions.listed(now=datetime.now(UTC), idle=self._idle)
        found = self._lookup.page(listed, show_session, sessions.MOST_SESSIONS)
        return SessionList(found.items)

    def end(self, asked: Question) -> SessionShown:
        """End a session. Raises `NotFound` for an unknown or ended session."""
        session = asked[SESSION_ID]
        request = asked_by(asked, "end session", session=session)
        ended = sessions.end(self._lookup.database, request, session, now=datetime.now(UTC))
        if ended is None:
            raise NotFound("There is no such session, or it has ended: list them again.")
        return show_session(ended)


def show_session(row: RowMapping | Mapping[str, Any]) -> SessionShown:
    """Format a session for the API and the command."""
    return SessionShown(**{name: row[name] for name in SessionShown.__struct_fields__})
