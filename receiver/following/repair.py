"""What a person does about a follower's dead changes, and about a follower that is not wanted any more."""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping, delete

from receiver.database.database import Database
from receiver.errors import ConfigurationError
from receiver.following import dead_changes, followers
from receiver.following.dead_changes import DEAD_CHANGES
from receiver.following.followers import FOLLOWERS
from receiver.worker.liveness import dead


def retry_dead(database: Database, name: str) -> int:
    """Have the follower send its dead changes again, and behind each what waits for it; returns how many are dead.

    The process that hands on does it at its next look. Raises `ConfigurationError` for an unknown follower.
    """
    with database.write() as connection:
        _demand(connection, name)
        return dead_changes.retry(connection, name)


def drop_dead(database: Database, name: str, seq: int) -> None:
    """Give one dead change up: the target never gets it, and what waits behind it is sent.

    Raises `ConfigurationError` if there is none of this number.
    """
    with database.write() as connection:
        _demand(connection, name)
        if not dead_changes.remove(connection, name, seq):
            raise ConfigurationError(
                f"The follower {name} has no dead change {seq}: `hookmirror follow --list` shows those that it has."
            )


def forget(database: Database, name: str) -> None:
    """Remove the follower with its cursor and its dead changes.

    Raises `ConfigurationError` while a process hands on for it.
    """
    with database.write() as connection:
        row = _demand(connection, name)
        if row["holder"] is not None and not dead([row["holder"]]):
            raise ConfigurationError(f"The process {row['holder']} hands on for the follower {name}: end it first.")
        connection.execute(delete(DEAD_CHANGES).where(DEAD_CHANGES.c.follower == name))
        connection.execute(delete(FOLLOWERS).where(FOLLOWERS.c.name == name))


def _demand(connection: Connection, name: str) -> RowMapping:
    """The follower, locked."""
    row = followers.lock(connection, name)
    if row is None:
        known = ", ".join(each["name"] for each in followers.every(connection)) or "none"
        raise ConfigurationError(f"There is no follower {name!r}. There are: {known}.")
    return row
