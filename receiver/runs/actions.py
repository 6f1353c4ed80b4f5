"""Actions: records a person's deed, its reason and its result in the transaction of the effect.

Both commit or neither does, even if a process dies. A request that carries an idempotency key takes effect once; a
repetition gets the first result.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, TypeVar

import msgspec
from sqlalchemy import BigInteger, Column, Connection, Index, RowMapping, Select, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, SQLModel

from receiver.codec import canonical, storable
from receiver.database.columns import Document, UtcDateTime
from receiver.database.damage import damage_of
from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.database.sqlite.stored_types import RowNumber
from receiver.errors import KeyUsed, ReasonWanted
from receiver.logs.wording import counted

Answered = TypeVar("Answered", bound=msgspec.Struct)

#: Bounds of a reason, in characters.
SHORTEST_ACTION_REASON, LONGEST_ACTION_REASON = 3, 200

#: The longest idempotency key, in characters.
LONGEST_KEY = 200

#: The noun that actions count by default.
COUNTED_DELIVERY = "delivery"

#: The member of a stored result that names the counted noun.
THING = "counts"


class Via(StrEnum):
    """The interface through which an action was requested."""

    CONSOLE = "console"
    API = "api"
    COMMAND = "command"
    #: A schedule in the settings requested it, not a person.
    SCHEDULE = "schedule"


class By(NamedTuple):
    """The author of an action, and the interface of the request."""

    who: str
    via: Via


class Recorded(Document):
    """The arguments or the result of an action."""

    shape: ClassVar[Any] = dict[str, Any]
    mend = "Only this record is lost, and not the effect of the action."


class Action(SQLModel, table=True):
    """One thing that a person did, a program with a person's token, or a schedule."""

    __tablename__ = "actions"
    __table_args__ = (
        Index("ix_actions_key", "key", unique=True),
        Index("ix_actions_run", "run", "id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(
        default=None, sa_column=Column(BigInteger().with_variant(RowNumber, "sqlite"), primary_key=True)
    )
    at: datetime = Field(sa_type=UtcDateTime)
    #: The operating system's user for a command, the name in the token for the API.
    who: str
    #: `console`, `api`, `command` or `schedule`.
    via: str
    #: The verb, such as `replay` or `start run`.
    what: str
    #: The arguments of the request.
    arguments: Any = Field(sa_type=Recorded)
    #: The run that the action began or changed.
    run: int | None = Field(default=None, sa_type=BigInteger)
    #: The number of deliveries that it concerned, or of the noun that `result` names.
    count: int = Field(sa_type=BigInteger)
    reason: str | None = None
    #: The answer to the request.
    result: Any = Field(sa_type=Recorded)
    #: The idempotency key of the request, by which a repetition is recognised.
    key: str | None = None


ACTIONS: Table = Action.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request for an action, before it is carried out."""

    by: By
    what: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    #: The idempotency key, if the request names one.
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """The result of an action: the number of deliveries that it concerned, and the answer."""

    count: int
    result: Mapping[str, Any]
    run: int | None = None
    #: The singular noun for `count` in messages.
    thing: str = COUNTED_DELIVERY
    #: Whether a `count` above one requires a reason. A plan changes no delivery, and stopping needs no justification.
    wants_reason: bool = True
    #: Called with the action's id in the same transaction, to store the id.
    then: Callable[[int], object] = lambda _: None


class Done(NamedTuple):
    """The answer to a request. `again` says that an identical request was carried out before."""

    result: Mapping[str, Any]
    again: bool = False


def perform(
    database: Database, asked: Asked, effect: Callable[[Connection], Effect | None], *, now: datetime
) -> Done | None:
    """Carry out a request and record its action in one transaction; None if `effect` returns None (nothing to do).

    An exception from `effect` rolls both back. `effect` is called again if the database aborts the transaction. Raises
    `ReasonWanted` for more than one delivery without a reason, and `KeyUsed` for a key of another request.
    """
    checked_reason(asked.reason)
    tried: list[int] = []
    try:
        return retry_transaction(lambda: _perform(database, asked, effect, now, tried))
    except IntegrityError:
        # A concurrent repetition of the request may have committed first; otherwise the error comes from `effect`.
        with database.read() as connection:
            done = earlier(connection, asked)
        if done is None:
            raise
        return done


def _perform(
    database: Database,
    asked: Asked,
    effect: Callable[[Connection], Effect | None],
    now: datetime,
    tried: list[int],
) -> Done | None:
    """Carry it out in one transaction, unless an earlier try was committed; `tried` receives the action of each try."""
    with database.write() as connection:
        done = _committed(connection, asked, tried[-1], now) if tried else None
        done = done or earlier(connection, asked)
        if done is not None:
            return done
        did = effect(connection)
        if did is None:
            return None
        tried.append(record(connection, asked, did, now=now))
        did.then(tried[-1])
        return Done(did.result)


def _committed(connection: Connection, asked: Asked, action: int, now: datetime) -> Done | None:
    """The answer of a try whose connection was lost after its commit; None if it was not committed."""
    same = (ACTIONS.c.at == now, ACTIONS.c.who == storable(asked.by.who), ACTIONS.c.what == asked.what)
    result = connection.execute(select(ACTIONS.c.result).where(ACTIONS.c.id == action, *same)).scalar()
    return None if result is None else Done(_answered(result))


def record(connection: Connection, asked: Asked, effect: Effect, *, now: datetime) -> int:
    """Insert the action within the caller's transaction, and return its id.

    Raises `ReasonWanted` if it concerns more than one delivery and no reason was given.
    """
    reason = checked_reason(asked.reason)
    if effect.wants_reason and effect.count > 1 and reason is None:
        raise ReasonWanted(
            f"This concerns {counted(effect.count, effect.thing)}: give a reason of {SHORTEST_ACTION_REASON} to "
            f"{LONGEST_ACTION_REASON} characters."
        )
    row = {
        "at": now,
        "who": storable(asked.by.who),
        "via": asked.by.via.value,
        "what": asked.what,
        "arguments": dict(asked.arguments),
        "run": effect.run,
        "count": effect.count,
        "reason": reason,
        "result": {**effect.result, THING: effect.thing},
        "key": asked.key,
    }
    return int(connection.execute(insert(ACTIONS).values(**row).returning(ACTIONS.c.id)).scalar_one())


def earlier(connection: Connection, asked: Asked) -> Done | None:
    """The answer to an identical earlier request; None without one.

    Raises `KeyUsed` if the key is that of another request.
    """
    row = earlier_action(connection, asked)
    return None if row is None else Done(_answered(row["result"]), again=True)


def earlier_action(connection: Connection, asked: Asked) -> RowMapping | None:
    """The action of an identical earlier request; None without one. Raises `KeyUsed` as `earlier` does."""
    if asked.key is None:
        return None
    row = connection.execute(select(ACTIONS).where(ACTIONS.c.key == asked.key)).mappings().first()
    if row is None:
        return None
    same = (row["who"], row["what"]) == (storable(asked.by.who), asked.what)
    if not same or canonical(row["arguments"]) != canonical(dict(asked.arguments)):
        raise KeyUsed(
            f"The idempotency key {asked.key[:64]!r} was used for another request, {row['what']!r} of {row['who']}: "
            "draw a new key for each request."
        )
    if damage_of(row["result"]) is not None:
        raise KeyUsed(
            f"A request with the idempotency key {asked.key[:64]!r} was carried out as action {row['id']}, and the "
            "record of its answer is damaged: check its effect before you ask again with a new key."
        )
    return row


def answer_of(done: Done, shape: type[Answered], **more: Any) -> Answered:
    """The answer to a request as a value of this shape, with `more` members.

    Members that the shape lacks are left out, since a newer release may have recorded them. Raises `KeyUsed` if it is
    that of an earlier request, and its record was edited by hand.
    """
    result = {name: value for name, value in done.result.items() if name in shape.__struct_fields__}
    try:
        return msgspec.convert({**result, **more}, shape)
    except msgspec.ValidationError:
        if not done.again:
            raise
        raise KeyUsed(
            "A request with this idempotency key was carried out, and the record of its answer was edited by hand: "
            "check its effect before you ask again with a new key."
        ) from None


def first_asked(connection: Connection, key: str | None) -> datetime | None:
    """The time of the first request with this idempotency key; None without one."""
    found = None if key is None else connection.execute(select(ACTIONS.c.at).where(ACTIONS.c.key == key)).scalar()
    return found if isinstance(found, datetime) else None


def checked_reason(reason: str | None) -> str | None:
    """Strip a reason of surrounding blanks. Raises `ReasonWanted` if it is too short or too long."""
    if reason is None:
        return None
    kept = storable(reason).strip()
    if not SHORTEST_ACTION_REASON <= len(kept) <= LONGEST_ACTION_REASON:
        raise ReasonWanted(
            f"The reason has {counted(len(kept), 'character')}: write {SHORTEST_ACTION_REASON} to "
            f"{LONGEST_ACTION_REASON}, so that it can be understood in a year."
        )
    return kept


def by_command() -> By:
    """The operating system's user who runs this command."""
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        # In a container, a user id may have no name.
        name = f"uid {number}"
    return By(storable(name), Via.COMMAND)


def recent(*, before: int | None = None, run: int | None = None) -> Select[Any]:
    """Select actions with ids below `before`, newest first; of one run only, if `run` is given."""
    found = select(ACTIONS).order_by(ACTIONS.c.id.desc())
    if before is not None:
        found = found.where(ACTIONS.c.id < before)
    return found if run is None else found.where(ACTIONS.c.run == run)


def show(row: RowMapping) -> dict[str, Any]:
    """Format an action for the API and `hookmirror actions`."""
    run = None if row["run"] is None else str(row["run"])
    return {**row, "id": str(row["id"]), "run": run, "result": _answered(row["result"]), "counts": _thing(row)}


def note_count(connection: Connection, run: int, count: int, thing: str) -> None:
    """Complete the action that planned this run: its count is known only when the plan is made."""
    planned = select(ACTIONS).where(ACTIONS.c.run == run, ACTIONS.c.what.startswith("plan ")).order_by(ACTIONS.c.id)
    row = connection.execute(planned.limit(1)).mappings().first()
    if row is not None:
        result = {**row["result"], THING: thing}
        connection.execute(update(ACTIONS).where(ACTIONS.c.id == row["id"]).values(count=count, result=result))


def note_result(connection: Connection, action: int, result: Mapping[str, Any]) -> None:
    """Complete an action that was recorded before its effect, which is outside of the database."""
    thing = connection.execute(select(ACTIONS.c.result).where(ACTIONS.c.id == action)).scalar_one().get(THING)
    values = {**result, THING: thing or COUNTED_DELIVERY}
    connection.execute(update(ACTIONS).where(ACTIONS.c.id == action).values(result=values))


def note_key(connection: Connection, action: int, asked: Asked, result: Mapping[str, Any]) -> None:
    """Complete the last action of a request that has recorded several: it gets the key, and the answer to all."""
    same = (ACTIONS.c.who == storable(asked.by.who), ACTIONS.c.what == asked.what, ACTIONS.c.key.is_(None))
    noted = update(ACTIONS).where(ACTIONS.c.id == action, *same).values(key=asked.key)
    if connection.execute(noted).rowcount:
        note_result(connection, action, result)


def forget(connection: Connection, action: int) -> None:
    """Remove an action that was recorded before its effect, and had none."""
    connection.execute(delete(ACTIONS).where(ACTIONS.c.id == action))


def _thing(row: RowMapping) -> str:
    """The noun that an action counts. Actions that were recorded without a noun counted deliveries."""
    return str(row["result"].get(THING, COUNTED_DELIVERY))


def _answered(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != THING}
