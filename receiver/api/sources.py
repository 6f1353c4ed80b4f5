"""Sources over HTTP: their health, their settings without secrets, and the handlers of their event types."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import chain
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

from msgspec import Meta
from msgspec.structs import asdict, replace
from sqlalchemy import Connection

from receiver.api.findings import FindingShown, show_standing
from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Question
from receiver.api.parameters import SOURCE
from receiver.api.stats import Counts, SourceReconcile, SourceStatistics
from receiver.api.tokens import Scope
from receiver.dialects.sources import Source
from receiver.errors import BadRequest, NotFound, Unavailable
from receiver.findings import tallies
from receiver.findings.counting import ENDS, ENDS_ON_ARRIVAL, SECRET_USED
from receiver.findings.gathering import Facts
from receiver.findings.past_hours import PastHours
from receiver.findings.secret_uses import last_use_of_removed, secrets_since
from receiver.findings.standing import standing
from receiver.findings.tallies import SourceTotal, Tallied
from receiver.inbox.tables import State
from receiver.ingest.paths import HOOKS_PATH
from receiver.logs.safe_text import whole_sentence
from receiver.schemas import Moment, Shape
from receiver.verify.secret_marks import all_marks, present_marks

LISTED_AT = "/api/v1/sources"

#: The periods of the counts: for the list of all sources, and for one source.
LIST_COUNTS, SOURCE_COUNTS = timedelta(hours=1), timedelta(days=1)

#: The period for which event types without a handler are searched.
UNHANDLED_SINCE = timedelta(days=30)

#: The settings that are shown. All others are hidden, so that a new setting cannot reveal a secret by mistake.
SHOWN_SETTINGS = (
    *("dialect", "allow_unsigned", "cipher", "registered_url", "api_url", "api_lag_seconds", "reconcile"),
    "secrets_file",
)

_COUNTED = ("accepted", "duplicate", "refused", ENDS, ENDS_ON_ARRIVAL, "failed_attempt", "verified", SECRET_USED)


class Health(StrEnum):
    """The health of a source; unknown without any delivery."""

    WELL = "well"
    UNWELL = "unwell"
    UNKNOWN = "unknown"


#: The positions of what no secret in the settings verified.
REMOVED, UNSIGNED = "removed", "unsigned"


class SecretUse(Shape, frozen=True):
    """The number of webhooks that a secret verified; the secret itself is not shown."""

    position: Annotated[
        str,
        Meta(
            description="The position in the settings, 0 for the newest; `removed` for all secrets that the settings "
            "no longer have; or `unsigned`."
        ),
    ]
    verified: int
    last_at: Annotated[Moment | None, Meta(description="The minute of the last one, as far as it was searched for.")]
    configured: Annotated[bool, Meta(description="Whether the settings have this secret.")]
    mark: Annotated[str, Meta(description="A keyed digest by which its uses are counted; empty for several or none.")]
    former_marks: Annotated[
        list[str], Meta(description="Its marks by older secret keys that the settings still have; they count, too.")
    ]


class SourceShown(Shape, frozen=True):
    """A source and its health."""

    source: str
    dialect: Annotated[str | None, Meta(description="Null for a source that is not in the settings.")]
    health: Health
    says: Annotated[str, Meta(description="The health in one sentence.")]
    counted_from: Annotated[Moment, Meta(description="The beginning of the period that is counted.")]
    came: Annotated[int, Meta(description="Webhooks that were accepted, duplicates included.")]
    refused: int
    failed: Annotated[int, Meta(description="Attempts that failed.")]
    died: Annotated[int, Meta(description="Deliveries that ended as dead, on arrival or later.")]
    pending: Annotated[int, Meta(description="Unfinished deliveries.")]
    processing: Annotated[int, Meta(description="Those of the unfinished ones that a worker has claimed.")]
    dead: Annotated[int, Meta(description="All dead deliveries.")]
    backlog_counted_at: Annotated[Moment, Meta(description="The time at which pending and dead ones were counted.")]
    last_delivery_at: Moment | None
    oldest_pending_seconds: float | None
    freshness_seconds: Annotated[
        float | None,
        Meta(description="Of the newest processed delivery: from its change to its first processing."),
    ]
    secrets: list[SecretUse]
    reconcile: SourceReconcile | None
    findings: list[FindingShown]


class EventTypeHandler(Shape, frozen=True):
    """The handler of an event type or of a family of them."""

    event_type: str
    handler: str


class EventTypeIgnored(Shape, frozen=True):
    """An event type whose deliveries were ignored because it had no handler."""

    event_type: str
    number: int
    first: Moment
    last: Moment
    handler: Annotated[str | None, Meta(description="Its present handler; null without one.")]


class WholeSource(SourceShown, frozen=True):
    """A source with its settings and event types."""

    address: Annotated[str, Meta(description="The path of the address to give to the sender.")]
    settings: Annotated[dict[str, Any], Meta(description="Without secrets.")]
    secrets_since: Annotated[
        Moment | None, Meta(description="The minute since which it has its present secrets; null without secrets.")
    ]
    can_list: Annotated[bool, Meta(description="Whether it can be reconciled.")]
    handlers: list[EventTypeHandler]
    ignored: Annotated[list[EventTypeIgnored], Meta(description="Of the last 30 days.")]


class AllSources(Shape, frozen=True):
    items: list[SourceShown]


class Sources:
    """Lists and shows sources: `/api/v1/sources`."""

    def __init__(self, lookup: Lookup, facts: Facts, counts: Counts) -> None:
        self._database = lookup.database
        self._facts = facts
        self._counts = counts
        #: The past hours of each source, which the process has read.
        self._past_hours = PastHours()

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="list_sources",
                path=LISTED_AT,
                summary="The health of each source, with its counts of webhooks and failures",
                answer=self.list_sources,
                answers={200: AllSources},
                scope=Scope.READ,
                refusals=(BadRequest, Unavailable),
            ),
            Operation(
                name="show_source",
                path="/api/v1/sources/{source}",
                summary="One source, with its settings without secrets and the handlers of its event types",
                answer=self.show_source,
                answers={200: WholeSource},
                scope=Scope.READ,
                parameters=(SOURCE,),
                refusals=(BadRequest, NotFound, Unavailable),
            ),
        ]

    def list_sources(self, _: Question) -> AllSources:
        now = datetime.now(UTC)
        found, since = self._counts.per_source(now=now, brief=True), now - LIST_COUNTS
        with self._database.read() as connection:
            counted = tallies.totals(connection, [each.source for each in found], _COUNTED, since, now)
        return AllSources(self._shown(found, counted, since, now))

    def show_source(self, asked: Question) -> WholeSource:
        """Show one source. Raises `NotFound` if it is neither in the settings nor has a backlog."""
        now, name = datetime.now(UTC), asked[SOURCE] or ""
        found = self._counts.per_source(now=now, brief=True, only=name)
        if not found:
            raise NotFound(f"There is no source {name[:64]!r}: `{LISTED_AT}` lists them.", names=(LISTED_AT,))
        since = tallies.beginning(now - SOURCE_COUNTS, tallies.HOUR)
        with self._database.read() as connection:
            hours = self._past_hours.by_kind(connection, [name], _COUNTED, since, now)
        [shown] = self._shown(found, _summed(name, hours), since, now)
        source = self._facts.sources.get(name)
        marks = [] if source is None else sorted(present_marks(source.credentials))
        with self._database.read() as connection:
            secrets = [_with_last(connection, name, each, marks, now) for each in shown.secrets]
            began = {} if source is None else secrets_since(connection, {name: source}, now)
            ignored = _ignored(connection, name, source, now)
        return WholeSource(
            **{**asdict(shown), "secrets": secrets},
            address=f"{HOOKS_PATH}{name}",
            settings={} if source is None else harmless_settings(source),
            secrets_since=began.get(name),
            can_list=source is not None and source.can_list(),
            handlers=[] if source is None else _handlers(source),
            ignored=ignored,
        )

    def _shown(
        self, found: Sequence[SourceStatistics], counted: Sequence[SourceTotal], since: datetime, now: datetime
    ) -> list[SourceShown]:
        findings: dict[str, list[FindingShown]] = defaultdict(list)
        for need in standing(self._database, self._facts, now=now).items:
            findings[need.source].append(show_standing(need))
        totals: dict[str, list[SourceTotal]] = defaultdict(list)
        for total in counted:
            totals[total.source].append(total)
        return [self._one(each, findings[each.source], totals[each.source], since) for each in found]

    def _one(
        self,
        each: SourceStatistics,
        findings: list[FindingShown],
        own: Sequence[SourceTotal],
        since: datetime,
    ) -> SourceShown:
        source = self._facts.sources.get(each.source)
        health, says = _health(each, findings, is_known=source is not None)
        return SourceShown(
            source=each.source,
            dialect=None if source is None else source.dialect.name,
            health=health,
            says=says,
            counted_from=since,
            came=_sum(own, "accepted") + _sum(own, "duplicate"),
            refused=_sum(own, "refused"),
            failed=_sum(own, "failed_attempt"),
            died=sum(
                total.number
                for total in own
                if total.kind in (ENDS, ENDS_ON_ARRIVAL) and total.detail.startswith(State.DEAD)
            ),
            pending=each.states[State.PENDING] + each.states[State.PROCESSING],
            processing=each.states[State.PROCESSING],
            dead=each.states[State.DEAD],
            backlog_counted_at=each.counted_at,
            last_delivery_at=each.last_delivery_at,
            oldest_pending_seconds=each.oldest_pending_seconds,
            freshness_seconds=each.freshness_seconds,
            secrets=_secrets(source, own),
            reconcile=each.reconcile,
            findings=findings,
        )


def _health(each: SourceStatistics, findings: Sequence[FindingShown], *, is_known: bool) -> tuple[Health, str]:
    if findings:
        more = f" And {len(findings) - 1} more." if len(findings) > 1 else ""
        return Health.UNWELL, f"{whole_sentence(findings[0].says)}{more}"
    if not is_known:
        has = "unfinished" if each.states[State.PENDING] or each.states[State.PROCESSING] else "dead"
        return Health.UNWELL, f"It is not in the settings, and has {has} deliveries."
    if each.last_delivery_at is None:
        return Health.UNKNOWN, "Nothing came yet."
    return Health.WELL, "Nothing needs you."


def _summed(name: str, hours: Sequence[Tallied]) -> list[SourceTotal]:
    """The sums of these hours of one source, by kind and detail."""
    numbers: dict[tuple[str, str], int] = defaultdict(int)
    for each in hours:
        numbers[each.kind, each.detail] += each.number
    return [SourceTotal(name, kind, detail, number, None) for (kind, detail), number in numbers.items()]


def _sum(totals: Sequence[SourceTotal], kind: str) -> int:
    return sum(each.number for each in totals if each.kind == kind)


def _secrets(source: Source | None, totals: Sequence[SourceTotal]) -> list[SecretUse]:
    """The use of each secret in the order of the settings, then of those that are not in the settings."""
    used = {each.detail: each for each in totals if each.kind == SECRET_USED}
    by_key = [] if source is None else list(all_marks(source.credentials))
    shown = [
        _use(str(place), [used[mark] for mark in dict.fromkeys(marks) if mark in used], marks=marks)
        for place, marks in enumerate(zip(*by_key, strict=True))
    ]
    known = frozenset(chain.from_iterable(by_key))
    removed = [each for mark, each in used.items() if mark not in known]
    unsigned = [each for each in totals if each.kind == "verified" and each.detail == UNSIGNED]
    return shown + [_use(said, some) for said, some in ((REMOVED, removed), (UNSIGNED, unsigned)) if some]


def _use(position: str, totals: Sequence[SourceTotal], *, marks: Sequence[str] = ()) -> SecretUse:
    """The use of the secret with these marks, the newest key's first; without marks it is not in the settings."""
    last = max((each.last for each in totals if each.last is not None), default=None)
    number = sum(each.number for each in totals)
    return SecretUse(position, number, last, bool(marks), "".join(marks[:1]), list(marks[1:]))


