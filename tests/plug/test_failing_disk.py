"""A disk whose syncs fail: whichever sync fails, every acked delivery is there after the power cut."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from failing_disk import FAIL_READS, FailingDisk, Kind
from power import SCENARIOS, SENDERS, SETUPS, Machine, machine, play

#: Seeds for each scenario in each set-up; `python tests/plug/power.py --runs 10` tries more.
SEEDS = (1, 2)


@pytest.mark.parametrize(
    ("scenario", "setup"),
    [
        ("log_sync", "one process"),
        ("data_sync_beside_a_reader", "two processes"),
        pytest.param("any_syncs_and_kills", "one process", marks=pytest.mark.long),
    ],
)
def test_after_a_failed_sync_and_a_power_cut_everything_acked_is_there_and_the_file_is_whole(scenario, setup):
    verdict = play(scenario, setup, seed=20260301)
    assert verdict.failed_syncs > 0
    assert verdict.statuses[503] > 0
    assert verdict.until_ack is not None, "acks did not continue"
    assert verdict.good, str(verdict)


@pytest.mark.long
def test_no_sync_of_the_log_covers_the_commits_of_several_transactions():
    verdict = play("log_sync_of_several_commits", "one process", seed=1)
    assert (verdict.failed_syncs, verdict.lost, verdict.integrity) == (0, 0, "ok")


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_whichever_sync_fails_nothing_acked_is_lost(scenario, setup, seed):
    verdict = play(scenario, setup, seed)
    assert verdict.good, str(verdict)


def test_while_every_sync_fails_nothing_is_acked_and_acks_go_on_when_they_succeed_again():
    with machine(Machine, "one process", seed=1) as running:
        running.disk.fail(Kind.LOG, times=1_000_000)
        running.wait_for_failure()
        before, refused = len(running.senders.acks), running.senders.statuses[503]
        running.wait_for_syncs(Kind.LOG, 3)
        acked = len(running.senders.acks)
        # Each sender may get an ack for an earlier commit that was on its way. The failed commit brings no ack.
        assert acked - before < SENDERS
        running.wait_for_syncs(Kind.LOG, 3)
        assert len(running.senders.acks) == acked
        assert running.senders.statuses[503] > refused
        running.disk.fail(Kind.LOG, times=0)
        running.senders.wait_for_acks(50)
        verdict = running.verdict("every sync", 0.0)
    assert verdict.good, str(verdict)


#: A program. Its reader must read again after another connection has written, and one of its reads fails. Prints the
#: error of the read and of a write after it, with whether the file counts as sound, and a write's result once it is
#: shown to be sound.
READING = f"""
import mmap, os, struct, sys, threading, time
from receiver.database.database import Database
from receiver.database.sqlite.checkpoints import Checkpoints

# Nothing is shown to be sound before both have failed.
go_on, poll = threading.Event(), Checkpoints._poll
Checkpoints._poll = lambda self: (go_on.wait(), poll(self))[1]
database = Database(sys.argv[1])
database.look_after()
beside = database.beside(connections=1)

def write():
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS notes (words TEXT)")
        connection.exec_driver_sql("INSERT INTO notes VALUES ('a')")

def read():
    with beside.read() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM notes").scalar()

write()
read()
write()
with open(os.environ["FAILING_DISK_SHADOW"] + "/state", "r+b") as state:
    struct.pack_into("q", mmap.mmap(state.fileno(), 0), {FAIL_READS} * 8, 1)
for attempt in (read, write):
    try:
        attempt()
    except Exception as error:
        print(error.orig, database.is_sound)
go_on.set()
while not database.is_sound:
    time.sleep(0.01)
write()
print(read())
database.close()
"""


def test_a_read_that_fails_makes_the_file_doubtful_and_writes_go_on_once_it_is_shown_to_be_sound(tmp_path):
    root = tmp_path / "disk"
    root.mkdir()
    disk = FailingDisk(root, tmp_path / "shadow")
    done = subprocess.run(
        [sys.executable, "-c", READING, f"sqlite:///{root}/mirror.db"],
        env={**os.environ, **disk.environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    disk.close()
    assert done.stdout.splitlines() == [
        "database disk image is malformed False",
        "after an error of the disk the database is not yet shown to be sound False",
        "3",
    ], done.stderr
