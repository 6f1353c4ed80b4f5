"""The situation: all that the rules look at, as plain values. What is true does not depend on who asks, or when."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from receiver.findings.counting import RUNNING
from receiver.findings.faults import Fault
from receiver.findings.tallies import Tallied

#: How far back the tallies of a situation go.
RECENT = timedelta(hours=1)

#: Within so long, so many minutes with a sign of life show that nothing stood still, and that no clock has jumped.
STEADY, STEADY_MINUTES = timedelta(minutes=5), 3


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What the settings say of a source, without its secrets."""

    name: str
    secrets: int = 1
    #: Each of its secrets belongs to another of the sender's webhook records, so that none of them replaces another.
    has_named_secrets: bool = False


@dataclass(frozen=True, slots=True)
class SignatureHistory:
    """What came before the last webhook of a source that verified."""

    last_good: datetime | None
    #: How many did not verify in the day before that one.
    wrong_before: int


@dataclass(frozen=True, slots=True)
class Silence:
    """A source of which nothing has come for a while, but did before."""

    #: The minutes in which something came, the oldest first.
    arrivals: Sequence[datetime]
    #: Minutes since the last of them in which somebody would have heard it.
    watched: int


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """A process that has given a sign of life lately."""

    #: As people look for it.
    shown: str
    works: bool
    serves: bool


@dataclass(frozen=True, slots=True)
class Start:
    """When a release with one wiring was first seen."""

    at: datetime
    release: str
    #: Something else had been running before.
    replaced_another: bool


@dataclass(frozen=True, slots=True)
class Unhandled:
    """Deliveries of one event type that no handler took."""

    source: str
    event_type: str
    number: int
    first: datetime
    last: datetime
    #: The handler that takes this event type now.
    handler: str | None = None
    #: The event type that was most likely meant, of those that handlers take; None if none is similar.
    likely: str | None = None


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What comparing a source with its mirror came to."""

    source: str
    at: datetime
    compared: int
    wrong: int
    #: Where that is known: event types whose loss explains the difference.
    missing: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything at one moment."""

    now: datetime
    sources: Mapping[str, SourceFacts] = field(default_factory=dict)
    #: Of the last hour, by the minute.
    recent: Sequence[Tallied] = ()
    signatures: Mapping[str, SignatureHistory] = field(default_factory=dict)
    #: Of those of which nothing came in the last minutes.
    silences: Mapping[str, Silence] = field(default_factory=dict)
    processes: Sequence[RunningProcess] = ()
    starts: Sequence[Start] = ()
    faults: Sequence[Fault] = ()
    oldest_due_seconds: float = 0.0
    max_backlog_seconds: float = 300.0
    max_body_bytes: int = 1_048_576
    #: Kept refused requests, by source.
    kept: Mapping[str, int] = field(default_factory=dict)
    #: Of the last day; and those of the last month that a handler takes now, and that were not replayed.
    unhandled: Sequence[Unhandled] = ()
    wanted: Sequence[Unhandled] = ()
    reconciles: Sequence[Reconciled] = ()

    def tallied(
        self, source: str | None, kind: str, details: Collection[str] | None = None, *, within: timedelta = RECENT
    ) -> list[Tallied]:
        """The tallies of this kind within a time, the oldest first; of any source for None."""
        return [
            each
            for each in self.recent
            if each.kind == kind
            and source in (None, each.source)
            and (details is None or each.detail in details)
            and self.now - within < each.at <= self.now
        ]

    @property
    def is_steady(self) -> bool:
        """Whether processes have been there for some minutes: else it says nothing that something is missing."""
        return len({each.at for each in self.tallied("", RUNNING, within=STEADY)}) >= STEADY_MINUTES


def total(tallies: Sequence[Tallied]) -> int:
    """How often it happened."""
    return sum(each.number for each in tallies)
