"""The room on the disk of a SQLite file, as `hookmirror doctor` reports it."""

from __future__ import annotations

import os
from functools import partial

import pytest

from receiver.server import disk_room
from receiver.server.disk_room import FAILS_BELOW, SHORT_BELOW, shortages
from receiver.server.doctor import examine
from receiver.settings.settings import load

NOTHING_LEFT, SOME_LEFT, ENOUGH = FAILS_BELOW - 4096, FAILS_BELOW, SHORT_BELOW


@pytest.fixture
def leave(tmp_path, monkeypatch):
    """Return a function that leaves so many bytes on every disk."""
    real = os.statvfs(tmp_path)

    def leave(left: int, of: int = 1 << 40, *, flags: int = 0) -> None:
        blocks = {"f_frsize": 4096, "f_blocks": of // 4096, "f_bfree": left // 4096, "f_bavail": left // 4096}
        fields = blocks | {"f_flag": flags}
        given = type("Statvfs", (), {name: getattr(real, name) for name in dir(real) if name.startswith("f_")} | fields)
        monkeypatch.setattr(disk_room.os, "statvfs", lambda _: given)

    return leave


@pytest.mark.parametrize(("left", "urgent"), [(NOTHING_LEFT, [True]), (SOME_LEFT, [False]), (ENOUGH, [])])
def test_a_disk_with_little_room_is_reported_and_urgent_when_commits_may_fail(leave, tmp_path, left, urgent):
    leave(left)
    assert [each.is_urgent for each in shortages(f"sqlite:///{tmp_path / 'mirror.db'}")] == urgent


@pytest.mark.parametrize(("left", "short"), [(FAILS_BELOW - 4096, True), (31 << 20, True), (32 << 20, False)])
def test_a_small_disk_is_short_of_room_when_less_than_a_quarter_is_left(leave, tmp_path, left, short):
    leave(left, of=128 << 20)
    assert bool(list(shortages(f"sqlite:///{tmp_path / 'mirror.db'}"))) is short


def test_a_file_system_that_counts_no_blocks_is_not_reported_as_full(leave, tmp_path):
    leave(0, of=0)
    assert list(shortages(f"sqlite:///{tmp_path / 'mirror.db'}")) == []


def test_a_read_only_file_system_is_not_reported_as_full_because_no_room_would_help(leave, tmp_path):
    leave(0, flags=os.ST_RDONLY)
    assert list(shortages(f"sqlite:///{tmp_path / 'mirror.db'}")) == []


@pytest.mark.parametrize("url", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "postgresql://localhost/mirror"])
def test_no_disk_is_reported_without_a_file(leave, url):
    leave(0)
    assert list(shortages(url)) == []


def test_the_disk_is_that_of_the_file_that_a_link_leads_to(tmp_path, leave):
    leave(0)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mirror.db").symlink_to(tmp_path / "elsewhere" / "mirror.db")
    (found,) = shortages(f"sqlite:///{tmp_path / 'mirror.db'}")
    assert found.says.startswith(f"0 MB are free in {tmp_path / 'elsewhere'}: free some space")


@pytest.mark.parametrize(("left", "verdict"), [(NOTHING_LEFT, "MEND"), (SOME_LEFT, "LOOK")])
def test_doctor_reports_a_full_disk_before_everything_that_needs_it(leave, tmp_path, monkeypatch, left, verdict):
    leave(left)
    settings = tmp_path / "hookmirror.toml"
    settings.write_text(f'database_url = "sqlite:///{tmp_path / "mirror.db"}"\n')
    monkeypatch.delenv("HOOKMIRROR_DATABASE_URL", raising=False)
    found = examine(partial(load, settings), beside=tmp_path)
    assert [each.verdict for each in found if each.subject == "disk"] == [verdict]
