"""Findings, faults and tallies over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta

from receiver.api.actions import IDEMPOTENCY_KEY, WHY, asked_by
from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.parameters import LIMIT, SOURCE, flag, moment, one_of, plain_text
from receiver.api.tokens import Scope
from receiver.database.database import Database
from receiver.errors import BadRequest, KeyUsed, NotFound, ReasonWanted, Unavailable
from receiver.findings import record, tallies
from receiver.findings.circumstances import circumstances
from receiver.findings.faults import Fault
from receiver.findings.gathering import Facts, read_faults
from receiver.findings.standing import Standing, history, standing
from receiver.schemas import Moment, Shape

# ── schemas ───────────────────────────────────────────────────────────────────────────────────────────────────────


class FindingShown(Shape, frozen=True):
    """A finding with its record."""

    id: Annotated[str, Meta(description="Stable for as long as the rule finds the same condition.")]
    rule: str
    source: Annotated[str, Meta(description="Empty if it concerns no single source.")]
    since: Annotated[Moment, Meta(description="The time at which the condition began.")]
    says: str
    mend: Annotated[str, Meta(description="What to do.")]
    evidence: Annotated[dict[str, Any], Meta(description="Numbers, and `link`, an address of this API.")]
    opened_at: Annotated[Moment | None, Meta(description="Null for a finding that is not recorded yet.")]
    closed_at: Moment | None
    acknowledged_at: Moment | None
    acknowledged_by: str | None


class FindingList(Shape, frozen=True):
    items: list[FindingShown]
    examined_at: Annotated[
        Moment, Meta(description="The time of `items`: while many webhooks arrive, readers share them for a moment.")
    ]


class CircumstanceShown(Shape, frozen=True):
    """A change about the time at which a finding began."""

    at: Moment
    says: str
    link: Annotated[str | None, Meta(description="An address of this API that shows more.")]


class Occurrence(Shape, frozen=True):
    """A period for which a finding was open."""

    opened_at: Moment
    closed_at: Moment | None


class WholeFinding(FindingShown, frozen=True):
    """A finding with its circumstances, and the earlier periods for which it was open."""

    circumstances: Annotated[
        list[CircumstanceShown], Meta(description="Releases, runs and actions, the nearest first.")
    ]
    before: Annotated[list[Occurrence], Meta(description="Earlier periods for which it was open, the latest first.")]


class FaultShown(Shape, frozen=True):
    """Dead and failing deliveries with one cause."""

    id: str
    source: str
    cause: Annotated[str, Meta(description="The reason without its numbers, ids and quoted values.")]
    number: int
    dead: Annotated[int, Meta(description="The number of dead deliveries whose bodies have not expired.")]
    waiting: Annotated[int, Meta(description="The number of deliveries that wait for another attempt.")]
    first: Moment
    last: Moment
    next_attempt_at: Moment | None
    release: Annotated[str | None, Meta(description="The release that ran when it began, as far as that is known.")]
    delivery: Annotated[str, Meta(description="The ids of the newest deliveries.")]
    example: Annotated[str, Meta(description="The complete reason of one delivery.")]


class FaultList(Shape, frozen=True):
    items: list[FaultShown]


class TallyShown(Shape, frozen=True):
    """A tally of a minute or an hour, summed over all processes."""

    at: Moment
    source: str
    kind: str
    detail: str
    number: int
    amount: Annotated[
        float, Meta(description="A sum of amounts, for kinds that have them: seconds for `lag` and `freshness`.")
    ]


class TallyPage(Shape, frozen=True):
    items: list[TallyShown]
    next: Annotated[Moment | None, Meta(description="The `after` of the next page; null at the end.")]


def show_standing(each: Standing) -> FindingShown:
    """Format a finding for the API and the command."""
    return FindingShown(**each._asdict())


def show_finding(database: Database, facts: Facts, finding_id: str, *, now: datetime) -> WholeFinding:
    """Read and format one finding for the API and the command. Raises `NotFound` for an unknown id."""
    occurrences = history(database, facts, finding_id, now=now)
    if not occurrences:
        raise NotFound(
            f"There is no finding {finding_id[:64]!r}: `/api/v1/findings` lists them.", names=("/api/v1/findings",)
        )
    latest, *others = occurrences
    return WholeFinding(
        **latest._asdict(),
        circumstances=[CircumstanceShown(*each) for each in circumstances(database, latest.since)],
        before=[Occurrence(each.opened_at, each.closed_at) for each in others if each.opened_at is not None],
    )


def show_fault(fault: Fault) -> FaultShown:
    """Format a fault for the API and the command."""
    return FaultShown(
        id=fault.id,
        source=fault.source,
        cause=fault.cause,
        number=fault.number,
        dead=fault.dead,
        waiting=fault.waiting,
        first=fault.first,
        last=fault.last,
        next_attempt_at=fault.until,
        release=fault.release,
        delivery=str(fault.delivery),
        example=fault.example,
    )


# ── parameters ────────────────────────────────────────────────────────────────────────────────────────────────────


class Span(StrEnum):
    """The length of time that a tally covers."""

    MINUTE = "minute"
    HOUR = "hour"


SPANS: Mapping[Span, timedelta] = {Span.MINUTE: tallies.MINUTE, Span.HOUR: tallies.HOUR}

FINDING_ID = plain_text("id", "The id of a finding.")
ALL: Parameter[bool] = Parameter(
    "all", {"type": "boolean"}, "Also list closed findings, newest first, after the open ones.", flag("all"), False
)
KIND = plain_text("kind", "The kind, such as `accepted` or `refused`.")
SPAN: Parameter[Span] = Parameter(
    "span", {"type": "string", "enum": [*map(str, Span)]}, "Minutes or hours.", one_of(Span, "span"), Span.MINUTE
)


TALLIES_AFTER = moment("after", "From this time on; by default, the last hour.")


class Findings:
    """Lists findings, faults and tallies, and acknowledges findings."""

    def __init__(self, lookup: Lookup, facts: Facts) -> None:
        self._lookup = lookup
        self._database: Database = lookup.database
        self._facts = facts

    def operations(self) -> list[Operation]:
        return [*self._of_findings(), *self._of_numbers()]

    def _of_findings(self) -> list[Operation]:
        return [
            Operation(
                name="list_findings",
                path="/api/v1/findings",
                summary="The open findings, which need a person",
                answer=self.list_findings,
                answers={200: FindingList},
                scope=Scope.READ,
                parameters=(ALL,),
                refusals=(BadRequest, Unavailable),
            ),
            Operation(
                name="show_finding",
                path="/api/v1/findings/{id}",
                summary="One finding, with its circumstances and the earlier periods for which it was open",
                answer=self.show,
                answers={200: WholeFinding},
                scope=Scope.READ,
                parameters=(FINDING_ID,),
                refusals=(BadRequest, NotFound, Unavailable),
            ),
            Operation(
                name="acknowledge_finding",
                method="post",
                path="/api/v1/findings/{id}/acknowledge",
                summary="Acknowledge a finding until it closes",
                answer=self.acknowledge,
                answers={200: FindingShown},
                scope=Scope.OPERATE,
                parameters=(FINDING_ID, WHY, IDEMPOTENCY_KEY),
                refusals=(BadRequest, NotFound, KeyUsed, ReasonWanted, Unavailable),
            ),
        ]

    def _of_numbers(self) -> list[Operation]:
        return [
            Operation(
                name="list_faults",
                path="/api/v1/faults",
                summary="Dead and failing deliveries by cause, the largest first",
                answer=self.list_faults,
                answers={200: FaultList},
                scope=Scope.READ,
                parameters=(SOURCE,),
                refusals=(BadRequest, Unavailable),
            ),
            Operation(
                name="list_tallies",
                path="/api/v1/tallies",
                summary="Numbers of events by the minute or the hour",
                answer=self.list_tallies,
                answers={200: TallyPage},
                scope=Scope.READ,
                parameters=(SOURCE, KIND, SPAN, TALLIES_AFTER, LIMIT),
                refusals=(BadRequest, Unavailable),
            ),
        ]

    def list_findings(self, asked: Question) -> FindingList:
        found = standing(self._database, self._facts, now=datetime.now(UTC), closed=asked[ALL])
        return FindingList([show_standing(each) for each in found.items], found.examined_at)

    def show(self, asked: Question) -> WholeFinding:
        return show_finding(self._database, self._facts, asked[FINDING_ID] or "", now=datetime.now(UTC))

    def acknowledge(self, asked: Question) -> FindingShown:
        """Acknowledge a finding. Raises `NotFound` if no open finding has this id."""
        finding_id = asked[FINDING_ID] or ""
        request = asked_by(asked, "acknowledge finding", finding=finding_id)
        row = record.acknowledge(self._database, request, finding_id, now=datetime.now(UTC))
        if row is None:
            raise NotFound(
                "No finding with this id is open and recorded. It may have opened less than a minute ago, or others of "
                "its rule and source are recorded instead: acknowledge those, or try again when some have closed."
            )
        return show_standing(Standing.of(row))

    def list_faults(self, asked: Question) -> FaultList:
        source = self._lookup.source(asked[SOURCE])
        found: Sequence[Fault] = read_faults(self._database, now=datetime.now(UTC))
        return FaultList([show_fault(fault) for fault in found if source in (None, fault.source)])

    def list_tallies(self, asked: Question) -> TallyPage:
        """List tallies. Raises `BadRequest` for the name of an unknown source."""
        now, span, limit = datetime.now(UTC), SPANS[asked[SPAN]], asked[LIMIT]
        given = asked[TALLIES_AFTER]
        items, following = tallies.page(
            self._database,
            span=span,
            after=now - tallies.HOUR if given is None else given.at(now),
            until=now + span,
            source=asked[SOURCE],
            kind=asked[KIND],
            limit=limit,
        )
        if not items:
            # A source without deliveries and rows may have tallies.
            self._lookup.source(asked[SOURCE])
        return TallyPage([TallyShown(*each) for each in items], following)
