"""Findings, each with its beginning, its circumstances and one button; and the faults by cause."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from receiver.api.findings import FaultList, FaultShown, FindingList, FindingShown, WholeFinding
from receiver.console.page import Button, ConsolePage
from receiver.console.remedies import Remedy, remedy_of, remedy_of_fault, verifying
from receiver.console.rotation import RotationStep, rotation_steps
from receiver.console.visit import Visit


class ListedFindings(NamedTuple):
    """The values for the template of the list."""

    items: list[FindingShown]
    #: The time at which the rules were evaluated.
    examined_at: datetime
    #: Whether the list includes closed findings.
    is_all: bool


class OneFinding(NamedTuple):
    """The values for the template of one finding."""

    finding: WholeFinding
    remedy: Remedy | None
    #: The button that is of use after the remedy; None without one.
    further: Remedy | None
    #: Names and values of the evidence, without its link.
    evidence: list[tuple[str, str]]
    #: The steps of a rotation; empty for a finding that no rotation mends.
    steps: list[RotationStep]


class RemediedFault(NamedTuple):
    """A fault, and the button that mends it."""

    fault: FaultShown
    remedy: Remedy | None


def show_findings(visit: Visit) -> ListedFindings:
    """The open findings, or those of the last year, too."""
    found = visit.ask_listed(FindingList, "list_findings")
    return ListedFindings(found.items, found.examined_at, visit.query.get("all") == "true")


def show_one_finding(visit: Visit) -> OneFinding:
    """One finding, with its evidence and its button."""
    found = visit.ask(WholeFinding, "show_finding", id=visit.path["id"])
    evidence = [
        (name.replace("_", " "), str(value))
        for name, value in found.evidence.items()
        if name not in ("link", "command") and value is not None
    ]
    steps = rotation_steps(visit, found)
    return OneFinding(found, remedy_of(found), _further(found, steps), evidence, steps)


def _further(found: WholeFinding, steps: list[RotationStep]) -> Remedy | None:
    """Verifying again, once the settings were read since a secret changed."""
    if found.rule != "secret_changed" or found.closed_at is not None or not steps or not steps[0].is_done:
        return None
    return verifying(found.source)


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
