"""Findings: what needs somebody, since when, what else changed then, and one button; and the faults behind them."""

from __future__ import annotations

from typing import NamedTuple

from receiver.api.findings import FaultList, FaultShown, FindingList, FindingShown, WholeFinding
from receiver.console.page import Button, ConsolePage
from receiver.console.remedies import Remedy, remedy_of, remedy_of_fault
from receiver.console.visit import Visit


class ListedFindings(NamedTuple):
    """What the template of the list shows."""

    items: list[FindingShown]
    #: Whether closed ones are listed, too.
    is_all: bool


class OneFinding(NamedTuple):
    """What the template of one shows."""

    finding: WholeFinding
    remedy: Remedy | None
    #: Numbers and names; the link is left out.
    evidence: list[tuple[str, str]]


class RemediedFault(NamedTuple):
    """A fault with its button."""

    fault: FaultShown
    remedy: Remedy | None


def show_findings(visit: Visit) -> ListedFindings:
    """What is found now, or also what was."""
    found = visit.ask_listed(FindingList, "list_findings").items
    return ListedFindings(found, visit.query.get("all") == "true")


def show_one_finding(visit: Visit) -> OneFinding:
    """All that is known about one."""
    found = visit.ask(WholeFinding, "show_finding", id=visit.path["id"])
    evidence = [
        (name.replace("_", " "), str(value))
        for name, value in found.evidence.items()
        if name not in ("link", "command") and value is not None
    ]
    return OneFinding(found, remedy_of(found), evidence)


def show_faults(visit: Visit) -> list[RemediedFault]:
    """Dead and failing deliveries by cause, the largest first."""
    found = visit.ask_listed(FaultList, "list_faults").items
    return [RemediedFault(each, remedy_of_fault(each)) for each in found]


PAGES = (
    ConsolePage(
        name="findings",
        path="/findings",
        title="Findings",
        template="findings.html",
        operation="list_findings",
        command="hookmirror findings",
        show=show_findings,
        menu="Findings",
        live=("findings",),
    ),
    ConsolePage(
        name="finding",
        path="/findings/{id}",
        title="A finding",
        template="finding.html",
        operation="show_finding",
        command="hookmirror findings {id}",
        show=show_one_finding,
        live=("findings",),
    ),
    ConsolePage(
        name="faults",
        path="/faults",
        title="Faults",
        template="faults.html",
        operation="list_faults",
        command="hookmirror faults",
        show=show_faults,
        live=("deliveries", "findings"),
    ),
)

BUTTONS: tuple[Button, ...] = ()
