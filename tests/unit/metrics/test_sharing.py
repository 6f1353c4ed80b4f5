"""Shared metrics: room is reserved before the first count, and without room a process counts for itself."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from receiver.metrics import sharing

RESERVING = """
import json, os
from receiver.metrics.sharing import reserve, unshared, KINDS
reserve()
from receiver.metrics import metrics
metrics.FAILED_ATTEMPTS.labels("shop").inc()
metrics.HUNG_WORKERS.set(1)
metrics.BACKLOG_DELIVERIES.labels("shop", "dead").set(1)
metrics.ACK_SECONDS.observe(1)
print(json.dumps([unshared(), 'hookmirror_failed_attempts_total{source="shop"} 1.0' in metrics.text().decode()]))
"""


def counted(folder, limit: int = resource.RLIM_INFINITY) -> tuple[str | None, bool]:
    """Return why a process does not share its metrics, and whether it shows its counts.

    No file may exceed the limit.
    """
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    limits = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    command = [sys.executable, "-c", RESERVING]
    done = subprocess.run(command, env=environment, preexec_fn=limits, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout))


def test_the_files_of_shared_metrics_have_their_blocks_reserved(tmp_path):
    assert counted(tmp_path) == (None, True)
    files = list(tmp_path.iterdir())
    assert len(files) == 4
    assert {file.stat().st_blocks * 512 >= file.stat().st_size == 1 << 20 for file in files} == {True}


def test_another_process_may_read_while_the_files_are_made(tmp_path, monkeypatch):
    opening, reads = Path.open, []

    def opened(file, mode):
        made = opening(file, mode)
        reads.append(list(MultiProcessCollector(None, tmp_path).collect()))
        return made

    monkeypatch.setenv(sharing.SHARED_VARIABLE, str(tmp_path))
    monkeypatch.setattr(Path, "open", opened)
    sharing.reserve()
    assert reads == [[]] * 4
    assert sharing.unshared() is None


def test_a_process_without_room_counts_for_itself_and_gives_the_reason(tmp_path):
    why, tells = counted(tmp_path, limit=4_096)
    assert (why, tells) == (f"there is no room for shared metrics in {tmp_path} (File too large)", True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["", " "])
def test_an_empty_variable_counts_as_unset(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    assert counted(folder) == (None, True)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_counts_as_no_room(tmp_path):
    why, tells = counted(tmp_path / "absent")
    assert tells
    assert "No such file or directory" in str(why)


def test_an_ended_process_whose_counts_need_more_room_gets_it_reserved(tmp_path):
    names = [f"{number:05}" + "n" * 200 for number in range(8_000)]
    for pid in (1, 2):
        counts = MmapedDict(str(tmp_path / f"counter_{pid}.db"))
        for name in names[pid - 1 :: 2]:
            counts.write_value(name, 1.0, 0.0)
        counts.close()
        sharing.forget(pid, tmp_path)
    (kept,) = tmp_path.iterdir()
    assert kept.stat().st_blocks * 512 >= kept.stat().st_size
    counted = {key: value for key, value, *_ in MmapedDict.read_all_values_from_file(str(kept))}
    assert counted == dict.fromkeys(names, 1.0)


def test_the_folder_of_a_killed_server_is_removed_by_the_next_start_and_one_in_use_is_not(tmp_path):
    abandoned, used, new, strange = (tmp_path / f"{sharing.FOLDER_PREFIX}{name}" for name in "aunx")
    for folder in (abandoned, used, new, strange):
        folder.mkdir()
    for folder in (abandoned, used, new):
        (folder / sharing.IN_USE).touch()
    holding = f"from receiver.metrics import sharing; from pathlib import Path; sharing.hold(Path({str(used)!r}))"
    command = [sys.executable, "-c", f"{holding}; print('held', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        for folder in (abandoned, used):
            os.utime(folder / sharing.IN_USE, (0, 0))
        sharing.remove_abandoned(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([used, new, strange])
        holder.stdin.close()
    sharing.remove_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([new, strange])


def test_a_folder_that_is_gone_or_a_damaged_file_does_not_end_the_supervisor(tmp_path):
    sharing.forget(1, tmp_path / "absent")
    for pid in (1, 2):
        file = tmp_path / f"counter_{pid}.db"
        file.write_bytes(struct.pack("ii", 4_096, 0) + b"\x7f" * 4_088)
        sharing.forget(pid, tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["counter_2.db", "counter_ended.db"]


def test_the_files_of_an_ended_process_stay_while_a_reader_stands_still(tmp_path):
    file = tmp_path / "counter_1.db"
    MmapedDict(str(file)).close()
    with sharing.locked(tmp_path, fcntl.LOCK_SH):
        assert not sharing.forget(1, tmp_path)
        assert list(tmp_path.iterdir()) == [file]
    assert sharing.forget(1, tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["counter_ended.db"]
