"""Temporary files in memory: a killed process's are removed at the next start, and a running one's stay."""

from __future__ import annotations

import fcntl
import os
import signal

from memory import claim_folder, remove_abandoned


def claim_in_another_process(memory) -> int:
    """Start a process that has claimed a folder and waits to be killed."""
    claimed, tell = os.pipe()
    child = os.fork()
    if not child:
        (claim_folder(memory) / "left").touch()
        os.write(tell, b"x")
        signal.pause()
    os.read(claimed, 1)
    os.close(claimed)
    os.close(tell)
    return child


def test_files_of_a_killed_process_are_removed_and_those_of_others_are_left(tmp_path):
    (tmp_path / "another-programs").mkdir()
    child = claim_in_another_process(tmp_path)
    (folder,) = tmp_path.glob("hookmirror-tests-*")
    remove_abandoned(tmp_path)
    assert (folder / "left").exists()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    remove_abandoned(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["another-programs"]


def test_a_folder_that_is_being_made_is_not_taken_for_abandoned(tmp_path, monkeypatch):
    lock, looks = fcntl.flock, []

    def look_before(descriptor: int, how: int) -> None:
        if how == fcntl.LOCK_EX:
            looks.append(how)
            remove_abandoned(tmp_path)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", look_before)
    claimed = claim_folder(tmp_path)
    assert looks == [fcntl.LOCK_EX]
    assert list(tmp_path.iterdir()) == [claimed]
