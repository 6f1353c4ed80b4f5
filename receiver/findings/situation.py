"""The situation: the input of the rules, as plain values, so that a rule needs neither a database nor a clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from receiver.findings.counting import RUNNING
from receiver.findings.faults import Fault
from receiver.findings.tallies import DetailTotal, Tallied

#: The period that the tallies of a situation cover.
RECENT = timedelta(hours=1)

#: Within this period, this many minutes with a sign of life rule out a standstill and a jump of the clock.
STEADY, STEADY_MINUTES = timedelta(minutes=5), 3


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """The facts of a source that the rules need from its settings; no secrets."""

    name: str
    secrets: int = 1
    #: Whether each secret belongs to a different webhook record at the sender, so that none supersedes another.
    has_named_secrets: bool = False
    #: Whether a schedule reconciles it.
    is_scheduled: bool = False
    #: The marks of its secrets, the newest first; empty in a process that cannot make them.
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SignatureHistory:
    """The signature history of a source: its last webhook that verified, and the wrong ones before and after it."""

    last_good: datetime | None
    #: The number of webhooks that did not verify in the day before it.
    wrong_before: int
    #: The arrival of the last one, and of the first wrong one after it; None if neither a delivery nor a kept request
    #: has it. Tallies have the minute in which they were written, which may be a later one.
    good_at: datetime | None = None
    wrong_from: datetime | None = None
    #: The number of those that have not verified since then under the present secrets, at least that of the kept ones,
    #: with the first and the last moment.
    wrong: int = 0
    wrong_first: datetime | None = None
    wrong_last: datetime | None = None
    #: The hours of the last day with wrong signatures, and those with right ones, under the present secrets, the oldest
    #: first; empty if the last hour has enough wrong ones.
    wrong_hours: Sequence[Tallied] = ()
    good_hours: Sequence[Tallied] = ()


@dataclass(frozen=True, slots=True)
class Silence:
    """A source that sent webhooks before and has sent none for a while."""

    #: The minutes with webhooks, oldest first.
    arrivals: Sequence[datetime]
    #: The number of minutes since the last of them in which an endpoint ran.
    watched: int


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """A process with a recent sign of life."""

    #: The host and process id, by which people find it.
    shown: str
    works: bool
    serves: bool


@dataclass(frozen=True, slots=True)
class Start:
    """The first tally of a release with one wiring."""

    at: datetime
    release: str
    #: Whether another release or wiring ran before.
    replaced_another: bool


@dataclass(frozen=True, slots=True)
class Unhandled:
    """Ignored deliveries of one event type without a handler."""

    source: str
    event_type: str
    number: int
    first: datetime
    last: datetime
    #: The handler that takes this event type now; None without one.
    handler: str | None = None
    #: The event type that was most likely meant, of those that handlers take; None if none is similar.
    likely: str | None = None


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The result of comparing a source with its mirror, or the failure to compare."""

    source: str
    at: datetime
    compared: int
    wrong: int
    #: Event types whose loss explains the difference; empty if unknown.
    missing: Sequence[str] = ()
    #: Those of the wrong rows that the list lacked, and that the brake left active.
    braked: int = 0
    #: The reason why the reconcile failed, and its run; None for one that did not fail.
    trouble: str | None = None
    run: int | None = None
    #: The run that has begun since and has not ended.
    next_run: int | None = None


@dataclass(frozen=True, slots=True)
class Followed:
    """A follower of the change feed, with the state of its target."""

    name: str
    #: The reason for which the target accepts nothing at present, and the time since which it does not.
    trouble: str | None = None
    trouble_since: datetime | None = None
    #: Whether a process posts the changes.
    is_served: bool = True
    #: The time since which changes wait for such a process; None while one posts them, and without such changes.
    unserved_since: datetime | None = None
    #: The time at which its last process was stopped; None if one posts the changes, or ended in another way.
    stopped_at: datetime | None = None
    #: The number of changes that the target has refused, and the time of the first one.
    dead: int = 0
    dead_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class LockedDeliveries:
    """The deliveries of one source that wait for a lock of another session, with the one that waits longest."""

    source: str
    number: int
    delivery: int
    #: The time since which it waits.
    since: datetime
    #: Which lock that is, and how to find the session.
    lock: str


@dataclass(frozen=True, slots=True)
class StillRun:
    """A run at work whose lease has expired, although a process that makes progress renews it."""

    run: int
    kind: str
    sources: Sequence[str]
    #: The end of the lease.
    until: datetime


@dataclass(frozen=True, slots=True)
class Situation:
    """The input of all rules at one moment."""

    now: datetime
    sources: Mapping[str, SourceFacts] = field(default_factory=dict)
    #: The tallies of the last hour, by the minute.
    recent: Sequence[Tallied] = ()
    signatures: Mapping[str, SignatureHistory] = field(default_factory=dict)
    #: The minute since which each source has its present secrets, in their present order.
    secrets_since: Mapping[str, datetime] = field(default_factory=dict)
    #: The webhooks that each secret has verified since then, by source and mark, for sources whose newest of several
    #: secrets has verified none.
    secret_uses: Mapping[str, Mapping[str, DetailTotal]] = field(default_factory=dict)
    #: The sources that have sent nothing for some minutes.
    silences: Mapping[str, Silence] = field(default_factory=dict)
    #: The beginnings of the silences that open findings name and that last, by source; empty for that of all sources.
    silent_since: Mapping[str, datetime] = field(default_factory=dict)
    processes: Sequence[RunningProcess] = ()
    starts: Sequence[Start] = ()
    faults: Sequence[Fault] = ()
    oldest_due_seconds: float = 0.0
    max_backlog_seconds: float = 300.0
    max_body_bytes: int = 1_048_576
    #: The number of kept refused requests, by source.
    kept: Mapping[str, int] = field(default_factory=dict)
    #: Deliveries of the last day without a handler; and ignored ones of the last month that have a handler now.
    unhandled: Sequence[Unhandled] = ()
    wanted: Sequence[Unhandled] = ()
    reconciles: Sequence[Reconciled] = ()
    #: The moment before which all news from the future was dated back, by source.
    dated_back: Mapping[str, datetime] = field(default_factory=dict)
    followers: Sequence[Followed] = ()
    still_runs: Sequence[StillRun] = ()
    locked: Sequence[LockedDeliveries] = ()
    #: The tallies of the last hour by kind and source, and under None those of all sources. Without it, each question
    #: would read all tallies, and the rules ask several about each source.
    _by_kind: Mapping[tuple[str, str | None], Sequence[Tallied]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_kind: dict[tuple[str, str | None], list[Tallied]] = defaultdict(list)
        for each in self.recent:
            by_kind[each.kind, each.source].append(each)
            by_kind[each.kind, None].append(each)
        object.__setattr__(self, "_by_kind", dict(by_kind))

    def tallied(
        self, source: str | None, kind: str, details: Collection[str] | None = None, *, within: timedelta = RECENT
    ) -> list[Tallied]:
        """The tallies of this kind within a period, oldest first; None matches any source."""
        return [
            each
            for each in self._by_kind.get((kind, source), ())
            if (details is None or each.detail in details) and self.now - within < each.at <= self.now
        ]

    @property
    def is_steady(self) -> bool:
        """Whether processes have run for some minutes; if not, the absence of webhooks is no evidence."""
        return len({each.at for each in self.tallied("", RUNNING, within=STEADY)}) >= STEADY_MINUTES


def total(tallies: Sequence[Tallied]) -> int:
    """Sum the numbers of these tallies."""
    return sum(each.number for each in tallies)
