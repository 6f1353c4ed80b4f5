"""The lines in which `hookmirror findings` lists findings."""

from __future__ import annotations

from datetime import UTC, datetime

from receiver.commands.findings import lines
from receiver.findings.standing import Standing

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)


def standing(says: str, mend: str, closed_at: datetime | None = None) -> Standing:
    return Standing(says, "one_cause", "shop", NOON, says, mend, {}, NOON, closed_at, None, None)


def test_advice_that_several_findings_in_a_row_have_stands_once_after_the_last_of_them():
    found = [standing("a", "Replay."), standing("b", "Replay."), standing("c", "Wait."), standing("d", "Replay.")]
    assert list(lines(found)) == [
        *("one_cause (a): A.", "one_cause (b): B.", "    Replay."),
        *("one_cause (c): C.", "    Wait.", "one_cause (d): D.", "    Replay."),
    ]


def test_without_findings_one_line_says_so():
    assert list(lines([])) == ["Nothing needs you."]


def test_the_last_open_finding_has_its_advice_before_closed_ones():
    told = list(lines([standing("a", "Replay."), standing("b", "Replay.", closed_at=NOON)]))
    assert told[:2] == ["one_cause (a): A.", "    Replay."]
    assert told[2:] == ["one_cause (b): B.", "    Closed at 2026-03-08 12:00:00Z."]
