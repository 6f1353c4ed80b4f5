"""Posts the change feed to one target, in commit order and at least once, for as long as the process runs.

    take      take the lease on the follower
    due       post changes that are due again
    page      post the changes after the cursor: each is accepted, put on the list of dead changes, or retried
    save      store the cursor, once a second and at the end

If the process is killed, changes accepted since the last save are posted once more, with the same keys.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from time import monotonic

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from receiver.database.database import Database
from receiver.database.errors import explain_lock, is_lock_timeout, is_of_moved_files
from receiver.errors import HookmirrorError
from receiver.following import dead_changes
from receiver.following.dead_changes import TargetRefusal
from receiver.following.feed import Feed, FeedItem, FeedPart, MirrorKey
from receiver.following.followers import LeaseLost
from receiver.following.lease import FollowerLease, FollowOptions
from receiver.following.target import PostVerdict, Target, TargetAnswer
from receiver.logs.outages import Outage
from receiver.logs.safe_text import told
from receiver.metrics import metrics

log = structlog.get_logger(__name__)

#: The longest wait between two attempts in seconds, unless the target asks for more.
LONGEST_BACKOFF = 60.0

#: Most consecutive changes that may die. A target that refuses more refuses everything, so no change is at fault.
MOST_DEAD_IN_A_ROW = 10

#: Seconds between two log lines about one failure.
TOLD_EVERY = 60.0

#: The line about a SQLite file that is not the one that this process has opened, and the advice in it.
FILES_MOVED = "files of the database were moved, removed or replaced, such as by a restore; nothing is posted"
START_AGAIN = (
    "Stop every process that has the database open. If the old file is wanted, put it back; then start them again: the "
    "follower compares its place with the file that is there."
)

#: Most due changes that are posted between two reads of the list.
MOST_DUE = 100


class TargetGone(HookmirrorError):
    """Raised when the target has answered that it wants no more changes."""


class Following:
    """Serves one follower from one process. Not thread-safe."""

    def __init__(
        self,
        database: Database,
        target: Target,
        options: FollowOptions,
        *,
        stopping: threading.Event,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._database, self._target, self._options = database, target, options
        self._stopping, self._jitter = stopping, jitter
        self._feed = Feed(database, options.wanted)
        self._lease = FollowerLease(database, self._feed, target, options, stopping)
        self._trouble, self._told_at = "", 0.0
        self._outage = Outage(log, "the database does not answer", "the database answers again")
        self._dead_in_a_row = 0
        #: Numbers of changes that were accepted out of order.
        self._ahead: set[int] = set()

    def run(self) -> None:
        """Post changes until `stopping` is set.

        Raises `NotThisFeed` if the cursor belongs to another feed, `TargetGone`, and `FollowerForgotten`.
        """
        is_known = False
        try:
            while not self._stopping.is_set():
                try:
                    has_lease = self._lease.take()
                    self._outage.worked()
                    if has_lease:
                        self._work()
                    else:
                        self._stopping.wait(self._options.poll)
                except LeaseLost as error:
                    log.warning(
                        "this process no longer holds the follower", follower=self._options.name, reason=str(error)
                    )
                except SQLAlchemyError as error:
                    self._tell_of_database(error)
                    self._stopping.wait(self._backoff(2))
            is_known = True
        except HookmirrorError:
            is_known = True
            raise
        finally:
            self._lease.leave(is_known=is_known)

    def _work(self) -> None:
        self._trouble, self._dead_in_a_row = self._lease.trouble, self._lease.dead_in_a_row
        self._ahead.clear()
        self._lease.refuse_other_feed()
        while not self._stopping.is_set():
            self._send_due()
            part = self._feed.after(self._lease.place.seq)
            self._outage.worked()
            if part.end < self._lease.place.seq:
                self._lease.refuse_other_feed()
            self._hand_on(part.items)
            if not part.items:
                self._skip(part)

    def _skip(self, part: FeedPart) -> None:
        """Move the cursor past changes of which none matches, and wait for others at the end of the feed."""
        is_further = part.next > self._lease.place.seq
        if is_further:
            self._lease.stand(self._feed.place(part.next))
        self._lease.save_in_time()
        # One read examines changes for a tenth of a second, which may end before the feed does.
        if not (is_further and part.next < part.end):
            self._stopping.wait(self._options.poll)

    # ── delivery ──────────────────────────────────────────────────────────────────────────────────────────────

    def _hand_on(self, items: Sequence[FeedItem]) -> None:
        """Deliver each change of the page in turn, until the process stops."""
        blocked = self._blocked(items)
        for item in items:
            if self._stopping.is_set():
                return
            if item.seq in self._ahead:
                self._ahead.discard(item.seq)
            elif not (item.row in blocked and self._park(item)):
                answer = self._deliver(item)
                if answer.verdict is PostVerdict.UNKNOWN:
                    return
                if answer.verdict is not PostVerdict.ACCEPTED:
                    self._bury(item, answer)
                    blocked.add(item.row)
            self._lease.done(item)
            self._lease.save_in_time()

    def _deliver(self, item: FeedItem) -> TargetAnswer:
        """Post a change until it is accepted or refused for good, or the process stops. Raises `TargetGone`."""
        failures, refusals, broken = 0, 0, 0
        while True:
            answer = self._post(item)
            if answer.verdict in (PostVerdict.ACCEPTED, PostVerdict.UNKNOWN):
                return answer
            refusals = refusals + 1 if answer.verdict is PostVerdict.REFUSED else 0
            broken += answer.verdict is PostVerdict.BROKEN
            if refusals >= self._options.tries and self._may_bury():
                return answer
            if broken >= self._options.tries and self._may_bury() and self._is_to_blame(item):
                return answer
            self._note_trouble(answer)
            self._lease.pause(max(self._backoff(failures), answer.retry_after or 0.0))
            failures += 1
            if self._stopping.is_set():
                return TargetAnswer(PostVerdict.UNKNOWN, answer.says)

    def _post(self, item: FeedItem) -> TargetAnswer:
        self._lease.save_in_time()
        answer = self._target.post(item, self._stopping)
        metrics.FOLLOW_POSTS.labels(self._options.name, answer.verdict.value).inc()
        if answer.verdict is PostVerdict.GONE:
            self._note_trouble(answer)
            raise TargetGone(
                f"{self._target.shown} wants no more changes. {answer.says} The follower {self._options.name} keeps "
                "its cursor: start it again once the target accepts changes."
            )
        if answer.verdict is PostVerdict.ACCEPTED:
            self._dead_in_a_row = 0
            self._lease.accepted()
            self._end_trouble()
        return answer

    def _may_bury(self) -> bool:
        return not self._options.strict and self._dead_in_a_row < MOST_DEAD_IN_A_ROW

    def _is_to_blame(self, item: FeedItem) -> bool:
        """Whether the target accepts the next change of another row, so that only this change is at fault."""
        later = self._feed.after(item.seq).items
        blocked = self._blocked(later) | {item.row}
        other = next((each for each in later if each.row not in blocked and each.seq not in self._ahead), None)
        if other is None or self._post(other).verdict is not PostVerdict.ACCEPTED:
            return False
        self._ahead.add(other.seq)
        return True

    # ── dead changes ──────────────────────────────────────────────────────────────────────────────────────────

    def _blocked(self, items: Sequence[FeedItem]) -> set[MirrorKey]:
        """Select the rows that have an earlier dead change."""
        with self._database.read() as connection:
            return dead_changes.blocked(connection, self._options.name, [item.row for item in items])

    def _bury(self, item: FeedItem, answer: TargetAnswer) -> None:
        """List the change as dead and move the cursor past it, in one transaction."""
        with self._database.write() as connection:
            self._save_without_trouble(connection, past=item)
            refusal = TargetRefusal(answer.status, answer.says, self._options.tries)
            dead_changes.bury(connection, self._options.name, item, refusal, now=datetime.now(UTC))
        self._dead_in_a_row += 1
        log.warning("a change is dead", follower=self._options.name, seq=item.seq, reason=answer.says)

    def _park(self, item: FeedItem) -> bool:
        """List the change as waiting for a dead change of its row; False if that change was removed meanwhile."""
        with self._database.write() as connection:
            # The lock on the follower keeps a repair from happening in between.
            self._lease.save(connection)
            if not dead_changes.park(connection, self._options.name, item, now=datetime.now(UTC)):
                return False
            self._lease.save(connection, past=item)
        return True

    def _send_due(self) -> None:
        """Post each due change once, and then the changes that waited for it."""
        while not self._stopping.is_set():
            with self._database.read() as connection:
                numbers = dead_changes.due(connection, self._options.name, limit=MOST_DUE)
            if not numbers:
                return
            there = {item.seq: item for item in self._feed.of_numbers(numbers)}
            for seq in numbers:
                if self._stopping.is_set() or not self._send_again(seq, there.get(seq)):
                    return

    def _send_again(self, seq: int, item: FeedItem | None) -> bool:
        """Post one listed change again; False if the target fails. A change that the feed does not have is dropped.

        An answer that it may get each time is a refusal, because all other listed changes would wait for it for ever.
        """
        answer = None if item is None else self._post(item)
        is_trouble = answer is not None and answer.verdict in (PostVerdict.TROUBLE, PostVerdict.UNKNOWN)
        if answer is not None and is_trouble and not answer.may_be_lasting:
            self._note_trouble(answer)
            self._lease.pause(max(self._backoff(0), answer.retry_after or 0.0))
            return False
        with self._database.write() as connection:
            if answer is None:
                self._lease.save(connection)
            else:
                self._save_without_trouble(connection)
            if answer is None or answer.verdict is PostVerdict.ACCEPTED:
                dead_changes.remove(connection, self._options.name, seq)
            else:
                refusal = TargetRefusal(answer.status, answer.says, 1)
                dead_changes.refuse_again(connection, self._options.name, seq, refusal)
        return True

    def _tell_of_database(self, error: SQLAlchemyError) -> None:
        says, reason = "", told(error)
        if is_lock_timeout(error):
            says, reason = "the follower waits for a lock", explain_lock(error)
        elif is_of_moved_files(error):
            says, reason = FILES_MOVED, f"{reason}. {START_AGAIN}"
        self._outage.failed(says, says=says, follower=self._options.name, reason=reason)

    # ── failing targets ───────────────────────────────────────────────────────────────────────────────────────

    def _note_trouble(self, answer: TargetAnswer) -> None:
        """Record that the target accepts no change, and log it once a minute."""
        says = answer.says
        if self._dead_in_a_row >= MOST_DEAD_IN_A_ROW:
            says = (
                f"It refused {self._dead_in_a_row} changes in a row, so the next one is retried until accepted: "
                f"correct --to, or mend the target. {says}"
            )
        if not self._trouble:
            self._lease.save(trouble=says, trouble_since=datetime.now(UTC))
        elif says != self._trouble:
            self._lease.save(trouble=says)
        if not self._trouble or monotonic() - self._told_at >= TOLD_EVERY:
            log.warning("the target accepts no change", follower=self._options.name, reason=says)
            self._told_at = monotonic()
        self._trouble = says

    def _end_trouble(self) -> None:
        if self._trouble:
            self._trouble = ""
            self._lease.save(trouble=None, trouble_since=None)
            log.info("the target accepts changes again", follower=self._options.name)

    def _save_without_trouble(self, connection: Connection, *, past: FeedItem | None = None) -> None:
        """Save the cursor, and that the target answers: a change that it refuses is listed in the same transaction."""
        self._trouble = ""
        self._lease.save(connection, past=past, trouble=None, trouble_since=None)

    def _backoff(self, failures: int) -> float:
        longest = min(self._options.first_backoff * 2.0 ** min(failures, 16), LONGEST_BACKOFF)
        return longest * (0.5 + 0.5 * self._jitter())
