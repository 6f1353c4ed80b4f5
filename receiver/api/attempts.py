"""Attempts over HTTP: makes the next attempts of several deliveries due now, by their ids or by filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from receiver.api.actions import IDEMPOTENCY_KEY, WHY, asked_by
from receiver.api.deliveries import DELIVERY_IDS, ENTITY, EVENT_TYPE, REASON_HAS, wanted_of
from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.parameters import SOURCE
from receiver.api.tokens import Scope
from receiver.codec import describe_shape
from receiver.errors import BadRequest, KeyUsed, NotWaiting, ReasonWanted, Unavailable
from receiver.inbox.inbox import Inbox
from receiver.runs.actions import answer_of
from receiver.runs.immediate_actions import try_now
from receiver.schemas import Shape
from receiver.search.filters import DeliveryFilter, as_text
from receiver.search.replayable import waiting_ids

#: The most deliveries that filters make due at once, which takes the database some hundredths of a second.
MOST_HURRIED = 1_000

#: The filters, by field of a `DeliveryFilter`. All deliveries that wait for an attempt are pending.
TRY_FILTERS: Mapping[str, Parameter[Any]] = {
    "source": SOURCE,
    "event_type": EVENT_TYPE,
    "entity": ENTITY,
    "reason": REASON_HAS,
}


class Tried(Shape, frozen=True):
    status: Literal["pending"]
    deliveries: Annotated[int, Meta(description="The number of those that waited for an attempt; the others stay.")]
    more: Annotated[
        bool, Meta(description=f"Whether more than {MOST_HURRIED:,} match, so that a repetition tries further ones.")
    ] = False


describe_shape(Tried)


class Attempts:
    """Makes attempts due: `POST /api/v1/try`."""

    def __init__(self, lookup: Lookup, inbox: Inbox, *, wake: Callable[[], None]) -> None:
        """`wake` is called when there is new work for the worker of this process."""
        self._lookup, self._inbox, self._wake = lookup, inbox, wake

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="try_deliveries",
                method="post",
                path="/api/v1/try",
                summary="Make the next attempts of several pending deliveries due now, those in `ids` or those that "
                "match the filters",
                answer=self.try_many,
                answers={202: Tried},
                scope=Scope.OPERATE,
                parameters=(DELIVERY_IDS, *TRY_FILTERS.values(), WHY, IDEMPOTENCY_KEY),
                refusals=(BadRequest, NotWaiting, ReasonWanted, KeyUsed, Unavailable),
            )
        ]

    def try_many(self, asked: Question) -> Tried:
        """Make the next attempts due now. Raises `NotWaiting` if none of the deliveries waits for one."""
        now, ids = datetime.now(UTC), asked[DELIVERY_IDS]
        wanted = wanted_of(asked, self._lookup, TRY_FILTERS, now=now)
        if (ids is None) == (wanted == DeliveryFilter()):
            raise BadRequest(
                "No deliveries are named: give `ids`, or a filter such as `source`."
                if ids is None
                else "`ids` names the deliveries one by one: leave the filters out, or `ids`.",
                names=("ids", "source"),
            )
        if ids is not None:
            request, more = asked_by(asked, "try now", deliveries=[str(each) for each in ids]), False
        else:
            request = asked_by(asked, "try now", **as_text(wanted))
            found = waiting_ids(self._lookup.database, wanted, now=now, most=MOST_HURRIED + 1)
            ids, more = tuple(found[:MOST_HURRIED]), len(found) > MOST_HURRIED
        done = try_now(self._inbox, request, ids, more=more, now=now)
        if done is None:
            raise NotWaiting("None of these deliveries waits for an attempt: replay finished deliveries instead.")
        self._wake()
        return answer_of(done, Tried)
