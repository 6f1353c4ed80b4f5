"""PostgreSQL on a disk whose syncs fail: it ends, recovers, and has every acked delivery."""

from __future__ import annotations

import pytest
from server_power import CarelessMachine, play

pytestmark = pytest.mark.long


def test_without_a_failure_everything_acked_is_on_the_disk_after_a_power_cut():
    verdict = play("no_failure", "one process", seed=1)
    assert (verdict.failed_syncs, verdict.lost, verdict.integrity) == (0, 0, "ok")


@pytest.mark.parametrize(
    ("scenario", "setup", "seed"),
    [
        ("log_sync", "one process", 1),
        ("log_sync", "two processes", 2),
        ("data_sync", "one process", 1),
        ("data_sync", "two processes", 2),
    ],
)
def test_after_a_failed_sync_of_postgresql_senders_get_503_then_acks_and_nothing_acked_is_lost(scenario, setup, seed):
    verdict = play(scenario, setup, seed)
    assert verdict.failed_syncs == 1
    assert verdict.statuses[503] > 0
    assert verdict.until_ack is not None, "acks did not continue"
    assert verdict.good, str(verdict)


def test_a_postgresql_that_does_not_flush_loses_acked_deliveries_so_the_disk_keeps_only_what_is_flushed():
    verdict = play("no_failure", "one process", 1, CarelessMachine)
    assert verdict.lost > verdict.acked / 2, str(verdict)
