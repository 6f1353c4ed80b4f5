"""Verifies kept refused requests again or drops them, and records the action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from receiver.codec import describe_shape
from receiver.database.damage import damage_of
from receiver.database.database import Database
from receiver.inbox import refused
from receiver.inbox.arrival import Accepted
from receiver.inbox.inbox import Inbox
from receiver.ingest.reverifying import Reverified, WithinAccept, verify_again
from receiver.ingest.source import VerifiableSource
from receiver.runs.actions import (
    ACTIONS,
    Asked,
    By,
    Done,
    Effect,
    Via,
    answer_of,
    checked_reason,
    earlier,
    note_key,
    perform,
    record,
)

#: The verb of the action.
VERIFY_REFUSED = "verify refused"

#: The most actions of which the verified requests are summed.
MOST_SUMMED = 1_000

#: The author of the action that follows an added secret.
BY_SETTINGS = By("settings", Via.SCHEDULE)


def verify_refused(
    inbox: Inbox, source: VerifiableSource, asked: Asked, *, accepted: Callable[[], None] = lambda: None
) -> Reverified:
    """Accept the kept requests of a source that verify with its present secrets.

    Each transaction records an action, so there is one for each batch; the last one has the key of the request, and the
    sums. `accepted` is called after each transaction. Raises `ReasonWanted` for a reason that is too short or too long,
    `KeyUsed` for a key of another request, and SQLAlchemy's error.
    """
    checked_reason(asked.reason)
    with inbox.database.read() as connection:
        done = earlier(connection, asked)
    if done is not None:
        return _reverified(done)
    noted: list[int] = []
    found = verify_again(inbox, source, accepted=accepted, along=recorded(replace(asked, key=None), noted))
    if asked.key is None or not noted:
        return found
    try:
        with inbox.database.write() as connection:
            sums = {"verified": found.number, "accepted": found.accepted, "duplicates": found.duplicates}
            note_key(connection, noted[-1], asked, sums | {"left": found.left})
    except IntegrityError:
        # A concurrent repetition has recorded its answer under the key.
        with inbox.database.read() as connection:
            done = earlier(connection, asked)
        if done is None:
            raise
        return _reverified(done)
    return found


class _VerifiedBefore(msgspec.Struct):
    """The recorded answer to a request that has verified kept requests."""

    verified: int
    accepted: int
    duplicates: int
    left: int


class _DroppedBefore(msgspec.Struct):
    """The recorded answer to a request that has dropped kept requests."""

    dropped: int


describe_shape(_VerifiedBefore)
describe_shape(_DroppedBefore)


def _reverified(done: Done) -> Reverified:
    """The answer to an identical earlier request. Raises `KeyUsed` if its record was edited by hand."""
    found = answer_of(done, _VerifiedBefore)
    return Reverified(found.verified, found.accepted, found.duplicates, found.left)


def by_settings(source: str) -> WithinAccept:
    """Make the function that records requests which are accepted because a new secret verifies them."""
    arguments = {"source": source}
    return recorded(Asked(by=BY_SETTINGS, what=VERIFY_REFUSED, arguments=arguments, reason="by a secret in force"))


def recorded(asked: Asked, noted: list[int] | None = None) -> WithinAccept:
    """Make the function that records an action in each transaction that accepts kept requests.

    `noted` receives the id of each action.
    """

    def along(connection: Connection, answers: Sequence[Accepted]) -> None:
        new = sum(answer.status == "accepted" for answer in answers)
        result = {"verified": len(answers), "accepted": new, "duplicates": len(answers) - new}
        # No reason is required, because adding a secret accepts authentic requests without a person's request, too.
        effect = Effect(len(answers), result, thing="request", wants_reason=False)
        action = record(connection, asked, effect, now=datetime.now(UTC))
        if noted is not None:
            noted.append(action)

    return along


def verified_since(connection: Connection, source: str, since: datetime) -> int:
    """How many kept requests of the source verified since then, of the newest actions."""
    wanted = (ACTIONS.c.what == VERIFY_REFUSED, ACTIONS.c.at >= since)
    columns = (ACTIONS.c.count.label("number"), ACTIONS.c.arguments)
    found = select(*columns).where(*wanted).order_by(ACTIONS.c.id.desc())
    rows = connection.execute(found.limit(MOST_SUMMED))
    return sum(row.number for row in rows if damage_of(row.arguments) is None and row.arguments.get("source") == source)


def drop_refused(database: Database, asked: Asked, source: str | None, *, now: datetime) -> int:
    """Drop the kept requests of one source or of all, and return their number.

    Each transaction drops some and records an action; the last action has the key of the request, and the sum. Raises
    the errors of `perform`, such as `ReasonWanted` for more than one request without a reason.
    """
    dropped = 0

    def drop(connection: Connection) -> Effect | None:
        number = refused.drop_some(connection, source)
        return Effect(number, {"dropped": dropped + number}, thing="request") if number else None

    def answered() -> Done | None:
        """The answer to an identical earlier request, or to this one once all are dropped."""
        with database.read() as connection:
            done = earlier(connection, asked)
            if done is None and refused.is_more_than_a_batch(connection, source):
                return None
        return done or perform(database, asked, drop, now=now) or Done({"dropped": dropped})

    while (done := answered()) is None:
        some = perform(database, replace(asked, key=None), drop, now=now)
        dropped = dropped if some is None else int(some.result["dropped"])
    return answer_of(done, _DroppedBefore).dropped
