"""Actions, each with its author, time, reason and interface."""

from __future__ import annotations

from typing import NamedTuple

from receiver.api.actions import RUN, Action, ActionPage
from receiver.console.lists import FilterField, Listing, filter_fields, listing
from receiver.console.page import Button, ConsolePage
from receiver.console.visit import Visit
from receiver.database.damage import damage_of
from receiver.logs.wording import counted
from receiver.runs.wording import argument_words

#: Actions on a page.
ACTIONS_OF_A_PAGE = "50"


class ActionShown(NamedTuple):
    """An action, with its arguments, its number and its result in words."""

    action: Action
    arguments: str
    #: Such as `6 deliveries`; empty for none.
    number: str
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
    items = [_shown(each) for each in page.items]
    return ActionList(items, filter_fields(visit, (RUN,)), listing(visit, ACTIONS_PAGE, following=page.next))


def _shown(action: Action) -> ActionShown:
    # The column before names the run.
    arguments = {name: value for name, value in action.arguments.items() if name != "run"}
    result = {name: value for name, value in action.result.items() if name != "run"}
    number = counted(action.count, action.counts) if action.count or damage_of(action.count) else ""
    return ActionShown(action, ", ".join(argument_words(arguments)), number, ", ".join(argument_words(result)))


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
