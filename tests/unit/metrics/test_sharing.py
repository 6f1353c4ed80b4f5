"""Shared metrics: room is reserved before the first count, and without room a process counts for itself."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
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
