"""A disk whose syncs fail: whatever fails when, what was acked is there after the power was cut."""

from __future__ import annotations

import pytest
from failing_disk import Kind
from power import SCENARIOS, SENDERS, SETUPS, Machine, machine, play

#: For each scenario in each set-up; `python tests/plug/power.py --runs 10` tries more.
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
    assert verdict.until_ack is not None, "acks did not go on"
    assert verdict.good, str(verdict)


@pytest.mark.long
def test_no_sync_of_the_log_covers_the_commits_of_several_transactions():
    verdict = play("log_sync_of_several_commits", "one process", seed=1)
    assert (verdict.failed_syncs, verdict.lost, verdict.integrity) == (0, 0, "ok")


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_whatever_fails_when_nothing_acked_is_lost(scenario, setup, seed):
    verdict = play(scenario, setup, seed)
    assert verdict.good, str(verdict)


def test_while_every_sync_fails_nothing_is_acked_and_acks_go_on_when_they_succeed_again():
    with machine(Machine, "one process", seed=1) as running:
        running.disk.fail(Kind.LOG, times=1_000_000)
        running.wait_for_failure()
        before, refused = len(running.senders.acks), running.senders.statuses[503]
        running.wait_for_syncs(Kind.LOG, 3)
        acked = len(running.senders.acks)
        # Of each sender, what was committed before and on its way; of the commit that failed, nothing.
        assert acked - before < SENDERS
        running.wait_for_syncs(Kind.LOG, 3)
        assert len(running.senders.acks) == acked
        assert running.senders.statuses[503] > refused
        running.disk.fail(Kind.LOG, times=0)
        running.senders.wait_for_acks(50)
        verdict = running.verdict("every sync", 0.0)
    assert verdict.good, str(verdict)
