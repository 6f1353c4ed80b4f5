"""`hookmirror top`: its lines about findings."""

from __future__ import annotations

from types import SimpleNamespace

from receiver.commands.top import _findings


def test_a_finding_is_two_sentences_whether_or_not_its_first_ends_with_a_full_stop():
    found = [{"says": "All fail: send JSON.", "mend": "Mend it."}, {"says": "all fail", "mend": "Mend it."}]
    lines = [line.plain for line in _findings(SimpleNamespace(findings=found))]
    assert lines == ["All fail: send JSON. Mend it.", "All fail. Mend it."]
