"""Sessions: begun with a link, recognised by a cookie, listed and ended."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from itsdangerous import Signer
from sqlalchemy import Select, delete, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from receiver.codec import describe_shape
from receiver.database.database import Database
from receiver.errors import NotAuthorized
from receiver.moments import EPOCH, has_passed
from receiver.runs.actions import Asked, By, Effect, Via, answer_of, perform
from receiver.schemas import Moment
from receiver.sessions.links import ANOTHER_LINK, Invitation
from receiver.sessions.roles import Guest, Role
from receiver.sessions.tables import SESSIONS

#: Bytes of the random number in a cookie.
COOKIE_BYTES = 32

COOKIE_SALT, FORM_SALT = "hookmirror-console-session", "hookmirror-console-form"

#: The interval at which the use of a session is recorded.
SEEN_INTERVAL = timedelta(minutes=1)

#: Most sessions in a list.
MOST_SESSIONS = 1_000

#: The time for which an ended session is kept, so that its link cannot begin another.
ENDED_KEPT = timedelta(days=1)


class NewSession(NamedTuple):
    """A session that has just begun."""

    cookie: str
    ends_at: datetime


class Sessions:
    """The sessions of one database. `keys` are oldest first: the last one signs, and all of them verify."""

    def __init__(self, database: Database, keys: Sequence[str], *, lifetime: timedelta, idle: timedelta) -> None:
        """A session ends `lifetime` after its beginning, or `idle` after its last use, whichever comes first."""
        self.database = database
        self._lifetime, self._idle = lifetime, idle
        self._cookies = Signer(list(keys), salt=COOKIE_SALT, digest_method=hashlib.sha256)
        self._forms = Signer(list(keys), salt=FORM_SALT, digest_method=hashlib.sha256)

    def begin(self, invitation: Invitation, *, now: datetime) -> NewSession:
        """Begin a session, and record the action. Raises `NotAuthorized` for a link that was used before."""
        secret, ends_at = secrets.token_urlsafe(COOKIE_BYTES), now + self._lifetime
        row = {
            "id": _hashed(secret),
            "link": _hashed(invitation.number),
            "name": invitation.name,
            "role": invitation.role.value,
            "created_at": now,
            "seen_at": now,
            "ends_at": ends_at,
        }
        asked = Asked(by=By(invitation.name, Via.CONSOLE), what="sign in", arguments={"role": invitation.role.value})

        def insert_row(connection: Any) -> Effect:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.ends_at < now - ENDED_KEPT))
            connection.execute(insert(SESSIONS).values(**row))
            return Effect(1, {"session": row["id"]}, thing="session")

        try:
            perform(self.database, asked, insert_row, now=now)
        except IntegrityError:
            raise NotAuthorized(f"This link was used before, and works only once: {ANOTHER_LINK}") from None
        return NewSession(self._cookies.sign(secret.encode()).decode(), ends_at)

    def recognise(self, cookie: str, *, now: datetime, notes: bool = True) -> Guest | None:
        """The person of this cookie; None if the cookie is forged, or its session has ended or was edited by hand.

        With `notes`, this counts as a use of the session, which delays its end.
        """
        session = self.session_of(cookie)
        if session is None:
            return None
        with self.database.read() as connection:
            row = connection.execute(select(SESSIONS).where(SESSIONS.c.id == session)).mappings().first()
        if row is None or row["ends_at"] <= now or row["seen_at"] + self._idle <= now:
            return None
        if row["role"] not in list(Role):
            return None
        if notes and has_passed(row["seen_at"], SEEN_INTERVAL, now):
            self._note_seen(session, now)
        return Guest(row["name"], Role(row["role"]), self.form_token(session), session)

    def was_begun_by(self, invitation: Invitation, session: str) -> bool:
        """Whether this link began the session."""
        with self.database.read() as connection:
            found = connection.execute(select(SESSIONS.c.link).where(SESSIONS.c.id == session)).scalar()
        return found == _hashed(invitation.number)

    def form_token(self, bound_to: str) -> str:
        """The token that forms of this session carry."""
        return self._forms.get_signature(bound_to.encode()).decode()

    def is_form_token(self, token: str, bound_to: str) -> bool:
        """Whether a form with this token was made for this session."""
        return self._forms.verify_signature(bound_to.encode(), token.encode("utf-8", "replace"))

    def session_of(self, cookie: str) -> str | None:
        """The id of a cookie's session, which may have ended; None for a forged cookie. Does not read the database."""
        content = cookie.encode("utf-8", "replace")
        return _hashed(self._cookies.unsign(content).decode()) if self._cookies.validate(content) else None

    def _note_seen(self, session: str, now: datetime) -> None:
        # A busy database is no reason to refuse a page. The next request records the use.
        with suppress(SQLAlchemyError), self.database.write() as connection:
            # A session that has just been ended stays ended.
            going_on = update(SESSIONS).where(SESSIONS.c.id == session, SESSIONS.c.seen_at > EPOCH)
            connection.execute(going_on.values(seen_at=now))


def listed(*, now: datetime, idle: timedelta) -> Select[Any]:
    """Select the sessions that have neither ended nor been `idle` for so long, newest first."""
    there = (SESSIONS.c.ends_at > now) & (SESSIONS.c.seen_at > now - idle)
    return select(SESSIONS).where(there).order_by(SESSIONS.c.created_at.desc(), SESSIONS.c.id)


class EndedBefore(msgspec.Struct):
    """The recorded answer to a request that has ended a session."""

    #: The last use of the session; None in records of an early release.
    seen_at: Moment | None = None


describe_shape(EndedBefore)


def end(database: Database, asked: Asked, session: str, *, now: datetime) -> Mapping[str, Any] | None:
    """End a session, record the action, and return the ended session; None if it is unknown or had ended.

    A repeated request gets the session that it has ended.
    """
    ended: list[Mapping[str, Any]] = []
    goes_on = (SESSIONS.c.id == session) & (SESSIONS.c.ends_at > now) & (SESSIONS.c.seen_at > EPOCH)

    def end_row(connection: Any) -> Effect | None:
        ended[:] = connection.execute(select(SESSIONS).where(goes_on).with_for_update()).mappings().all()
        if not ended:
            return None
        # As if it had not been used for years, so that it stays ended even if the clock is set back.
        connection.execute(update(SESSIONS).where(goes_on).values(ends_at=now, seen_at=EPOCH))
        return Effect(1, {"session": session, "seen_at": ended[0]["seen_at"].isoformat()}, thing="session")

    done = perform(database, asked, end_row, now=now)
    if done is not None and done.again:
        return _ended_before(database, session, answer_of(done, EndedBefore).seen_at)
    return {**ended[0], "ends_at": now} if ended else None


def _ended_before(database: Database, session: str, seen_at: datetime | None) -> Mapping[str, Any] | None:
    """The session as an earlier request has ended it, with its last use before; None once it is dropped."""
    with database.read() as connection:
        row = connection.execute(select(SESSIONS).where(SESSIONS.c.id == session)).mappings().first()
    if row is None:
        return None
    return {**row, "seen_at": seen_at or row["seen_at"]}


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
