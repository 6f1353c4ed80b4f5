"""`kill -9` of the worker that feeds a run: the next one goes on where it was, and each delivery is replayed once."""

from __future__ import annotations

import json
import signal

import pytest
from commanding import SETTINGS, Folder, Forks, post, product, wait_until

DELIVERIES = 160


@pytest.fixture(scope="module")
def folder(lend_database, tmp_path_factory):
    path = tmp_path_factory.mktemp("killed")
    with lend_database(path) as url:
        yield Folder(path, f"batch_size = 20\n{SETTINGS}", url)


@pytest.mark.long
def test_a_run_whose_worker_is_killed_goes_on_with_the_next(folder):
    with Forks(1) as forks, folder.serving("--no-worker") as (_, client):
        for number in range(DELIVERIES):
            assert post(client, product(number, key=f"k{number}", name="Lamp")).status_code == 200
        with folder.running("worker") as worker:
            wait_until(lambda: folder.count("state IN ('pending', 'processing')") == 0, "the worker")
            worker.terminate()
            worker.wait()
        answer = forks.run(folder, "replay", "--source", "iimmpact", "--reason", "to be killed", "--json")
        run = json.loads(answer.stdout)
        assert (run["replayed"], run["dry_run"]) == (DELIVERIES, False)
        deaths = 0
        while not folder.count("state = 'done'", "runs"):
            before = folder.count("state = 'ended'", "run_deliveries")
            with folder.running("worker") as worker:
                enough = min(before + 40, DELIVERIES)
                wait_until(
                    lambda enough=enough: folder.count("state = 'ended'", "run_deliveries") >= enough, "some progress"
                )
                if enough < DELIVERIES:
                    worker.send_signal(signal.SIGKILL)
                    worker.wait()
                    deaths += 1
                else:
                    wait_until(lambda: folder.count("state = 'done'", "runs"), "the end of the run")
                    worker.terminate()
                    worker.wait()
        assert deaths >= 2
        assert folder.count("outcome = 'unchanged'", "run_deliveries") == DELIVERIES
        assert folder.count("round = 2 AND state = 'processed' AND outcome = 'unchanged'") == DELIVERIES
        shown = json.loads(forks.run(folder, "runs", "show", run["run"], "--json").stdout)
        assert (shown["done"], shown["total"], shown["tally"]) == (DELIVERIES, DELIVERIES, {"unchanged": DELIVERIES})
