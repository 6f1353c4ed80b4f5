"""The metrics of one process, and of several that share a folder."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

from receiver.api.exposition import Exposition
from receiver.database.database import Database
from receiver.inbox.inbox import Inbox
from receiver.metrics import metrics, sharing

#: A process that counts some deliveries, has some hung workers, and prints its process id.
COUNTING = """
import os, sys
from receiver.metrics import metrics
metrics.count_accepted([("shop", 0, "", "accepted")] * int(sys.argv[1]))
metrics.HUNG_WORKERS.set(int(sys.argv[2]))
metrics.OLDEST_PENDING_SECONDS.set(int(sys.argv[3]))
print(os.getpid())
"""


@pytest.fixture
def process(tmp_path):
    """Return a function that runs a process with the shared metrics of this test, and gives its process id."""

    def run(*, accepted: int, hung: int = 0, oldest: int = 0) -> int:
        command = [sys.executable, "-c", COUNTING, *map(str, (accepted, hung, oldest))]
        environment = {metrics.SHARED_VARIABLE: str(tmp_path)}
        return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

    return run


@pytest.fixture
def samples(tmp_path, monkeypatch):
    """Return a function that reads the metrics as a process of that folder answers them, by name and labels."""

    def read() -> dict[str, float]:
        monkeypatch.setenv(metrics.SHARED_VARIABLE, str(tmp_path))
        lines = [line for line in metrics.text().decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    return read


def test_a_single_process_shows_its_own_counts():
    before = _accepted()
    metrics.count_accepted([("alone", 1, "m", "accepted"), ("alone", None, "", "duplicate")])
    assert _accepted() == before + 1
    assert 'hookmirror_verified_total{secret="unsigned",source="alone"}' in metrics.text().decode()


def _accepted() -> float:
    return metrics.ACCEPTED_DELIVERIES.labels("alone", "accepted")._value.get()


def test_the_counters_of_a_source_are_shown_from_the_start_and_from_the_reload_that_brings_it(tmp_path):
    with closing(Database(f"sqlite:///{tmp_path}/c.db")) as database:
        exposition = Exposition(Inbox(database), ["early"])
        exposition.renew(["early", "late"])
    shown = metrics.text().decode()
    for source in ("early", "late"):
        assert f'hookmirror_deliveries_total{{source="{source}",status="accepted"}} 0.0' in shown
        assert f'hookmirror_refused_total{{code="signature_wrong",source="{source}"}} 0.0' in shown
        assert f'hookmirror_failed_attempts_total{{source="{source}"}} 0.0' in shown


def test_the_counts_of_several_processes_are_added_up(process, samples):
    process(accepted=3)
    process(accepted=4)
    assert samples()['hookmirror_deliveries_total{source="shop",status="accepted"}'] == 7


def test_the_counts_of_an_ended_process_stay_and_its_gauges_go(process, samples, tmp_path):
    first, second = process(accepted=3, hung=2), process(accepted=4, hung=1)
    assert samples()["hookmirror_hung_workers"] == 3
    sharing.forget(first, Path(tmp_path))
    assert samples()["hookmirror_hung_workers"] == 1
    assert samples()['hookmirror_deliveries_total{source="shop",status="accepted"}'] == 7
    assert first != second


def test_an_ended_process_leaves_no_file_of_its_own_and_no_gauge_about_the_database(process, samples, tmp_path):
    for number in range(3):
        sharing.forget(process(accepted=2, oldest=60), tmp_path)
        assert samples()['hookmirror_deliveries_total{source="shop",status="accepted"}'] == 2 * (number + 1)
    assert "hookmirror_oldest_pending_seconds" not in samples()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["counter_ended.db", "histogram_ended.db"]


def test_no_read_sees_counts_that_are_being_moved(process, samples, tmp_path, monkeypatch):
    """A sum that falls would look like a restart, after which everything counts again."""
    sharing.forget(process(accepted=3), tmp_path)
    second = process(accepted=4)
    unlink, generate, locked = Path.unlink, metrics.generate_latest, []

    def is_locked_against(how: int) -> None:
        with pytest.raises(BlockingIOError), sharing.locked(tmp_path, how | fcntl.LOCK_NB):
            pass
        locked.append(how)

    def unlinked(file: Path, missing_ok: bool = False) -> None:
        is_locked_against(fcntl.LOCK_SH)
        unlink(file, missing_ok)

    def generated(registry: CollectorRegistry) -> bytes:
        is_locked_against(fcntl.LOCK_EX)
        return generate(registry)

    monkeypatch.setattr(Path, "unlink", unlinked)
    monkeypatch.setattr(metrics, "generate_latest", generated)
    sharing.forget(second, tmp_path)
    assert samples()['hookmirror_deliveries_total{source="shop",status="accepted"}'] == 7
    assert set(locked) == {fcntl.LOCK_SH, fcntl.LOCK_EX}


def test_of_the_gauges_about_the_database_the_latest_value_counts(process, samples):
    process(accepted=0, oldest=60)
    process(accepted=0, oldest=7)
    assert samples()["hookmirror_oldest_pending_seconds"] == 7


def test_every_gauge_declares_how_values_of_several_processes_are_combined():
    gauges = [each for each in metrics.REGISTRY._collector_to_names if isinstance(each, Gauge)]
    assert gauges
    assert [each._name for each in gauges if each._multiprocess_mode == "all"] == []


@given(st.lists(st.floats(0, 200) | st.sampled_from([0.0, 1.0, 5.0])))
def test_values_observed_together_count_like_values_observed_one_by_one(values):
    def shown(observe) -> list[str]:
        registry = CollectorRegistry()
        histogram = Histogram("some_seconds", "Some", ["source"], registry=registry, buckets=(1, 5, 100))
        observe(histogram.labels("shop"))
        lines = generate_latest(registry).decode().splitlines()
        return [line for line in lines if "_bucket" in line or "_count" in line]

    def one_by_one(histogram) -> None:
        for value in values:
            histogram.observe(value)

    assert shown(lambda histogram: metrics.observe_all(histogram, values)) == shown(one_by_one)
