"""The lines of a run that `hookmirror runs show` prints."""

from __future__ import annotations

from typing import Any

import pytest

from receiver.commands import runs
from receiver.runs.tables import RunState

RUN: dict[str, Any] = {
    "id": "7",
    "kind": "reconcile",
    "sources": ["shop"],
    "state": RunState.DONE,
    "total": 90,
    "done": 90,
    "tally": {},
    "planned_by": "ops-1",
    "started_by": None,
    "reason": None,
    "trouble": None,
    "overlaps": [],
    "forecast": {
        "made_at": "2026-06-01T12:00:00+00:00",
        "outcomes": {"repaired": 90},
        "partial": None,
        "reasons": [],
        "rows": {"products": {"update": 90}},
    },
}


def row(number: int) -> dict[str, Any]:
    values = {"table": "products", "source": "shop", "external_id": f"A{number:02}", "operation": "update"}
    return {**values, "before": {"name": "Lamp"}, "after": {"name": "Lantern"}}


class Answers:
    """A client of a receiver that has a run with 90 rows in its forecast."""

    def ask(self, path: str, parts: dict[str, str], query: dict[str, Any]) -> Any:
        if path == runs.RUN_PATH:
            return {**RUN, "rows": [row(number) for number in range(90)]}
        after = query["after"]
        return {"items": [row(number) for number in range(after, min(after + (query["limit"] or 50), 90))]}


@pytest.mark.parametrize(
    ("options", "rows", "end"),
    [
        ({}, range(20), "… and 70 more."),
        ({"limit": 50}, range(50), "… and 40 more."),
        ({"after": 20}, range(20, 40), "… and 50 more."),
        ({"after": 60, "limit": 100}, range(60, 90), "name"),
    ],
)
def test_the_rows_that_the_options_choose_are_printed_and_the_others_counted(monkeypatch, capsys, options, rows, end):
    monkeypatch.setattr(runs, "client_of", lambda to, token: Answers())
    runs.runs(runs.Verb.SHOW, ["7"], **options)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3].rstrip(":") for line in lines if line.startswith("  update")] == [
        f"A{number:02}" for number in rows
    ]
    assert end in lines[-1]
