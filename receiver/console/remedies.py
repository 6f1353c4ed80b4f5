"""Remedies: the one button that mends a finding or a fault, where a button can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from receiver.api.findings import FaultShown, FindingShown
from receiver.findings.faults import VARIES

#: Fewest characters of a cause that are enough to find its deliveries.
SHORTEST_TELLING = 8


class Remedy(NamedTuple):
    """A button, its fields, and the parts of its address."""

    button: str
    label: str
    hidden: Mapping[str, str]
    path: Mapping[str, str]


def remedy_of(finding: FindingShown) -> Remedy | None:
    """The button for a finding; None where no button mends it."""
    source, evidence = finding.source, finding.evidence
    if not source or finding.closed_at is not None:
        return None
    if finding.rule in ("secret_changed", "sender_not_switched"):
        return Remedy("verify_refused", "Verify the kept requests again", {}, {"source": source})
    if finding.rule == "one_cause" and evidence.get("dead"):
        return _plan("Plan a replay of the dead ones", kind="replay", source=source, state="dead")
    if finding.rule == "handler_appeared" and evidence.get("event_type"):
        event_type = str(evidence["event_type"])
        wanted = {"kind": "replay", "source": source, "state": "ignored", "event_type": event_type}
        return _plan("Plan a replay of the ignored ones", **wanted)
    if finding.rule in ("mirror_differs", "source_silent"):
        return _plan("Plan a reconcile", kind="reconcile", source=source)
    return None


def remedy_of_fault(fault: FaultShown) -> Remedy | None:
    """A replay of the dead deliveries with this cause, found by the longest part of the cause that does not vary."""
    telling = max((part.strip() for part in fault.cause.split(VARIES)), key=len)
    if not fault.dead or len(telling) < SHORTEST_TELLING or telling not in fault.example:
        return None
    return _plan("Plan a replay of these", kind="replay", source=fault.source, state="dead", reason_has=telling)


def _plan(label: str, **fields: str) -> Remedy:
    return Remedy("plan_run", label, fields, {})
