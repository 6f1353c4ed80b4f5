"""Deliveries: a list, newest first, with filters; and the way from it to a replay of what it shows."""

from __future__ import annotations

from typing import NamedTuple

from receiver.api.deliveries import DELIVERY_FILTERS, DeliveryPage
from receiver.api.delivery_shapes import Delivery
from receiver.console.lists import FilterField, Listing, filter_fields, listing
from receiver.console.page import Button, ConsolePage
from receiver.console.visit import Visit
from receiver.inbox.tables import State

#: Items of a page.
DELIVERIES_SHOWN = "50"


class DeliveryList(NamedTuple):
    """What the template shows."""

    items: list[Delivery]
    fields: list[FilterField]
    #: What goes on from here, and what lies around.
    listing: Listing
    #: How many match, in words.
    matching: str
    states: list[State]


def show_deliveries(visit: Visit) -> DeliveryList:
    """The newest that match, and how many there are of them."""
    page = visit.ask_listed(TypedDeliveryPage, "list_deliveries", limit=DELIVERIES_SHOWN, count="true")
    horizon = None if not page.horizon else page.horizon.time
    return DeliveryList(
        items=page.items,
        fields=filter_fields(visit, DELIVERY_FILTERS),
        listing=listing(visit, DELIVERIES_PAGE, following=page.next, horizon=horizon),
        matching=page.matching.says if page.matching else "",
        states=[*State],
    )


class TypedDeliveryPage(DeliveryPage, frozen=True):
    """A page whose items are values again."""

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
    follows_in="cursor",
    live=("deliveries",),
)

PAGES = (DELIVERIES_PAGE,)

BUTTONS: tuple[Button, ...] = ()
