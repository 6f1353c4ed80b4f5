"""The resources of the API, and the parts of a process that they read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from receiver.api.actions import Actions
from receiver.api.ask import SourceQuestions
from receiver.api.catalog import Catalog
from receiver.api.changes import ChangeFeed
from receiver.api.deliveries import Deliveries
from receiver.api.exposition import Exposition
from receiver.api.findings import Findings
from receiver.api.lookup import Lookup
from receiver.api.operations import Operation
from receiver.api.probes import Probes
from receiver.api.processes import Processes
from receiver.api.provenance import Provenance
from receiver.api.readiness import Readiness
from receiver.api.reads import Reads
from receiver.api.refused import RefusedRequests
from receiver.api.runs import Runs
from receiver.api.search import Search
from receiver.api.stats import Counts, Stats
from receiver.findings.gathering import Facts
from receiver.inbox.inbox import Inbox
from receiver.mirror.rows import mirror_tables
from receiver.provenance.why import Explain, explainer
from receiver.reconcile.schedule import ReconcileStatus
from receiver.runs.runs import Verbs
from receiver.search.cursors import Cursors
from receiver.worker.processes import Wiring


class Resource(Protocol):
    """One thing that can be asked about over HTTP."""

    def operations(self) -> Sequence[Operation]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """The parts of a process that the resources ask."""

    #: With connections of its own, as many as may read at once, whose statements end in time.
    inbox: Inbox
    sources: list[str]
    cursors: Cursors
    page_bytes: int
    readiness: Readiness
    exposition: Exposition
    measuring: Reads
    #: What the rules of findings are told of the settings in force.
    facts: Facts
    #: Called when there is new work for the worker of this process.
    wake: Callable[[], None]
    wiring: Wiring
    #: What `/readyz` warns of.
    warnings: Callable[[], list[str]] = list
    #: How the reconciles of the sources stand.
    reconciles: Callable[[datetime], Sequence[ReconcileStatus]] = lambda _: ()
    #: Ask the sources' own APIs.
    questions: SourceQuestions | None = None
    #: Tells why a row is as it is.
    explain: Explain = field(default_factory=lambda: explainer({}))

    def resources(self) -> tuple[Resource, ...]:
        """All resources, in the order of the document."""
        tables, database = mirror_tables(), self.inbox.database
        lookup = Lookup(database, self.sources, page_bytes=self.page_bytes, cursors=self.cursors)
        return (
            Probes(self.readiness, self.exposition, measuring=self.measuring, warnings=self.warnings),
            Deliveries(lookup, self.inbox, wake=self.wake),
            # Before the rows, whose ids may hold slashes.
            Provenance(lookup, tables, self.explain),
            Catalog(lookup, tables),
            self.questions or SourceQuestions(database, dict),
            ChangeFeed(lookup, tables),
            Search(lookup, tables),
            Runs(lookup, Verbs(database, self.wiring)),
            Actions(lookup),
            Stats(Counts(database, self.sources, reconciles=self.reconciles)),
            Processes(lookup),
            Findings(lookup, self.facts),
            RefusedRequests(lookup, self.inbox, self.facts, wake=self.wake),
        )
