"""Run kinds: the protocol between a feeder and a kind of run, such as replay or prune.

A kind works in steps, each of which leaves a mark from which the next continues. A step may do I/O first, and then
commits its effect, its mark and its progress in one transaction, so that a kill at any point costs at most one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection

from receiver.database.damage import damage_of
from receiver.errors import ConfigurationError
from receiver.runs.tables import RunState


class RunView(NamedTuple):
    """A run as its kind sees it."""

    id: int
    state: RunState
    sources: Sequence[str]
    #: The arguments of the request that planned the run.
    arguments: Mapping[str, Any]
    #: The mark at which this step continues; None at the first step of the plan and of the run.
    mark: Any
    total: int
    done: int
    tally: Mapping[str, int]


def refuse_damaged(run: RunView) -> None:
    """Raise `ConfigurationError` if the work of the run is unknown, because its row was edited by hand."""
    for name, value in (("sources", run.sources), ("arguments", run.arguments), ("mark", run.mark)):
        if (damage := damage_of(value)) is not None:
            raise ConfigurationError(f"The {name} of run {run.id} cannot be read. {damage}")


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress that one step made, committed together with its effect."""

    #: The mark at which the next step continues, as a JSON value.
    mark: Any
    #: The number of deliveries or rows that the step finished.
    done: int = 0
    #: Their numbers by outcome, which are added to the run's tally.
    tally: Mapping[str, int] = field(default_factory=dict)
    #: The total number of deliveries or rows; None for no change.
    total: int | None = None
    #: The sources that the run concerns; None for no change.
    sources: Sequence[str] | None = None
    #: Whether this was the last step of the plan or of the run.
    is_last: bool = False
    #: Seconds until the next step has something to do.
    wait: float = 0.0
    #: The reason why the run does not progress, as a sentence; with the last step, what the run left undone. None while
    #: all is well.
    trouble: str | None = None


#: The lease of a step that uses only the database.
SHORT_LEASE = timedelta(minutes=2)


class OnDatabase:
    """Base class of the kinds whose steps use only the database."""

    lease = SHORT_LEASE

    def can_take(self, _: Sequence[str], /) -> bool:
        return True

    def forget(self, run: int) -> None:
        """Do nothing: such kinds keep nothing in memory."""


class RunLease(Protocol):
    """The lease of one feeder on a run, through which a kind reads it and commits."""

    @property
    def run(self) -> RunView:
        """The run as of the last commit."""

    @property
    def now(self) -> datetime:
        """The time by the feeder's clock."""

    @property
    def must_show_life(self) -> bool:
        """Whether an idle step should commit, so that the lease is renewed before another feeder takes the run."""

    def renewing(self) -> AbstractContextManager[None]:
        """Renew the lease again and again during the block, which only reads and may take longer than the lease."""

    def commit(self, work: Callable[[Connection], Progress]) -> Progress:
        """Run `work` and store the progress that it returns, in one write transaction.

        `work` is called again if the database aborts the transaction. Raises `RunTaken`, and rolls `work` back, if the
        run was paused, cancelled or taken over in the meantime.
        """


class RunKind(Protocol):
    """The code of one kind of run, which a feeder calls step by step."""

    @property
    def name(self) -> str:
        """The kind's name in commands and the API."""

    @property
    def lease(self) -> timedelta:
        """The longest duration of a step, after which another process may take the run."""

    def can_take(self, sources: Sequence[str], /) -> bool:
        """Whether this process can work on a run of these sources."""

    def forget(self, run: int) -> None:
        """Drop the state of the run that is kept in memory."""

    def plan(self, held: RunLease) -> Progress:
        """Do one step of the plan: freeze a part of the set, or forecast. Changes no delivery and no row."""

    def step(self, held: RunLease) -> Progress:
        """Do one step of the run, giving way to live work. Raises the errors of the source's API and the database."""
