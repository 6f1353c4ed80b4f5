"""`hookmirror top`: its questions, and its lines about findings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from receiver.commands.top import _findings, _tallies
from receiver.errors import HookmirrorError


def test_a_finding_is_two_sentences_whether_or_not_its_first_ends_with_a_full_stop():
    found = [{"says": "All fail: send JSON.", "mend": "Mend it."}, {"says": "all fail", "mend": "Mend it."}]
    lines = [line.plain for line in _findings(SimpleNamespace(findings=found))]
    assert lines == ["All fail: send JSON. Mend it.", "All fail. Mend it."]


def test_the_pace_is_computed_from_all_pages_of_tallies():
    class Paged:
        def ask(self, path: str, parts: Any, query: dict[str, Any]) -> Any:
            is_first = query["after"] == "300s"
            return {"items": [(query["kind"], query["after"])], "next": "2026-06-01T12:00:00Z" if is_first else None}

    found = [each for each in _tallies(Paged()) if each[0] == "ended"]
    assert found == [("ended", "300s"), ("ended", "2026-06-01T12:00:00Z")]


def test_tallies_that_never_end_are_refused():
    pages = iter(range(10))
    stranger = SimpleNamespace(ask=lambda *_: {"items": [next(pages)], "next": "2026-06-01T12:00:00Z"})
    with pytest.raises(HookmirrorError, match="never ends"):
        _tallies(stranger)
