"""Deliveries: a filtered list, newest first, and the buttons that plan a replay of it or of marked ones."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from receiver.api.attempts import Tried
from receiver.api.deliveries import DELIVERY_FILTERS, DeliveryPage
from receiver.api.delivery_shapes import Delivery
from receiver.api.pages import Matching
from receiver.api.plans import PLAN_FILTERS
from receiver.console.lists import FilterField, Listing, filter_fields, listing
from receiver.console.page import Button, ConsolePage
from receiver.console.visit import Visit
from receiver.inbox.tables import State
from receiver.logs.wording import counted

#: The name of each filter in a plan.
PLANNED_AS = {parameter.name: PLAN_FILTERS[name].name for name, parameter in DELIVERY_FILTERS.items()}

#: Deliveries on a page.
DELIVERIES_SHOWN = "50"


class DeliveryList(NamedTuple):
    """The values for the template."""

    items: list[Delivery]
    fields: list[FilterField]
    #: The addresses around this page.
    listing: Listing
    #: The number of matching deliveries, in words.
    matching: str
    #: Each state, and the number of deliveries in it that match the other filters.
    states: list[tuple[State, Matching]]
    #: The fields of a plan to replay all that match; None without a filter, and if none has ended.
    replay: dict[str, str] | None
    #: Whether some on this page can be marked, to be replayed or tried now.
    may_replay: bool
    may_try: bool
    #: The moments of filters that were given as relative times.
    times: Mapping[str, datetime]


def show_deliveries(visit: Visit) -> DeliveryList:
    """The newest deliveries that match, and their number."""
    page = visit.ask_listed(TypedDeliveryPage, "list_deliveries", limit=DELIVERIES_SHOWN, count="true", states="true")
    horizon = None if not page.horizon else page.horizon.time
    return DeliveryList(
        items=page.items,
        fields=filter_fields(visit, [*DELIVERY_FILTERS.values()]),
        listing=listing(visit, DELIVERIES_PAGE, following=page.next, horizon=horizon),
        matching=page.matching.says if page.matching else "",
        states=[(state, page.states[state]) for state in State if page.states],
        replay=_replay_of(visit, page) if page.items else None,
        may_replay=any(each.ended_at is not None for each in page.items),
        may_try=any(each.state is State.PENDING and each.attempts_made > 0 for each in page.items),
        times=page.times or {},
    )


def _replay_of(visit: Visit, page: DeliveryPage) -> dict[str, str] | None:
    """The fields of a plan to replay all that the filters find, also on other pages.

    Relative times are the moments that they meant for the list, so that the plan covers what the list shows.
    """
    filters = visit.without()
    if not filters or filters.get("state") in (State.PENDING, State.PROCESSING):
        return None
    filters |= {name: moment.isoformat() for name, moment in (page.times or {}).items()}
    return {"kind": "replay"} | {PLANNED_AS[name]: text for name, text in filters.items()}


class TypedDeliveryPage(DeliveryPage, frozen=True):
    """A page with its items decoded from JSON."""

    items: list[Delivery]


DELIVERIES_PAGE = ConsolePage(
    name="deliveries",
    path="/deliveries",
    title="Deliveries",
    template="deliveries.html",
    operation="list_deliveries",
    command="hookmirror deliveries",
    show=show_deliveries,
    menu="Deliveries",
    options=(("from", "since"), ("to", "until")),
    leaves_out=("states",),
    follows_in="cursor",
    live=("deliveries",),
)


def _tried(answer: Tried) -> str:
    return f"{counted(answer.deliveries, 'delivery')} that waited for the next attempt: tried now."


PAGES = (DELIVERIES_PAGE,)

BUTTONS: tuple[Button, ...] = (
    Button(
        name="try_deliveries",
        path="/deliveries/try",
        label="Try the marked ones now",
        operation="try_deliveries",
        command="hookmirror retry",
        says=_tried,
        then="/deliveries?state=pending",
        fields=("reason",),
        options=(("ids", ""),),
    ),
)
