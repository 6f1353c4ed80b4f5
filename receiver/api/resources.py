"""The resources of the API, and the parts of a process that they read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from receiver.api.actions import Actions
from receiver.api.ask import SourceQuestions
from receiver.api.attempts import Attempts
from receiver.api.catalog import Catalog
from receiver.api.changes import ChangeFeed
from receiver.api.deliveries import Deliveries
from receiver.api.errands import Errands
from receiver.api.findings import Findings
from receiver.api.followers import Followers
from receiver.api.lookup import Lookup
from receiver.api.operations import Operation
from receiver.api.plans import Plans
from receiver.api.probes import Probes
from receiver.api.processes import Processes
from receiver.api.provenance import Provenance
from receiver.api.refused import RefusedRequests
from receiver.api.runs import Runs
from receiver.api.search import Search
from receiver.api.sessions import ConsoleSessions
from receiver.api.sources import Sources
from receiver.api.stats import Counts, Stats
from receiver.api.system import InstallationFacts, System
from receiver.findings.gathering import Facts
from receiver.inbox.inbox import Inbox
from receiver.mirror.rows import tables_by_name
from receiver.provenance.why import Explain, explainer
from receiver.runs.runs import Verbs
from receiver.runs.schedule import ReconcileStatus
from receiver.search.cursors import Cursors
from receiver.worker.processes import Wiring


class Resource(Protocol):
    """A group of operations on one noun."""

    def operations(self) -> Sequence[Operation]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """The parts of a process that the resources use."""

    #: A database with connections for the simultaneous reads, whose statements are bounded in time.
    inbox: Inbox
    sources: list[str]
    cursors: Cursors
    page_bytes: int
    #: Returns the facts for the rules of findings, from the settings in force.
    facts: Facts
    #: Called when there is new work for the worker of this process.
    wake: Callable[[], None]
    wiring: Wiring
    #: Called when a run was planned, started or resumed, for the feeders of this process.
    feed: Callable[[], None] = lambda: None
    #: The probes of a process that serves the API; None in a command, which only reads the database.
    probes: Probes | None = None
    #: Returns the reconcile status of sources.
    reconciles: Callable[[datetime], Sequence[ReconcileStatus]] = lambda _: ()
    #: Asks the sources' own APIs.
    questions: SourceQuestions | None = None
    #: Sends requests to other processes and to addresses of sources.
    errands: Errands | None = None
    #: The facts that the process knows about the installation.
    installation: InstallationFacts = field(default_factory=InstallationFacts)
    #: The time after which an unused session of the console ends.
    session_idle: timedelta = timedelta(hours=1)
    #: Explains rows.
    explain: Explain = field(default_factory=lambda: explainer({}))

    def resources(self) -> tuple[Resource, ...]:
        """All resources, in the order of the document."""
        tables, database = tables_by_name(), self.inbox.database
        questions = self.questions or SourceQuestions(database, dict)
        verbs = Verbs(database, self.wiring)
        lookup = Lookup(database, self.sources, page_bytes=self.page_bytes, cursors=self.cursors)
        counts = Counts(database, self.sources, reconciles=self.reconciles)
        return (
            *([self.probes] if self.probes is not None else []),
            Deliveries(lookup, self.inbox, wake=self.wake),
            Attempts(lookup, self.inbox, wake=self.wake),
            # Before the rows, whose ids may contain slashes.
            Provenance(lookup, tables, self.explain),
            Catalog(lookup, tables),
            questions,
            ChangeFeed(lookup, tables),
            Followers(lookup),
            Search(lookup, tables),
            Runs(lookup, verbs, feed=self.feed),
            Plans(lookup, verbs, questions.sources, feed=self.feed),
            Actions(lookup),
            Stats(counts),
            Sources(lookup, self.facts, counts),
            self.errands or Errands(database, dict),
            Processes(lookup),
            System(lookup, self.installation),
            Findings(lookup, self.facts),
            ConsoleSessions(lookup, idle=self.session_idle),
            RefusedRequests(lookup, self.inbox, self.facts, wake=self.wake),
        )
