"""Misspelt addresses: which count for the source that was meant, and the bounds on strangers."""

from __future__ import annotations

import pytest

from receiver.findings.counting import UNKNOWN_SOURCE, take_snapshot
from receiver.ingest.misspelt import MOST_REMEMBERED, Misspelt
from receiver.ingest.paths import meant_source
from receiver.metrics import few_names, metrics

SOURCES = {"iimmpact": 1, "sigma-us": 2}


@pytest.fixture(autouse=True)
def nothing_counted():
    few_names.unknown_asked.clear()
    yield
    few_names.unknown_asked.clear()


def counted(source: str) -> float:
    return metrics.MISSPELT.labels(source)._value.get()


def test_each_of_three_requests_counts_and_the_log_names_the_address():
    before, misspelt = counted("iimmpact"), Misspelt()
    assert [misspelt.meant("iimpact", SOURCES) for _ in range(3)] == [{"perhaps": "/hooks/iimmpact"}] * 3
    assert counted("iimmpact") == before + 3


def test_new_names_are_compared_at_most_ten_times_a_second():
    misspelt = Misspelt()
    assert misspelt.meant("iimpact", SOURCES) != {}
    assert misspelt.meant("iimmpct", SOURCES) == {}


def test_new_addresses_elsewhere_are_compared_at_most_ten_times_a_second():
    misspelt = Misspelt()
    assert [misspelt.meant_elsewhere("/webhook/iimpact", SOURCES) for _ in range(2)] == [
        {"perhaps": "/hooks/iimmpact"}
    ] * 2
    assert misspelt.meant_elsewhere("/webhook/iimmpct", SOURCES) == {}
    assert misspelt.meant_elsewhere("/anything/sigma-us", SOURCES) == {"perhaps": "/hooks/sigma-us"}, "its exact name"


def test_new_sources_after_a_reload_are_compared():
    misspelt = Misspelt()
    misspelt.meant("erp", SOURCES)
    misspelt._compared_at = 0.0
    assert misspelt.meant("erp", {"erp2": 1}) == {"perhaps": "/hooks/erp2"}


def test_a_name_unlike_all_sources_is_tallied_after_it_came_several_times():
    misspelt = Misspelt()
    for _ in range(2):
        misspelt.meant("warehouse", SOURCES)
    assert not any(key.kind == UNKNOWN_SOURCE for key in take_snapshot())
    misspelt.meant("warehouse", SOURCES)
    (key,) = [key for key in take_snapshot() if key.kind == UNKNOWN_SOURCE]
    assert (key.source, key.detail) == ("", "warehouse")


def test_names_of_strangers_use_bounded_memory_and_displace_no_sender():
    misspelt = Misspelt()
    for _ in range(5):
        few_names.count_unknown("warehouse")
    for number in range(10 * MOST_REMEMBERED):
        misspelt._compared_at = 0.0
        misspelt.meant(f"{number}?\0\ud800" + "x" * 1_000, SOURCES)
    assert len(misspelt._remembered) <= MOST_REMEMBERED
    assert len(few_names.unknown_asked) <= few_names.MOST_UNKNOWN
    assert few_names.unknown_asked["warehouse"] == 5


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("/hook/iimmpact", "iimmpact"),
        ("/webhooks/iimmpact", "iimmpact"),
        ("/api/hooks/sigma-us/", "sigma-us"),
        ("/iimmpact", "iimmpact"),
        ("/hook/iimpact", "iimmpact"),
        ("/hook/x", None),
        ("/wp-login.php", None),
        ("/api/v1/iimpact", None),
        ("/", None),
        ("/" + "a/" * 100_000, None),
    ],
)
def test_another_path_is_compared_only_if_it_ends_in_a_source_or_begins_like_hooks(path, source):
    assert meant_source(path, SOURCES) == source
