"""Deliveries over HTTP: lists, shows and replays them, and makes a pending one due."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import select

from receiver.api.actions import IDEMPOTENCY_KEY, WHY, asked_by
from receiver.api.delivery_shapes import Delivery, WholeDelivery, show_delivery, show_whole_delivery
from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.pages import (
    HORIZON,
    MATCHING,
    MOMENTS_MEANT,
    NEXT,
    LookedAt,
    Matching,
    count_beside,
    is_whole,
    show_count,
)
from receiver.api.parameters import COUNT, CURSOR, LIMIT, SOURCE, flag, moment, one_of, plain_text, relative_times
from receiver.api.tokens import Scope
from receiver.codec import decode
from receiver.database.snapshots import one_snapshot
from receiver.errors import BadRequest, BodyExpired, KeyUsed, NotEnded, NotFound, NotWaiting, ReasonWanted, Unavailable
from receiver.inbox.ids import arrived
from receiver.inbox.inbox import Inbox
from receiver.inbox.tables import DELIVERIES, LONGEST_REASON, State
from receiver.mirror.versions import Outcome
from receiver.moments import EPOCH
from receiver.runs.immediate_actions import replay_now, try_now
from receiver.schemas import Moment, Shape
from receiver.search import deliveries
from receiver.search.arguments import LONGEST_ENTITY, is_id, with_moments
from receiver.search.deliveries import KeptDelivery
from receiver.search.filters import DeliveryFilter
from receiver.search.pages import Count, FoundPage, Horizon
from receiver.search.windows import seconds_left

#: The most ids of deliveries in one request.
MOST_NAMED = 200

# ── schemas ───────────────────────────────────────────────────────────────────────────────────────────────────────


class DeliveryHorizon(Shape, frozen=True):
    """The delivery that the search of a list has reached."""

    id: Annotated[str, Meta(description="The oldest delivery that was examined.")]
    time: Annotated[Moment, Meta(description="The time at which that delivery arrived.")]
    looked_at: LookedAt


class DeliveryPage(Shape, frozen=True):
    items: list[Delivery]
    next: Annotated[str | None, Meta(description=NEXT)]
    horizon: Annotated[DeliveryHorizon | UnsetType, Meta(description=HORIZON)] = UNSET
    matching: Annotated[Matching | UnsetType, Meta(description=MATCHING)] = UNSET
    states: Annotated[
        dict[State, Matching] | UnsetType, Meta(description="Only with `states`: the same for each state.")
    ] = UNSET
    times: Annotated[dict[str, Moment] | UnsetType, Meta(description=MOMENTS_MEANT)] = UNSET


class Replayed(Shape, frozen=True):
    status: Literal["pending"]
    delivery: str
    waits: Annotated[str | UnsetType, Meta(description="Only if no worker takes it yet: the reason.")] = UNSET


def _show_horizon(horizon: Horizon) -> DeliveryHorizon:
    (delivery_id,) = horizon.key
    moment = EPOCH + timedelta(microseconds=arrived(delivery_id))
    return DeliveryHorizon(str(delivery_id), moment, horizon.looked_at)


# ── parameters ────────────────────────────────────────────────────────────────────────────────────────────────────


def no_delivery(text: str) -> NotFound:
    """The error about an id that no delivery has."""
    return NotFound(
        f"There is no delivery {text[:64]!r}: `/api/v1/deliveries` lists them.", names=("/api/v1/deliveries",)
    )


def _delivery_id(text: str) -> int:
    if not is_id(text):
        raise no_delivery(text)
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
    "The effect on the mirror.",
    one_of(Outcome, "outcome"),
    None,
)
REASON = plain_text("reason", "Text that the reason contains, case-sensitively.", longest=LONGEST_REASON)
#: The same for an action, whose `reason` is its own.
REASON_HAS = plain_text("reason_has", "Text that the delivery's reason contains.", longest=LONGEST_REASON)
CONFLICT: Parameter[bool | None] = Parameter(
    "conflict", {"type": "boolean"}, "Whether its dedup key was used for another body before.", flag("conflict"), None
)
DEDUP_KEY = plain_text(
    "dedup_key", "The sender's own id for the change, or the key made without one.", longest=LONGEST_ENTITY
)
FROM = moment("from", "Arrived at this time or later.")
TO = moment("to", "Arrived before this time.")
STATES: Parameter[bool | None] = Parameter(
    "states",
    {"type": "boolean"},
    "Also count the deliveries of each state that match the other filters.",
    flag("states"),
    None,
)

#: The parameter of each field of a `DeliveryFilter`. The plans, the console and the commands take the same ones.
DELIVERY_FILTERS: dict[str, Parameter[Any]] = {
    "source": SOURCE,
    "state": STATE,
    "outcome": OUTCOME,
    "event_type": EVENT_TYPE,
    "entity": ENTITY,
    "begin": FROM,
    "end": TO,
    "reason": REASON,
    "conflict": CONFLICT,
    "dedup_key": DEDUP_KEY,
}


def parse_ids(text: str) -> tuple[int, ...]:
    """Parse ids with commas between them. Raises `BadRequest` for anything else, and for too many."""
    words = [word.strip() for word in text.split(",")]
    wrong = next((word for word in words if not is_id(word)), None)
    if wrong is not None:
        raise BadRequest(f"`ids` takes ids of deliveries with commas between them, not {wrong[:64]!r}.", names=("ids",))
    if len(words) > MOST_NAMED:
        raise BadRequest(f"`ids` takes at most {MOST_NAMED} deliveries at once: give fewer.", names=("ids",))
    return tuple(sorted({int(word) for word in words}))


DELIVERY_IDS: Parameter[tuple[int, ...] | None] = Parameter(
    "ids", {"type": "string"}, f"Ids of deliveries with commas between them, at most {MOST_NAMED}.", parse_ids, None
)


def wanted_of(
    asked: Question, lookup: Lookup, filters: Mapping[str, Parameter[Any]], *, now: datetime
) -> DeliveryFilter:
    """Make the filter from the values of these parameters. Relative times count from `now`."""
    lookup.source(asked[SOURCE])
    given = {name: asked[parameter] for name, parameter in filters.items()}
    return DeliveryFilter(**with_moments(given, now))


class Deliveries:
    """Lists, shows and replays deliveries: `/api/v1/deliveries`."""

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
                parameters=(*DELIVERY_FILTERS.values(), CURSOR, LIMIT, COUNT, STATES),
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
                summary="Replay a finished delivery",
                answer=self.replay,
                answers={202: Replayed},
                scope=Scope.OPERATE,
                parameters=(ID, WHY, IDEMPOTENCY_KEY),
                refusals=(BadRequest, NotFound, NotEnded, BodyExpired, ReasonWanted, KeyUsed, Unavailable),
            ),
            Operation(
                name="try_delivery",
                method="post",
                path="/api/v1/deliveries/{id}/try",
                summary="Make the next attempt of a pending delivery due now",
                answer=self.try_now,
                answers={202: Replayed},
                scope=Scope.OPERATE,
                parameters=(ID, WHY, IDEMPOTENCY_KEY),
                refusals=(BadRequest, NotFound, NotWaiting, ReasonWanted, KeyUsed, Unavailable),
            ),
        ]

    def list_deliveries(self, asked: Question) -> DeliveryPage:
        with one_snapshot(self._lookup.database):
            return self._list(asked)

    def _list(self, asked: Question) -> DeliveryPage:
        as_of = self._lookup.as_of(asked[CURSOR])
        times = relative_times(asked, (FROM, TO), as_of)
        wanted = wanted_of(asked, self._lookup, DELIVERY_FILTERS, now=as_of)
        listed = self._lookup.listed_in("deliveries", wanted, as_of=as_of if times else None)
        bounds = self._lookup.bounds(self._lookup.cursors.read(listed, asked[CURSOR]), asked[LIMIT])
        database, began = self._lookup.database, time.monotonic()
        page = deliveries.list_deliveries(database, wanted, show_delivery, bounds)

        def count(seconds: float) -> Count:
            return deliveries.count_deliveries(database, wanted, seconds=seconds)

        is_first = asked[CURSOR] is None
        # Before the count, because the states share a small part of the time that is left.
        states = self._by_state(wanted, page, began, is_first=is_first) if asked[STATES] else UNSET
        return DeliveryPage(
            page.items,
            self._lookup.cursors.write(listed, page.next),
            UNSET if page.horizon is None else _show_horizon(page.horizon),
            count_beside(page, count, began=began, is_first=is_first) if asked[COUNT] else UNSET,
            states,
            times or UNSET,
        )

    def _by_state(
        self, wanted: DeliveryFilter, page: FoundPage, began: float, *, is_first: bool
    ) -> dict[State, Matching]:
        if wanted.state is None and is_whole(page, is_first=is_first):
            of_items = Counter(decode(bytes(item))["state"] for item in page.items)
            return {state: show_count(Count(of_items[state], False, page.horizon)) for state in State}
        seconds = min(deliveries.BY_STATE, seconds_left(began))
        counts = deliveries.count_by_state(self._lookup.database, wanted, seconds=seconds)
        return {state: show_count(each) for state, each in counts.items()}

    def show(self, asked: Question) -> WholeDelivery:
        return show_whole_delivery(self._found(asked[ID]))

    def replay(self, asked: Question) -> Replayed:
        """Replay a delivery. Raises `NotEnded` while it is unfinished, and `BodyExpired`."""
        request, waits = asked_by(asked, "replay", delivery=str(asked[ID])), self._waits(asked[ID])
        if replay_now(self._inbox, request, [asked[ID]], now=datetime.now(UTC)):
            self._wake()
            return Replayed("pending", str(asked[ID]), waits)
        if self._found(asked[ID]).row["body"] is None:
            raise BodyExpired("Its body has expired: reconcile the source instead.")
        raise NotEnded("This delivery is unfinished: wait for its end.")

    def try_now(self, asked: Question) -> Replayed:
        """Make the next attempt of a delivery due now. Raises `NotWaiting` if the delivery does not wait for one."""
        request, waits = asked_by(asked, "try now", delivery=str(asked[ID])), self._waits(asked[ID])
        if try_now(self._inbox, request, [asked[ID]], now=datetime.now(UTC)):
            self._wake()
            return Replayed("pending", str(asked[ID]), waits)
        state = self._found(asked[ID]).row["state"]
        raise NotWaiting(f"This delivery is {state} and waits for no attempt: replay a finished delivery instead.")

    def _waits(self, delivery_id: int) -> str | UnsetType:
        """Why no worker takes the delivery, or unset."""
        with self._lookup.database.read() as connection:
            source = connection.execute(select(DELIVERIES.c.source).where(DELIVERIES.c.id == delivery_id)).scalar()
        if source is None or source in self._lookup.sources:
            return UNSET
        return f"Its source {source!r} is not in the settings, so no worker takes it until the source is there again."

    def _found(self, delivery_id: int) -> KeptDelivery:
        found = deliveries.delivery(self._lookup.database, delivery_id)
        if found is None:
            raise no_delivery(str(delivery_id))
        return found
