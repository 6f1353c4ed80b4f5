"""Retries or drops a follower's dead changes, and removes followers, on behalf of a person."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, delete

from receiver.database.database import Database
from receiver.errors import ConfigurationError
from receiver.following import dead_changes, followers
from receiver.following.dead_changes import DEAD_CHANGES
from receiver.following.followers import FOLLOWERS
from receiver.logs.safe_text import quoted
from receiver.runs.actions import Asked, By, Effect, perform
from receiver.worker.liveness import host_and_pid


def retry_dead(database: Database, name: str, *, by: By, reason: str | None = None, key: str | None = None) -> int:
    """Make the follower's dead changes due, and then the changes that wait for them; return the number of dead ones.

    The follower's process posts them at its next poll. Raises `ConfigurationError` for an unknown follower.
    """

    def retry(connection: Connection, _: RowMapping) -> int:
        return dead_changes.retry(connection, name)

    asked = Asked(by=by, what="retry dead changes", arguments={"follower": name}, reason=reason, key=key)
    return _act(database, name, asked, retry)


def drop_dead(
    database: Database, name: str, seq: int, *, by: By, reason: str | None = None, key: str | None = None
) -> None:
    """Drop one dead change, so that the changes that wait for it are posted.

    Raises `ConfigurationError` if the follower has no dead change with this number.
    """

    def drop(connection: Connection, _: RowMapping) -> int:
        if not dead_changes.remove(connection, name, seq):
            raise ConfigurationError(
                f"The follower {name} has no dead change {seq}: `hookmirror follow --list` shows its dead changes."
            )
        return 1

    arguments = {"follower": name, "seq": seq}
    _act(database, name, Asked(by=by, what="drop dead change", arguments=arguments, reason=reason, key=key), drop)


def forget(database: Database, name: str, *, by: By) -> None:
    """Remove the follower with its cursor and its dead changes.

    Raises `ConfigurationError` while a process serves it. A process of another machine that has given no sign of life
    for `SILENT` counts as lost.
    """

    def remove(connection: Connection, row: RowMapping) -> int:
        if name in followers.served(connection, datetime.now(UTC)):
            raise ConfigurationError(
                f"The process {host_and_pid(row['holder'])} serves the follower {name}: end it first. If its machine "
                "is lost, wait until its last sign of life is two minutes ago."
            )
        connection.execute(delete(FOLLOWERS).where(FOLLOWERS.c.name == name))
        return connection.execute(delete(DEAD_CHANGES).where(DEAD_CHANGES.c.follower == name)).rowcount

    _act(database, name, Asked(by=by, what="forget follower", arguments={"follower": name}), remove)


def _act(database: Database, name: str, asked: Asked, change: Callable[[Connection, RowMapping], int]) -> int:
    """Lock and change the follower, record the action, and return the number of changes concerned."""

    def effect(connection: Connection) -> Effect:
        row = followers.lock(connection, name)
        if row is None:
            known = ", ".join(each["name"] for each in followers.every(connection)) or "none"
            raise ConfigurationError(f"There is no follower {quoted(name)}. The followers are: {known}.")
        number = change(connection, row)
        result: dict[str, Any] = {"changes": number}
        return Effect(number, result, thing="dead change", wants_reason=False)

    done = perform(database, asked, effect, now=datetime.now(UTC))
    return 0 if done is None else int(done.result["changes"])
