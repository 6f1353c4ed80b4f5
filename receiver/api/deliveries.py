"""Deliveries over HTTP: listed, shown, replayed."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import asdict
from sqlalchemy import RowMapping

from receiver.api.actions import KEY, WHY, asked_by
from receiver.api.listings import HORIZON, MATCHING, NEXT, LookedAt, Matching, show_count
from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.parameters import COUNT, CURSOR, LIMIT, SOURCE, flag, moment, one_of, plain_text
from receiver.api.tokens import Scope
from receiver.errors import BadRequest, BodyExpired, KeyUsed, NotEnded, NotFound, NotWaiting, ReasonWanted, Unavailable
from receiver.inbox.ids import arrived
from receiver.inbox.inbox import Inbox
from receiver.inbox.tables import LONGEST_REASON, State
from receiver.mirror.versions import Outcome
from receiver.moments import EPOCH
from receiver.runs.at_once import replay_at_once, try_now
from receiver.schemas import Moment, Shape
from receiver.search import deliveries
from receiver.search.asked import LONGEST_ENTITY, is_number
from receiver.search.deliveries import KeptDelivery
from receiver.search.filters import DeliveryFilter
from receiver.search.listing import Horizon

# ── what is answered ──────────────────────────────────────────────────────────────────────────────────────────


class Delivery(Shape, frozen=True):
    """One stored webhook."""

    id: Annotated[str, Meta(description="Grows with arrival. Text, because it is larger than a JavaScript number.")]
    source: str
    event_type: Annotated[str | None, Meta(description="Null where the body could not be read.")]
    occurred_at: Annotated[Moment | None, Meta(description="The time of the change, at the source.")]
    received_at: Moment
    state: State
    outcome: Annotated[Outcome | None, Meta(description="What it did to the mirror, once processed.")]
    reason: Annotated[str | None, Meta(description="Why it is dead, ignored, or waits for another attempt.")]
    ended_at: Moment | None
    entity: Annotated[
        str | None, Meta(description="Kind and id, as in `product:A1`; null where the body could not be read.")
    ]
    attempts_made: Annotated[int, Meta(description="Since it was accepted or replayed.")]
    next_attempt_at: Annotated[Moment | None, Meta(description="While it is pending.")]
    duplicates: Annotated[int, Meta(description="How often the sender sent it again.")]
    conflict: Annotated[bool, Meta(description="Whether its dedup key was used for another body before.")]
    dedup_key: str
    secret: Annotated[
        int | None,
        Meta(description="Which secret verified it, from 0, newest first; null for an unsigned one."),
    ]


class Attempt(Shape, frozen=True):
    """An attempt that failed."""

    number: int
    ended_at: Moment
    worker: str
    reason: str


class RoundAttempt(Shape, frozen=True):
    """An attempt, failed or not."""

    number: int
    ended_at: Moment
    failed: bool
    reason: Annotated[str | None, Meta(description="Why it failed.")]
    worker: str
    release: Annotated[str | None, Meta(description="The release of Hookmirror that ran it.")]
    handler: Annotated[str | None, Meta(description="`module.function`; null where no handler was reached.")]
    hydrate_ms: Annotated[
        float | None, Meta(description="Milliseconds that hydrating took; null where nothing was fetched.")
    ]
    handle_ms: Annotated[float | None, Meta(description="Milliseconds that the handler took; null where none ran.")]
    settle_ms: Annotated[float | None, Meta(description="Milliseconds that the transaction of its batch took so far.")]
    traceback: Annotated[str | None, Meta(description="Of the error, bounded.")]


class Round(Shape, frozen=True):
    """One way of a delivery from pending to its end."""

    number: Annotated[int, Meta(description="From 1, without gaps.")]
    cause: Annotated[str, Meta(description="What began it: `accepted`, `replay`, `duplicate` (of what was dead).")]
    run: Annotated[int | None, Meta(description="The run that began it.")]
    action: Annotated[int | None, Meta(description="The action that began it.")]
    began_at: Moment
    state: State
    outcome: Outcome | None
    reason: str | None
    ended_at: Annotated[Moment | None, Meta(description="Null while it has not ended.")]
    attempts: Annotated[list[RoundAttempt], Meta(description="Oldest first.")]


class WholeDelivery(Delivery, frozen=True):
    """One stored webhook with all that is kept about it."""

    headers: dict[str, str]
    body: Annotated[str | None, Meta(description="The bytes received; null after their retention.")]
    body_encoding: Literal["utf-8", "base64"] | None
    plain: Annotated[str | None, Meta(description="What an encrypted body decrypts to.")]
    attempts: Annotated[list[Attempt], Meta(description="The failed ones of all rounds, oldest first.")]
    rounds: Annotated[list[Round], Meta(description="Oldest first; at most the newest 1,000, and as many attempts.")]


class DeliveryHorizon(Shape, frozen=True):
    """How far back a list of deliveries has looked."""

    id: Annotated[str, Meta(description="The oldest delivery that was looked at.")]
    time: Annotated[Moment, Meta(description="When that one arrived.")]
    looked_at: LookedAt


class DeliveryPage(Shape, frozen=True):
    items: list[Delivery]
    next: Annotated[str | None, Meta(description=NEXT)]
    horizon: Annotated[DeliveryHorizon | UnsetType, Meta(description=HORIZON)] = UNSET
    matching: Annotated[Matching | UnsetType, Meta(description=MATCHING)] = UNSET


class Replayed(Shape, frozen=True):
    status: Literal["pending"]
    delivery: str


def show_delivery(row: RowMapping) -> Delivery:
    """A delivery as the API lists it."""
    return Delivery(
        id=str(row["id"]),
        source=row["source"],
        event_type=row["event_type"],
        occurred_at=row["occurred_at"],
        received_at=row["received_at"],
        state=row["state"],
        outcome=row["outcome"],
        reason=row["reason"],
        ended_at=row["ended_at"],
        entity=f"{row['entity_kind']}:{row['entity_id']}" if row["entity_kind"] is not None else None,
        attempts_made=row["attempts"],
        next_attempt_at=row["due_at"] if row["state"] == State.PENDING else None,
        duplicates=row["duplicates"],
        conflict=row["conflict"],
        dedup_key=row["dedup_key"],
        secret=row["secret"],
    )


def show_whole_delivery(found: KeptDelivery) -> WholeDelivery:
    """A delivery with its body, headers, rounds and attempts."""
    row = found.row
    body, encoding = _readable(row["body"])
    return WholeDelivery(
        **asdict(show_delivery(row)),
        headers=row["headers"] or {},
        body=body,
        body_encoding=encoding,
        plain=_readable(row["plain"])[0],
        attempts=[
            Attempt(number=each["number"], ended_at=each["ended_at"], worker=each["worker"], reason=each["reason"])
            for round_ in found.rounds
            for each in round_["attempts"]
            if each["failed"]
        ],
        rounds=[_show_round(round_) for round_ in found.rounds],
    )


def _show_round(kept: dict[str, Any]) -> Round:
    return Round(**{**kept, "attempts": [RoundAttempt(**each) for each in kept["attempts"]]})


def _readable(content: bytes | None) -> tuple[str | None, Literal["utf-8", "base64"] | None]:
    if content is None:
        return None, None
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return b64encode(content).decode(), "base64"


def _show_horizon(horizon: Horizon) -> DeliveryHorizon:
    (delivery_id,) = horizon.key
    moment = EPOCH + timedelta(microseconds=arrived(delivery_id))
    return DeliveryHorizon(str(delivery_id), moment, horizon.looked_at)


# ── what is asked ─────────────────────────────────────────────────────────────────────────────────────────────


def _delivery_id(text: str) -> int:
    if not is_number(text):
        raise NotFound(f"There is no delivery {text[:64]!r}.")
    return int(text)


ID = Parameter("id", {"type": "string"}, "The id of a delivery.", _delivery_id, 0)
STATE: Parameter[State | None] = Parameter(
    "state", {"type": "string", "enum": [*map(str, State)]}, "The state of a delivery.", one_of(State, "state"), None
)
EVENT_TYPE = plain_text("event_type", "Such as `product.updated`.")
ENTITY = plain_text("entity", "An id, or a kind and an id: `A1` or `product:A1`.", longest=LONGEST_ENTITY)
OUTCOME: Parameter[Outcome | None] = Parameter(
    "outcome",
    {"type": "string", "enum": [*map(str, Outcome)]},
    "What it did to the mirror.",
    one_of(Outcome, "outcome"),
    None,
)
REASON = plain_text("reason", "Text that occurs in the reason, letter for letter.", longest=LONGEST_REASON)
CONFLICT: Parameter[bool | None] = Parameter(
    "conflict", {"type": "boolean"}, "Whether its dedup key was used for another body before.", flag("conflict"), None
)
FROM = moment("from", "The time of arrival of the first.")
TO = moment("to", "The time of arrival that all of them are before.")

FILTERS = (SOURCE, STATE, OUTCOME, EVENT_TYPE, ENTITY, FROM, TO, REASON, CONFLICT)


class Deliveries:
    """The operations on deliveries."""

    def __init__(self, lookup: Lookup, inbox: Inbox, *, wake: Callable[[], None]) -> None:
        """`wake` is called when there is new work for the worker of this process."""
        self._lookup = lookup
        self._inbox = inbox
        self._wake = wake

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="list_deliveries",
                path="/api/v1/deliveries",
                summary="Deliveries, newest first",
                answer=self.list_deliveries,
                answers={200: DeliveryPage},
                scope=Scope.READ,
                parameters=(*FILTERS, CURSOR, LIMIT, COUNT),
                refusals=(BadRequest, Unavailable),
            ),
            Operation(
                name="show_delivery",
                path="/api/v1/deliveries/{id}",
                summary="One delivery, with headers, body and failed attempts",
                answer=self.show,
                answers={200: WholeDelivery},
                scope=Scope.READ,
                parameters=(ID,),
                refusals=(BadRequest, NotFound, Unavailable),
            ),
            *self._verbs(),
        ]

    def _verbs(self) -> list[Operation]:
        return [
            Operation(
                name="replay_delivery",
                method="post",
                path="/api/v1/deliveries/{id}/replay",
                summary="Send a delivery that is done through again",
                answer=self.replay,
                answers={202: Replayed},
                scope=Scope.OPERATE,
                parameters=(ID, WHY, KEY),
                refusals=(BadRequest, NotFound, NotEnded, BodyExpired, ReasonWanted, KeyUsed, Unavailable),
            ),
            Operation(
                name="try_delivery",
                method="post",
                path="/api/v1/deliveries/{id}/try",
                summary="Try a pending delivery now, which waits for its next attempt",
                answer=self.try_now,
                answers={202: Replayed},
                scope=Scope.OPERATE,
                parameters=(ID, WHY, KEY),
                refusals=(BadRequest, NotFound, NotWaiting, ReasonWanted, KeyUsed, Unavailable),
            ),
        ]

    def list_deliveries(self, asked: Question) -> DeliveryPage:
        wanted = self._wanted(asked)
        listed = self._lookup.listed_in("deliveries", wanted)
        bounds = self._lookup.bounds(self._lookup.cursors.read(listed, asked[CURSOR]), asked[LIMIT])
        page = deliveries.list_deliveries(self._lookup.database, wanted, show_delivery, bounds)
        return DeliveryPage(
            page.items,
            self._lookup.cursors.write(listed, page.next),
            UNSET if page.horizon is None else _show_horizon(page.horizon),
            show_count(deliveries.count_deliveries(self._lookup.database, wanted)) if asked[COUNT] else UNSET,
        )

    def _wanted(self, asked: Question) -> DeliveryFilter:
        return DeliveryFilter(
            source=self._lookup.source(asked[SOURCE]),
            state=asked[STATE],
            outcome=asked[OUTCOME],
            event_type=asked[EVENT_TYPE],
            entity=asked[ENTITY],
            begin=asked[FROM],
            end=asked[TO],
            reason=asked[REASON],
            conflict=asked[CONFLICT],
        )

    def show(self, asked: Question) -> WholeDelivery:
        return show_whole_delivery(self._found(asked[ID]))

    def replay(self, asked: Question) -> Replayed:
        """Make it pending again. Raises `NotEnded` while it is not done, and `BodyExpired`."""
        request = asked_by(asked, "replay", delivery=str(asked[ID]))
        if replay_at_once(self._inbox, request, [asked[ID]], now=datetime.now(UTC)):
            self._wake()
            return Replayed("pending", str(asked[ID]))
        if self._found(asked[ID]).row["body"] is None:
            raise BodyExpired("Its body has expired: reconcile the source instead.")
        raise NotEnded("This delivery is still being worked on: wait for its end.")

    def try_now(self, asked: Question) -> Replayed:
        """Let it wait no longer for its next attempt. Raises `NotWaiting` unless it does."""
        request = asked_by(asked, "try now", delivery=str(asked[ID]))
        if try_now(self._inbox, request, [asked[ID]], now=datetime.now(UTC)):
            self._wake()
            return Replayed("pending", str(asked[ID]))
        state = self._found(asked[ID]).row["state"]
        raise NotWaiting(f"This delivery is {state} and waits for no attempt: one that has ended is replayed instead.")

    def _found(self, delivery_id: int) -> KeptDelivery:
        found = deliveries.delivery(self._lookup.database, delivery_id)
        if found is None:
            raise NotFound(f"There is no delivery {delivery_id}.")
        return found
