"""The metrics of one process, and of several that share a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

from receiver.metrics import metrics

#: A process that counts some deliveries, has some hung workers, and tells its number.
COUNTING = """
import os, sys
from receiver.metrics import metrics
metrics.count_accepted([("shop", 0, "accepted")] * int(sys.argv[1]))
metrics.HUNG_WORKERS.set(int(sys.argv[2]))
metrics.OLDEST_PENDING_SECONDS.set(int(sys.argv[3]))
print(os.getpid())
"""


@pytest.fixture
def process(tmp_path):
    """Runs a process that shares its metrics with the others of this test; returns its number."""

    def run(*, accepted: int, hung: int = 0, oldest: int = 0) -> int:
        command = [sys.executable, "-c", COUNTING, *map(str, (accepted, hung, oldest))]
        environment = {metrics.SHARED_VARIABLE: str(tmp_path)}
        return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

    return run


@pytest.fixture
def samples(tmp_path, monkeypatch):
    """What a process of that folder would answer, by name and labels."""

    def read() -> dict[str, float]:
        monkeypatch.setenv(metrics.SHARED_VARIABLE, str(tmp_path))
        lines = [line for line in metrics.text().decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    return read


def test_a_process_alone_tells_what_it_counted():
    before = _accepted()
    metrics.count_accepted([("alone", 1, "accepted"), ("alone", None, "duplicate")])
    assert _accepted() == before + 1
    assert 'hookmirror_verified_total{secret="unsigned",source="alone"}' in metrics.text().decode()


def _accepted() -> float:
    return metrics.ACCEPTED_DELIVERIES.labels("alone", "accepted")._value.get()


def test_what_several_processes_counted_is_added_up(process, samples):
    process(accepted=3)
    process(accepted=4)
    assert samples()['hookmirror_deliveries_total{source="shop",status="accepted"}'] == 7


def test_what_a_process_counted_stays_when_it_has_ended_and_what_it_was_goes(process, samples, tmp_path):
    first, second = process(accepted=3, hung=2), process(accepted=4, hung=1)
    assert samples()["hookmirror_hung_workers"] == 3
    metrics.forget(first, Path(tmp_path))
    assert samples()["hookmirror_hung_workers"] == 1
    assert samples()['hookmirror_deliveries_total{source="shop",status="accepted"}'] == 7
    assert first != second


def test_the_last_word_about_the_database_counts_whoever_said_it(process, samples):
    process(accepted=0, oldest=60)
    process(accepted=0, oldest=7)
    assert samples()["hookmirror_oldest_pending_seconds"] == 7


def test_every_gauge_says_how_it_is_put_together_from_several_processes():
    gauges = [each for each in metrics.REGISTRY._collector_to_names if isinstance(each, Gauge)]
    assert gauges
    assert [each._name for each in gauges if each._multiprocess_mode == "all"] == []


@given(st.lists(st.floats(0, 200) | st.sampled_from([0.0, 1.0, 5.0])))
def test_values_observed_at_once_count_as_those_observed_one_by_one(values):
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
