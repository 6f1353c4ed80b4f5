"""Remedies: the button that mends a finding or a fault, if one exists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from receiver.api.findings import FaultShown, FindingShown
from receiver.findings.faults import telling_part


class Remedy(NamedTuple):
    """A button, its fields, and the parts of its address."""

    button: str
    label: str
    hidden: Mapping[str, str]
    path: Mapping[str, str]


def remedy_of(finding: FindingShown) -> Remedy | None:
    """The button for a finding; None if no button mends it."""
    source, evidence = finding.source, finding.evidence
    if not source or finding.closed_at is not None:
        return None
    if finding.rule == "secret_changed":
        # A request is verified with the secrets that were read, and reading new ones verifies the kept requests again.
        return Remedy("reload_settings", "Read the settings again", {"finding": finding.id}, {})
    if finding.rule == "sender_not_switched":
        return verifying(source)
    if finding.rule == "one_cause" and evidence.get("dead"):
        return _replay_of_dead(source, evidence.get("reason_has"))
    if finding.rule == "handler_appeared" and evidence.get("event_type"):
        event_type = str(evidence["event_type"])
        wanted = {"kind": "replay", "source": source, "state": "ignored", "event_type": event_type}
        return _plan("Plan a replay of the ignored ones", **wanted)
    if finding.rule == "reconcile_fails" and not evidence.get("next_run"):
        # Another reconcile of the source cannot be started before this one has ended.
        return Remedy("resume_run", "Let the reconcile go on", {}, {"id": str(evidence["run"])})
    if finding.rule in ("mirror_differs", "source_silent"):
        return _plan("Plan a reconcile", kind="reconcile", source=source)
    return None


def verifying(source: str) -> Remedy:
    """The button that verifies the kept requests of a source again."""
    return Remedy("verify_refused", "Verify the kept requests again", {}, {"source": source})


def remedy_of_fault(fault: FaultShown) -> Remedy | None:
    """A replay of the dead deliveries with this cause, found by the longest part of the cause that does not vary."""
    telling = telling_part(fault.cause, fault.example)
    return _replay_of_dead(fault.source, telling) if fault.dead and telling is not None else None


def _replay_of_dead(source: str, telling: str | None) -> Remedy:
    """A replay of the dead deliveries whose reason has this text; without a text, of all of the source."""
    if telling is None:
        return _plan(f"Plan a replay of all dead ones of {source}", kind="replay", source=source, state="dead")
    return _plan("Plan a replay of these", kind="replay", source=source, state="dead", reason_has=telling)


def _plan(label: str, **fields: str) -> Remedy:
    return Remedy("plan_run", label, fields, {})
