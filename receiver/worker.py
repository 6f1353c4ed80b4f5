"""The worker: what was accepted becomes the mirror.

`work` is one round, in the order in which data flows. Everything that a batch changes (mirror rows, change feed,
delivery states) commits in the one transaction of `_settle`; whatever happens before it leaves no trace but the
attempt that was counted at the claim.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from receiver import changes, liveness
from receiver.attempts import Judge, Judged, Task, count
from receiver.claims import Claimed
from receiver.database import Database
from receiver.dialects import Handler
from receiver.endings import Ending
from receiver.envelope import Envelope, Event
from receiver.errors import Discard, Unreadable
from receiver.inbox import Inbox
from receiver.liveness import Pulse
from receiver.mirror import Key, Mirror, MirrorRow, Reader, SessionRequested, Write
from receiver.retention import Retention
from receiver.retries import RetrySchedule
from receiver.side_by_side import side_by_side
from receiver.sources import Source
from receiver.trouble import insist, is_trouble_of_ours
from receiver.versions import AHEAD
from receiver.workspace import Workspace

log = structlog.get_logger(__name__)

#: Seconds between looks for work that nobody announced: retries that came due, another process's accepts.
POLL_SECONDS = 0.2

#: Calls of one batch to sources' APIs that are under way at once.
HYDRATIONS_AT_ONCE = 8

#: Between two batches of what has expired, and between two looks for it.
PRUNE_PAUSE, PRUNE_INTERVAL = timedelta(seconds=1), timedelta(hours=1)

#: Deliveries settled together at most while requests come in, on SQLite (docs/decisions/0014).
BESIDE_REQUESTS = 25

#: Seconds to wait after trouble with the database; doubled up to the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0


class Worker:
    """Drains the inbox into the mirror, batch after batch. One thread runs it; any number of workers share an inbox."""

    def __init__(
        self,
        inbox: Inbox,
        sources: Mapping[str, Source],
        *,
        batch_size: int = 200,
        lease: timedelta = timedelta(seconds=60),
        retries: RetrySchedule | None = None,
        retention: Retention | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        luck: Callable[[], float] = random.random,
        requests_wait: Callable[[], bool] = lambda: False,
    ) -> None:
        """`requests_wait` says whether this process gets requests right now, whose answers wait for the database."""
        self.name = liveness.new_name()
        #: Shows whoever watches this worker that it moves.
        self.pulse = Pulse()
        self._inbox = inbox
        self._database = inbox.database
        self._sources = sources
        self._batch_size = batch_size
        self._requests_wait = requests_wait
        self.lease = lease
        self._retries = retries or RetrySchedule()
        self._judge = Judge(self._retries, clock=clock, luck=luck)
        self._retention = retention
        self._prune_at = clock()
        self._clock = clock
        self._luck = luck
        #: As if the last turn had been the suspects': a worker that follows one that hung begins with the others.
        self._suspects_turn = True
        self._clients: dict[str, httpx.Client | None] = {}
        self._extended_at = clock()
        self._looked_for_lost_at: datetime | None = None
        self._stopping = threading.Event()
        self._wake = threading.Event()

    # ── the round ─────────────────────────────────────────────────────────────────────────────────────────────

    def work(self) -> int:
        """Bring one batch of due deliveries to its end. Returns how many were claimed."""
        tasks = [Task(delivery) for delivery in self._claim()]
        for task in tasks:
            self._read(task)
        self._hydrate(tasks)
        for some in self._in_turns(tasks):
            self._handle(some, tasks)
            self._settle(some)
        return len(tasks)

    def run(self) -> None:
        """Work until `stop`. Trouble with the database is waited out; what was claimed meanwhile is given back."""
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                self._take_over_what_others_left()
                if not self.work():
                    self._wake.wait(POLL_SECONDS)
                    self._wake.clear()
                self._prune()
                pause = FIRST_PAUSE
            except Exception as error:
                # Whatever it is, a worker that ended would leave the inbox to fill up in silence.
                log.error("the worker is in trouble; trying again", seconds=pause, error=_one_line(error))
                self._stopping.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                self._give_back()
        self._give_back()
        self.close()

    def wake(self) -> None:
        """Say that there is work. Safe to call from any thread."""
        self._wake.set()

    def stop(self) -> None:
        """End after the delivery at hand. Safe to call from any thread."""
        self._stopping.set()
        self._wake.set()

    def give_up(self) -> None:
        """Count as dead from now on, although the thread is there: others take over what this worker holds.

        If the thread comes back after all, it settles only what it still holds, and ends. Safe from any thread.
        """
        liveness.strike_off(self.name)
        self.stop()

    def close(self) -> None:
        """Let go of what is held outside the database."""
        liveness.strike_off(self.name)
        for client in self._clients.values():
            if client is not None:
                client.close()
        self._clients.clear()

    # ── claim ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _claim(self) -> list[Claimed]:
        now = self._extended_at = self._clock()
        known = self._sources.keys()
        due = self._inbox.due(known, now=now)
        # A delivery whose last attempt never ended may be what ended its worker: alone, it takes nobody with it.
        self._suspects_turn = due.suspect and not (due.ordinary and self._suspects_turn)
        if not due.ordinary and not due.suspect:
            return []
        limit = 1 if self._suspects_turn else self._batch_size
        return self._inbox.claim(self.name, known, limit=limit, now=now, lease=self.lease, suspect=self._suspects_turn)

    def _take_over_what_others_left(self) -> None:
        now = self._clock()
        if self._looked_for_lost_at is not None and now - self._looked_for_lost_at < self.lease / 10:
            return
        self._looked_for_lost_at = now
        gone = liveness.gone(self._inbox.workers())
        taken = self._inbox.take_over(now=now, gone=gone, max_attempts=self._retries.attempts, pause=self.lease / 4)
        if taken:
            log.warning("took over deliveries that another worker left behind", deliveries=taken)

    def _prune(self) -> None:
        """One small batch of what has expired, now and then: retention never holds the work up for long."""
        now = self._clock()
        if self._retention is None or now < self._prune_at:
            return
        dropped = self._retention.prune(self._database, now=now)
        self._prune_at = now + (PRUNE_PAUSE if dropped else PRUNE_INTERVAL)

    def _give_back(self) -> None:
        try:
            self._inbox.release(self.name)
        except SQLAlchemyError as error:
            log.error("what was claimed could not be given back; its lease will end", error=_one_line(error))

    def _keep_lease(self, tasks: Sequence[Task]) -> None:
        now = self._clock()
        if now - self._extended_at > self.lease / 3:
            self._inbox.extend(self.name, [task.delivery.id for task in tasks], until=now + self.lease)
            self._extended_at = now

    # ── read ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, task: Task) -> None:
        """Parse the body anew: what was unreadable yesterday may be readable with today's code."""
        delivery = task.delivery
        with self._judged(task):
            if delivery.plain is None:
                raise Unreadable("The body has expired, so there is nothing to process.")
            source = self._sources[delivery.source]
            envelope = task.envelope = source.read(delivery.plain)
            task.handler = source.dialect.handler_for(envelope.event_type)
            if task.handler is None:
                raise Discard(f"No handler takes {envelope.event_type}.")
            _warn_of_the_future(delivery, envelope)
            kind, entity_id = envelope.entity or ("", "")
            task.event = Event(
                source=delivery.source,
                event_type=envelope.event_type,
                entity_kind=kind,
                entity_id=entity_id,
                occurred_at=envelope.occurred_at,
                data=task.handler.parse(envelope.data),
                delivery_id=str(delivery.id),
                attempt=delivery.attempt,
                received_at=delivery.received_at,
            )

    # ── hydrate ───────────────────────────────────────────────────────────────────────────────────────────────

    def _hydrate(self, tasks: Sequence[Task]) -> None:
        """Fetch what thin events only name: I/O, so outside every transaction and several at once."""
        thin = [task for task in tasks if task.ending is None and self._may_be_thin(task) and self._is_thin(task)]
        if not thin:
            return
        for _ in side_by_side(self._fetch, thin, at_once=HYDRATIONS_AT_ONCE):
            self._keep_lease(tasks)

    def _fetch(self, task: Task) -> None:
        hydrator, client = self._hydrator(task), self._client(task.delivery.source)
        assert hydrator is not None
        if client is None or self._stopping.is_set():
            return
        with self._judged(task, hydrator):
            hydrated = hydrator.function(task.event, client)
            assert task.event is not None
            task.event = replace(task.event, hydrated=hydrated)

    def _may_be_thin(self, task: Task) -> bool:
        """Not if it is known already that its source has no API."""
        name = task.delivery.source
        return name not in self._clients or self._clients[name] is not None

    def _is_thin(self, task: Task) -> bool:
        with self._judged(task):
            return self._hydrator(task) is not None
        return False

    def _hydrator(self, task: Task) -> Handler | None:
        if task.envelope is None or self._client(task.delivery.source) is None:
            return None
        return self._sources[task.delivery.source].dialect.hydrator_for(task.envelope.event_type)

    def _client(self, name: str) -> httpx.Client | None:
        if name not in self._clients:
            source = self._sources[name]
            client = self._clients[name] = source.dialect.client(source.settings)
            if client is not None:
                # Whoever asks an API patiently, call after call, is not hanging.
                client.event_hooks = {
                    kind: [*hooks, lambda _: self.pulse.beat()] for kind, hooks in client.event_hooks.items()
                }
        return self._clients[name]

    # ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _in_turns(self, tasks: Sequence[Task]) -> Iterator[Sequence[Task]]:
        """A few at a time, while requests wait for the only writer that SQLite has; else all that are left at once."""
        while tasks:
            beside_requests = not self._database.is_postgresql and self._requests_wait()
            some = tasks[:BESIDE_REQUESTS] if beside_requests else tasks
            yield some
            tasks = tasks[len(some) :]

    # ── handle ────────────────────────────────────────────────────────────────────────────────────────────────

    def _handle(self, tasks: Sequence[Task], batch: Sequence[Task]) -> None:
        """Run the handlers in arrival order and collect their writes. A handler that raises contributes nothing.

        Meanwhile the lease of the whole batch is kept.
        """
        with _reader(self._database) as read:
            earlier: list[Write] = []
            for task in tasks:
                if task.ending is None and not self._stopping.is_set():
                    self._run(task, earlier, read)
                    earlier.extend(task.writes)
                    self._keep_lease(batch)

    def _run(self, task: Task, earlier: list[Write], read: Reader, session: Session | None = None) -> None:
        assert task.handler is not None
        assert task.event is not None
        mirror = Mirror(
            source=task.delivery.source,
            occurred_at=task.event.occurred_at,
            arrival=task.delivery.id,
            earlier=earlier,
            read=read,
            session=session,
        )
        task.handled = True
        with self._judged(task, task.handler, in_transaction=session is not None):
            try:
                task.handler.function(task.event, mirror)
            except SessionRequested:
                task.wants_session = True
            else:
                task.writes = mirror.writes

    # ── settle ────────────────────────────────────────────────────────────────────────────────────────────────

    def _settle(self, tasks: Sequence[Task]) -> None:
        """Commit what the batch did; if its content forbids that, one delivery at a time, so only the guilty pays."""
        done = [task for task in tasks if task.ending is not None or task.handled]
        if not done:
            return
        try:
            self._settle_together(done)
        except Exception as error:
            # Interrupted handlers may be what it is: alone, each uses up its own chances and nobody else's.
            if is_trouble_of_ours(error) and not any(task.interruptions for task in done):
                raise
            log.warning("a batch could not be settled; settling its deliveries one by one", error=_one_line(error))
            for task in done:
                self._settle_alone(task)

    def _settle_alone(self, task: Task) -> None:
        try:
            self._settle_together([task])
        except Exception as error:
            if is_trouble_of_ours(error):
                raise
            task.ending = self._judge.failure(task, f"The mirror refused its rows: {_one_line(error)}")
            self._settle_together([task])

    def _settle_together(self, tasks: Sequence[Task]) -> None:
        endings = insist(lambda: self._commit(tasks), wait=self._stopping.wait, luck=self._luck)
        count(tasks, endings, now=self._clock())

    def _commit(self, tasks: Sequence[Task]) -> list[Ending]:
        """ONE transaction: mirror rows, change feed, delivery states. Only for what this worker still holds."""
        now = self._clock()
        with self._database.write() as connection:
            held = self._inbox.held(connection, self.name, [task.delivery.id for task in tasks])
            ours = [task for task in tasks if task.delivery.id in held]
            earlier: list[Write] = []
            for task in ours:
                if task.ending is None and task.wants_session:
                    self._run_in_savepoint(task, earlier, connection)
                earlier.extend(task.writes if task.ending is None else [])
            workspace = Workspace(connection)
            workspace.load([write for task in ours if task.ending is None for write in task.writes], lock=True)
            endings, feed = [], []
            for task in ours:
                ending = task.ending
                if ending is None:
                    outcome, changed = workspace.apply(task.writes, delivery_id=task.delivery.id)
                    feed.extend(changed)
                    ending = self._judge.success(task, outcome)
                endings.append(ending)
            workspace.save()
            self._inbox.settle(connection, self.name, endings, now=now)
            changes.record(connection, feed, now=now)
        return endings

    def _run_in_savepoint(self, task: Task, earlier: list[Write], connection: Connection) -> None:
        def read(key: Key, writes: list[Write]) -> MirrorRow | None:
            return Workspace(connection).read(key, writes)

        with Session(bind=connection, join_transaction_mode="create_savepoint") as session:
            self._run(task, earlier, read, session)
            with self._judged(task, task.handler, in_transaction=True):
                session.commit() if task.ending is None else session.rollback()

    def _judged(self, task: Task, running: Handler | None = None, *, in_transaction: bool = False) -> Judged:
        """Around a dialect's code: whatever is raised inside becomes the ending of the task, and nobody else's."""
        code = running.name if running else "the dialect's envelope"
        return Judged(self._judge, self.pulse, task, code, in_transaction)


@contextmanager
def _reader(database: Database) -> Iterator[Reader]:
    """Reads rows for `mirror.get`, all of a batch from one state of the database; opens nothing until asked."""
    with ExitStack() as stack:
        opened: list[Connection] = []

        def read(key: Key, writes: list[Write]) -> MirrorRow | None:
            if not opened:
                opened.append(stack.enter_context(database.read()))
            return Workspace(opened[0]).read(key, writes)

        yield read


def _warn_of_the_future(delivery: Claimed, envelope: Envelope) -> None:
    if envelope.occurred_at > delivery.received_at + AHEAD:
        log.warning(
            "an event is dated in the future: what follows counts as older until then, or until a reconcile",
            delivery=delivery.id,
            source=delivery.source,
            occurred_at=envelope.occurred_at.isoformat(),
        )


def _one_line(error: BaseException) -> str:
    told = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    return told.splitlines()[0]
