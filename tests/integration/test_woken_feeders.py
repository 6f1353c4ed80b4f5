"""A run that is planned or started over HTTP is stepped at once by the feeder of the same process."""

from __future__ import annotations

import pytest
from serving import serving
from waiting import TIMEOUT, wait_until

from receiver.api.tokens import Scope
from receiver.runs import feeder


@pytest.fixture
def served(tmp_path, monkeypatch):
    # Longer than a test waits, so that only a feeder that is woken steps a run in time.
    monkeypatch.setattr(feeder, "RUNS_POLL_INTERVAL", TIMEOUT * 4)
    with serving(f"sqlite:///{tmp_path}/runs.db", with_worker=True) as found:
        yield found


def test_a_run_is_planned_and_done_although_the_next_poll_is_far_away(served):
    def post(path: str) -> dict:
        return dict(served.get(f"/api/v1/{path}", scope=Scope.OPERATE, method="POST").json())

    def is_in(run: str, state: str) -> bool:
        return bool(served.get(f"/api/v1/runs/{run}").json()["state"] == state)

    run = post("runs?kind=prune")["run"]
    wait_until(lambda: is_in(run, "planned"), "the plan")
    assert post(f"runs/{run}/start?reason=spring+cleaning")["state"] == "running"
    wait_until(lambda: is_in(run, "done"), "the end of the run")
