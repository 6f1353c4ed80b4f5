"""The findings that `doctor` reports."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from receiver.findings.standing import PresentFindings, Standing
from receiver.server import doctor
from receiver.settings.settings import Settings

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)


def standing(says: str, mend: str, by: str | None = None) -> Standing:
    return Standing(says, "one_cause", "shop", NOON, says, mend, {}, NOON, None, by and NOON, by)


def test_findings_of_one_rule_with_the_same_advice_are_one_check(monkeypatch: pytest.MonkeyPatch):
    found = [standing("a", "Replay."), standing("b", "Replay.", by="mia"), standing("c", "Wait.")]
    monkeypatch.setattr(doctor, "standing", lambda *_, **__: PresentFindings(found, NOON))
    checks = list(doctor._findings(None, Settings(database_url="sqlite://"), {}))
    assert [(each.subject, each.verdict, each.says) for each in checks] == [
        ("finding one_cause", "LOOK", "A. B. Acknowledged by mia. Replay."),
        ("finding one_cause", "LOOK", "C. Wait."),
    ]
