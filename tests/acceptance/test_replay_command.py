"""`hookmirror replay` of many deliveries, and the plans of commands, beside a worker that polls for runs."""

from __future__ import annotations

import pytest
from commanding import Folder, post

from receiver.runs.immediate_actions import LARGEST_IMMEDIATE_REPLAY

#: More deliveries than are replayed at once, so that a run replays them.
MANY = LARGEST_IMMEDIATE_REPLAY + 1

#: A worker's feeder polls for runs as soon as the command has begun a plan.
A_WORKER_POLLS = """
from datetime import UTC, datetime

from receiver.runs.leases import lease_run
from receiver.runs.run_kind import SHORT_LEASE
from receiver.runs.runs import Verbs

plan = Verbs.plan

def plan_beside_a_worker(self, *arguments, **named):
    done = plan(self, *arguments, **named)
    given = {"lease_for": lambda kind, sources: SHORT_LEASE, "clock": lambda: datetime.now(UTC)}
    lease_run(self.database, "a-worker-of-another-machine", int(done.result["run"]), **given)
    return done

Verbs.plan = plan_beside_a_worker
"""


@pytest.fixture
def folder(lend_database, tmp_path):
    """Make an installation with dead deliveries, without a worker that could take the run."""
    with lend_database(tmp_path) as database_url:
        folder = Folder(tmp_path, database_url=database_url)
        with folder.serving("--no-worker") as (_, client):
            for number in range(MANY):
                post(client, b"not JSON %d" % number)
        yield folder


def test_replay_plans_many_deliveries_by_itself_although_a_worker_polls_meanwhile(folder):
    folder.before = A_WORKER_POLLS
    answer = folder.ask("replay", "--state", "dead")
    assert (answer["replayed"], answer["started"]) == (MANY, True)
    assert folder.query("SELECT state FROM runs") == [("running",)]


@pytest.mark.parametrize("command", [("replay", "--state", "dead", "--plan"), ("runs", "plan", "prune")], ids=" ".join)
def test_a_command_shows_the_whole_plan_although_a_worker_polls_meanwhile(folder, command):
    folder.before = A_WORKER_POLLS
    done = folder.run(*command)
    assert (done.returncode, "hookmirror runs start" in done.stdout) == (0, True), done
    assert folder.query("SELECT state FROM runs") == [("planned",)]


def test_replay_cancels_its_plan_if_another_replay_is_at_work(folder):
    ((dead,),) = folder.query("SELECT min(id) FROM deliveries")
    other = folder.ask("runs", "plan", str(dead))["id"]
    folder.ask("runs", "start", other, "--reason", "the parser was mended")
    done = folder.run("replay", "--state", "dead")
    assert (done.returncode, f"Run {other} is a replay of the same source" in done.stderr) == (1, True), done
    assert folder.query("SELECT state FROM runs ORDER BY id") == [("running",), ("cancelled",)]
