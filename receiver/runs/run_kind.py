"""Run kinds: the protocol between a feeder and a kind of run, such as replay or prune.

A kind does its work in steps, each with a mark from which the next one goes on. A step may do I/O first, and then
commits once: its effect, its mark and its progress in one transaction, so that a kill at any point costs one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection

from receiver.runs.tables import RunState


class RunView(NamedTuple):
    """A run as its kind sees it."""

    id: int
    state: RunState
    sources: Sequence[str]
    #: What was asked for.
    arguments: Mapping[str, Any]
    #: Where this step goes on; None at the first one of the plan, and at the first one after the start.
    mark: Any
    total: int
    done: int
    tally: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Progress:
    """What one step did, committed together with its effect."""

    #: Where the next step goes on: a value that JSON has.
    mark: Any
    #: Deliveries or rows that came to their end in it.
    done: int = 0
    #: How they ended, added to the run's tally.
    tally: Mapping[str, int] = field(default_factory=dict)
    #: The whole number, where it is known by now.
    total: int | None = None
    #: Sources that the run is known to concern by now; None for no news.
    sources: Sequence[str] | None = None
    #: Whether this was the last step: of the plan, or of the run.
    is_last: bool = False
    #: Seconds until the next step has something to do.
    wait: float = 0.0
    #: Why the run does not move, for people; None while it does.
    trouble: str | None = None


#: How long a process may be silent in a step that only asks the database.
SHORT_LEASE = timedelta(minutes=2)


class OnDatabase:
    """What kinds have in common whose work is all in the database."""

    lease = SHORT_LEASE

    def can_take(self, _: Sequence[str], /) -> bool:
        return True

    def forget(self, run: int) -> None:
        """Nothing is kept."""


class RunLease(Protocol):
    """A run in the hands of one feeder."""

    @property
    def run(self) -> RunView:
        """As of the last commit."""

    @property
    def now(self) -> datetime:
        """The feeder's clock."""

    @property
    def must_show_life(self) -> bool:
        """Whether a step that finds nothing to do should commit all the same, so that no other feeder takes over."""

    def commit(self, work: Callable[[Connection], Progress]) -> Progress:
        """Run `work` in a transaction that writes, and keep the progress that it returns with it.

        It is run again where the database breaks the transaction off. Raises `RunTaken` if the run was paused,
        cancelled or taken over in the meantime: then nothing of `work` is kept.
        """


class RunKind(Protocol):
    """One kind of run."""

    @property
    def name(self) -> str:
        """As commands and the API call it."""

    @property
    def lease(self) -> timedelta:
        """How long a process may be silent in one step before another one takes the run."""

    def can_take(self, sources: Sequence[str], /) -> bool:
        """Whether this process can work on a run of these sources."""

    def forget(self, run: int) -> None:
        """Let go of what is kept in memory for the run."""

    def plan(self, held: RunLease) -> Progress:
        """One step of the plan: freeze a part of what the run will do, or forecast. Changes no delivery and no row."""

    def step(self, held: RunLease) -> Progress:
        """One step of the run, behind live work. Raises what the source's API or the database raises."""
