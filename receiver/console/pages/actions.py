"""Actions: who did what, when, why, and through what."""

from __future__ import annotations

from typing import NamedTuple

from receiver.api.actions import RUN, Action, ActionPage
from receiver.codec import encode
from receiver.console.lists import FilterField, Listing, filter_fields, listing
from receiver.console.page import Button, ConsolePage
from receiver.console.visit import Visit

#: Actions on a page.
ACTIONS_OF_A_PAGE = "50"


class ActionShown(NamedTuple):
    """An action, with its arguments and its result as text."""

    action: Action
    arguments: str
    result: str


class ActionList(NamedTuple):
    """The values for the template."""

    items: list[ActionShown]
    fields: list[FilterField]
    listing: Listing


class TypedActionList(ActionPage, frozen=True):
    """A page with its items decoded from JSON."""

    items: list[Action]


def show_actions(visit: Visit) -> ActionList:
    """The newest actions that match."""
    page = visit.ask_listed(TypedActionList, "list_actions", limit=ACTIONS_OF_A_PAGE)
    items = [ActionShown(each, _told(each.arguments), _told(each.result)) for each in page.items]
    return ActionList(items, filter_fields(visit, (RUN,)), listing(visit, ACTIONS_PAGE, following=page.next))


def _told(named: dict[str, object]) -> str:
    return ", ".join(
        f"{name} {value if isinstance(value, str) else encode(value).decode()}"
        for name, value in named.items()
        if value is not None
    )


ACTIONS_PAGE = ConsolePage(
    name="actions",
    path="/actions",
    title="Actions",
    template="actions.html",
    operation="list_actions",
    command="hookmirror actions",
    show=show_actions,
    menu="Actions",
    follows_in="before",
    live=("runs", "findings"),
)

PAGES = (ACTIONS_PAGE,)

BUTTONS: tuple[Button, ...] = ()
