"""The lease of one process on a follower, with its cursor in memory and in the database."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import structlog
from sqlalchemy import Connection, RowMapping
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from receiver.database.database import Database
from receiver.errors import NotThisFeed
from receiver.following import dead_changes, followers
from receiver.following.feed import Feed, FeedItem
from receiver.following.followers import FeedPlace, FollowerForgotten, LeaseLost
from receiver.following.target import Target
from receiver.search.filters import ChangeFilter
from receiver.worker.liveness import deregister, new_name

log = structlog.get_logger(__name__)

#: Seconds between two saves of the cursor while changes are accepted.
SAVE_EVERY = 1.0

#: Seconds between two signs of life while the cursor does not move.
SIGN_EVERY = 5.0

#: The columns of a follower without trouble.
NO_TROUBLE = {"trouble": None, "trouble_since": None}

#: The default beginning of a new follower: after the newest change.
NOW, START = "now", "start"


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowOptions:
    """The options of one follower."""

    name: str
    wanted: ChangeFilter = field(default_factory=ChangeFilter)
    #: The beginning: `now`, `start` or a number. Applies to an existing follower only with `move`.
    begin: str = NOW
    move: bool = False
    #: Accept the kind of address to which the target's name resolves at the start.
    new_address: bool = False
    #: The number of refusals after which a change is dead.
    tries: int = 5
    #: Retry each change until it is accepted, so that none dies.
    strict: bool = False
    #: Seconds between polls for new changes.
    poll: float = 1.0
    #: Seconds without a sign of life after which another process counts as dead.
    lease: float = 45.0
    #: The longest wait after the first failure in seconds; doubled after each further one.
    first_backoff: float = 1.0


class FollowerLease:
    """The lease on a follower. Every write raises `LeaseLost` once another process holds the follower."""

    def __init__(
        self, database: Database, feed: Feed, target: Target, options: FollowOptions, stopping: threading.Event
    ) -> None:
        self._database, self._feed, self._target, self._options = database, feed, target, options
        self._stopping = stopping
        self._holder = new_name()
        self._moves = options.move
        self.place = FeedPlace(0, "")
        #: The recorded failure of the target when this process took over; empty without one.
        self.trouble = ""
        #: The number of changes that died since the target last accepted one, when this process took over.
        self.dead_in_a_row = 0
        self._saved_at, self._unsaved = 0.0, False
        #: The last cursor that this process is known to have stored, or found.
        self._stored = 0
        self._accepted_at: datetime | None = None
        #: The other holder's last sign of life, and when it was first seen.
        self._other: tuple[datetime, float] | None = None

    # ── the lease ─────────────────────────────────────────────────────────────────────────────────────────────

    def take(self) -> bool:
        """Try to take the lease, creating the follower if it is new; return whether this process has it.

        Raises `NotThisFeed` for a beginning beyond the end of the feed, and `FollowerForgotten`.
        """
        name, now = self._options.name, datetime.now(UTC)
        with self._database.read() as connection:
            found = followers.find(connection, name)
        if found is None:
            self._refuse_forgotten()
            self._begin(now)
        with self._database.write() as connection:
            row = followers.take(connection, name, self._holder, stale=self._stale(), now=now)
            if row is None:
                self._see(followers.find(connection, name))
                return False
            place = self._go_on(connection, row)
            # Another process may have had the follower meanwhile, and posted to the same target.
            accepted_at = None if self._is_another_target(row) else row["accepted_at"]
            self._accepted_at = max(filter(None, (accepted_at, self._accepted_at)), default=None)
            self.dead_in_a_row = self._dead_since_accepted(connection, row)
        if self._moves:
            log.info("moved the follower", follower=name, after=place.seq)
        elif place.seq < self._stored:
            log.warning(
                "the stored cursor went back: the database was restored from an older state, or another process moved "
                "it. Changes are posted again, and the target may have some that are missing here: compare its data",
                follower=name,
                before=self._stored,
                after=place.seq,
            )
        self._stored = place.seq
        self.trouble = "" if self._moves or self._is_another_target(row) else row["trouble"] or ""
        self.place, self._moves = place, False
        self._saved_at, self._unsaved, self._other = monotonic(), False, None
        log.info("took over the follower", follower=name, target=self._target.shown, after=self.place.seq)
        return True

    def _refuse_forgotten(self) -> None:
        """Raise `FollowerForgotten` if this process has had the follower: a new one would begin anew."""
        if self._saved_at:
            raise FollowerForgotten(
                f"The follower {self._options.name} was removed while this process gave no sign of life: start this "
                "again if somebody needs the changes. A new follower begins at --from."
            )

    def _begin(self, now: datetime) -> None:
        place = self._beginning()
        try:
            with self._database.write() as connection:
                followers.begin(connection, self._options.name, place, self._described(), now=now)
        except IntegrityError:
            # Another process has just created the follower, and may hold it.
            return
        self._moves = False
        log.info("created a follower", follower=self._options.name, begin=self._options.begin, after=place.seq)

    def _go_on(self, connection: Connection, row: RowMapping) -> FeedPlace:
        """Return the stored cursor, or move it if requested; the follower is locked."""
        same = row["target"] == self._target.shown and not self._options.new_address
        self._target.reach = self._target.reach or (row["reach"] if same else "")
        place, columns = FeedPlace(row["seq"], row["mark"]), self._described()
        if self._is_another_target(row):
            # So that nothing that the former target refused counts after a restart either.
            columns |= {"began_at": datetime.now(UTC), "accepted_at": None, **NO_TROUBLE}
        if self._moves:
            place = self._beginning()
            dead_changes.forget_behind(connection, self._options.name, place.seq)
            columns |= place._asdict() | NO_TROUBLE
        followers.write_held(connection, self._options.name, self._holder, columns)
        return place

    def _dead_since_accepted(self, connection: Connection, row: RowMapping) -> int:
        """Count the listed changes that died since the target last accepted one; 0 for another target than before."""
        if self._is_another_target(row):
            return 0
        return dead_changes.dead_since(connection, row["name"], self._accepted_at or row["began_at"])

    def _is_another_target(self, row: RowMapping) -> bool:
        return bool(row["target"] != self._target.shown)

    def _described(self) -> dict[str, Any]:
        wanted = self._options.wanted
        target = {"target": self._target.shown, "reach": self._target.reach}
        return {**target, "table": wanted.table, "source": wanted.source}

    def _beginning(self) -> FeedPlace:
        end, begin = self._feed.end(), self._options.begin
        if begin == NOW:
            return end
        seq = 0 if begin == START else int(begin)
        if seq > end.seq:
            raise NotThisFeed(
                f"The change feed ends with {end.seq}, and --from {seq} lies beyond: give a smaller number."
            )
        return self._feed.place(seq)

    def _see(self, row: RowMapping | None) -> None:
        """Note the other holder's sign of life, and log once that another process holds the follower."""
        if row is None or row["holder"] is None:
            return
        if self._other is None:
            log.info("waiting: another process holds the follower", follower=row["name"], process=row["holder"])
        if self._other is None or self._other[0] != row["seen_at"]:
            self._other = (row["seen_at"], monotonic())

    def _stale(self) -> datetime | None:
        """The other holder's sign of life if it has not changed for a lease, else None."""
        if self._other is None or monotonic() - self._other[1] < self._options.lease:
            return None
        return self._other[0]

    def leave(self, *, is_known: bool) -> None:
        """Save the cursor and release the lease. If the database is unreachable, only log the failure.

        After an unexpected error the process stays the holder, as one that was killed does: a follower without a
        holder and without trouble was stopped.
        """
        try:
            # A process that was stopped before it took the lease has no cursor to save.
            if self._saved_at:
                self.save(**({"holder": None} if is_known else {}))
        except (SQLAlchemyError, LeaseLost):
            log.warning("cannot save the cursor at the end", follower=self._options.name, after=self.place.seq)
        deregister(self._holder)

    # ── the cursor ────────────────────────────────────────────────────────────────────────────────────────────

    def refuse_other_feed(self) -> None:
        """Record and raise `NotThisFeed` if the feed has no change, or another one, at the cursor."""
        flaw = self._flaw()
        if flaw is not None:
            self.save(trouble=flaw, trouble_since=datetime.now(UTC))
            raise NotThisFeed(flaw)

    def _flaw(self) -> str | None:
        end, here = self._feed.end(), self._feed.place(self.place.seq)
        mend = (
            "this database was restored from an older state, or is another one. Compare the target with the rows, and "
            "start the follower with --from and --move (`--from now --move` continues with the next change)."
        )
        if self.place.seq > end.seq:
            return (
                f"The cursor of the follower {self._options.name} is at change {self.place.seq}, but the feed ends "
                f"with {end.seq}: {mend}"
            )
        if here.mark != self.place.mark:
            return (
                f"The cursor of the follower {self._options.name} is at change {self.place.seq}, but the feed has "
                f"another change of this number: {mend}"
            )
        return None

    def accepted(self) -> None:
        """Note the time at which the target accepted a change."""
        self._accepted_at = datetime.now(UTC)

    def done(self, item: FeedItem) -> None:
        """Move the cursor past this change, in memory until the next save.

        A change that is listed as dead is done only once that is committed: the cursor in memory is saved at the end
        of the process, whatever failed before.
        """
        self.stand(_behind(item))

    def stand(self, place: FeedPlace) -> None:
        """Move the cursor to this place, in memory until the next save."""
        self.place, self._unsaved = place, True

    def save(self, connection: Connection | None = None, *, past: FeedItem | None = None, **columns: Any) -> None:
        """Write the cursor and a sign of life. The follower stays locked until the caller's transaction ends.

        With `past`, the written cursor is past this change, while the cursor in memory stays.
        """
        if connection is None:
            with self._database.write() as own:
                self._write(own, past, columns)
            self._stored = self.place.seq
        else:
            self._write(connection, past, columns)
        # If the caller's commit fails, the stored cursor is unknown, so it is left as it is.
        self._saved_at, self._unsaved = monotonic(), False

    def _write(self, connection: Connection, past: FeedItem | None, columns: dict[str, Any]) -> None:
        progress: dict[str, Any] = {"seen_at": datetime.now(UTC), "reach": self._target.reach}
        if past is not None:
            progress |= _behind(past)._asdict()
        elif self._unsaved:
            progress |= self.place._asdict()
        if self._accepted_at is not None:
            progress["accepted_at"] = self._accepted_at
        followers.write_held(connection, self._options.name, self._holder, {**progress, **columns})

    def save_in_time(self) -> None:
        """Save a moved cursor once a second, and otherwise a sign of life every few seconds."""
        if monotonic() - self._saved_at >= (SAVE_EVERY if self._unsaved else SIGN_EVERY):
            self.save()

    def pause(self, seconds: float) -> None:
        """Wait for these seconds or until the process stops, giving signs of life."""
        until = monotonic() + seconds
        while not self._stopping.is_set() and (left := until - monotonic()) > 0:
            self._stopping.wait(min(left, SIGN_EVERY))
            self.save_in_time()


def _behind(item: FeedItem) -> FeedPlace:
    return FeedPlace(item.seq, item.mark)
