"""Runs: plans and runs, newest first, and the buttons that make a new plan."""

from __future__ import annotations

from typing import NamedTuple

from receiver.api.plans import PLAN_FILTERS
from receiver.api.runs import Run, RunChanged, RunPage
from receiver.console.lists import Listing, listing
from receiver.console.page import Button, ConsolePage
from receiver.console.visit import Visit

#: Runs on a page.
RUNS_SHOWN = "50"


class RunList(NamedTuple):
    """The values for the template."""

    items: list[Run]
    listing: Listing
    #: Names of the sources, of which a form offers one to reconcile.
    sources: list[str]


class TypedRunPage(RunPage, frozen=True):
    """A page with its items decoded from JSON."""

    items: list[Run]


def show_runs(visit: Visit) -> RunList:
    """The newest runs."""
    page = visit.ask_listed(TypedRunPage, "list_runs", limit=RUNS_SHOWN)
    return RunList(page.items, listing(visit, RUNS_PAGE, following=page.next), visit.sources)


def after_plan(_: Visit, answer: RunChanged) -> str:
    """The path of the page of the run that was planned."""
    return f"/runs/{answer.run}"


RUNS_PAGE = ConsolePage(
    name="runs",
    path="/runs",
    title="Runs",
    template="runs.html",
    operation="list_runs",
    command="hookmirror runs",
    show=show_runs,
    menu="Runs",
    follows_in="before",
    live=("runs",),
)

PAGES = (RUNS_PAGE,)

_PLANNED_BY = ("kind", *(parameter.name for parameter in PLAN_FILTERS.values()))

BUTTONS: tuple[Button, ...] = (
    Button(
        name="plan_run",
        path="/runs/plan",
        label="Plan it",
        operation="plan_run",
        command="hookmirror runs plan",
        says="The plan is being made. Nothing is changed before you start it.",
        then=after_plan,
        fields=_PLANNED_BY,
        options=(("ids", ""), ("from", "since"), ("to", "until")),
        leaves_out=("force",),
    ),
)