def _with_last(connection: Connection, source: str, use: SecretUse, others: Sequence[str], now: datetime) -> SecretUse:
    """Find the last minute of use in all kept tallies, if the period of the count has none."""
    if use.position == UNSIGNED:
        last = tallies.last(connection, source, "verified", now, details=[UNSIGNED])
    elif use.position == REMOVED:
        last = last_use_of_removed(connection, source, others, now)
    else:
        last = tallies.last(connection, source, SECRET_USED, now, details=[use.mark, *use.former_marks])
    return replace(use, last_at=use.last_at or last)


def harmless_settings(source: Source) -> dict[str, Any]:
    """The settings of the source without secrets; addresses lack the parts that may hold a secret."""
    given = source.settings.model_dump(mode="json", include=set(SHOWN_SETTINGS))
    return {
        name: _without_secrets(given[name]) if name.endswith("_url") else given[name]
        for name in SHOWN_SETTINGS
        if given.get(name) is not None and (name != "cipher" or _is_encrypted(source))
    }


def _is_encrypted(source: Source) -> bool:
    """Whether the setting `cipher` means anything for the source; with another dialect, only its default is allowed."""
    return source.settings.app_key is not None or source.settings.cipher != "auto"


def _without_secrets(url: str) -> str:
    """The URL without user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _handlers(source: Source) -> list[EventTypeHandler]:
    found = [EventTypeHandler(each.pattern.text, each.name) for each in source.dialect.handlers]
    return sorted(found, key=lambda each: each.event_type)


def _ignored(connection: Connection, name: str, source: Source | None, now: datetime) -> list[EventTypeIgnored]:
    rows = tallies.details(connection, [name], "unhandled", now - UNHANDLED_SINCE, now)
    handlers = [None if source is None else source.dialect.handler_for(row.detail) for row in rows]
    names = [None if handler is None else handler.name for handler in handlers]
    return [
        EventTypeIgnored(row.detail, row.number, row.first, row.last, named)
        for row, named in zip(rows, names, strict=True)
    ]
