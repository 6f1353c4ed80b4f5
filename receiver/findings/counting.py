"""Counting: what this process counted since the last time, out of the metrics that it has anyway.

Nothing is counted twice, and nothing is counted for tallies alone: an ack pays for its metrics only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from receiver.metrics import few_names, metrics


class TallyKey(NamedTuple):
    """What was counted."""

    source: str
    kind: str
    detail: str


class KindCount(NamedTuple):
    number: int
    #: A sum, of kinds that have one.
    amount: float = 0.0


Counted = Mapping[TallyKey, KindCount]

#: Kinds of tallies that do not come out of a metric: a process that runs, by release and fingerprint of its wiring, and
#: one that would have heard a sender.
RUNNING, WATCHED = "running", "watched"

#: Bodies over `max_body_bytes`, by the largest of them.
TOO_LARGE = "too_large"

#: Webhooks for a source that there is not, by its name, from so many in one process on: strangers try names once.
UNKNOWN_SOURCE, FEW_OF_A_NAME = "unknown_source", 3

#: Each counter with the kind that it is tallied as (None: the label `status` names it) and the label for the detail.
_COUNTERS: tuple[tuple[MetricWrapperBase, str | None, str | None], ...] = (
    (metrics.ACCEPTED_DELIVERIES, None, None),
    (metrics.REFUSED, "refused", "code"),
    (metrics.VERIFIED, "verified", "secret"),
    (metrics.UNHANDLED, "unhandled", "event_type"),
    (metrics.FAILED_ATTEMPTS, "failed_attempt", None),
    (metrics.API_RESTS, "api_rest", None),
    (metrics.MISDATED, "misdated", None),
    (metrics.MISSPELT, "misspelt", None),
    (metrics.REFUSED_LOST, "refused_lost", "reason"),
    (metrics.REFUSED_VERIFIED, "refused_verified", None),
    (metrics.LIMITED, "limited", "limit"),
)


class ProcessCounts:
    """What this process counts, from one look to the next."""

    def __init__(self, snapshot: Callable[[], dict[TallyKey, KindCount]] | None = None) -> None:
        self._snapshot = snapshot or take_snapshot
        self._before = self._snapshot()
        self._now = self._before

    def look(self) -> dict[TallyKey, KindCount]:
        """What was counted since the last look that was `settled`."""
        self._now = self._snapshot()
        differences = {key: _minus(count, self._before.get(key, KindCount(0))) for key, count in self._now.items()}
        counted = {key: count for key, count in differences.items() if count.number > 0}
        return dict(_named(counted)) | _gauges()

    def settle(self) -> None:
        """What the last look showed is written, and is not shown again."""
        self._before = self._now


def take_snapshot() -> dict[TallyKey, KindCount]:
    """All that this process has counted since it began."""
    return dict(_counters()) | dict(_ended()) | dict(_lag()) | _unknown()


def _counters() -> Iterator[tuple[TallyKey, KindCount]]:
    for counter, kind, label in _COUNTERS:
        for labels, value in _samples(counter, "_total"):
            of_source = labels.get("source", "")
            detail = labels[label] if label is not None else ""
            yield TallyKey(of_source, kind or labels["status"], detail), KindCount(int(value))


def _unknown() -> dict[TallyKey, KindCount]:
    return {
        TallyKey("", UNKNOWN_SOURCE, name): KindCount(number)
        for name, number in few_names.unknown_asked.copy().items()
        if number >= FEW_OF_A_NAME
    }


def _ended() -> Iterator[tuple[TallyKey, KindCount]]:
    for labels, value in _samples(metrics.ENDED_DELIVERIES, "_total"):
        detail = f"{labels['state']}/{labels['outcome']}" if labels["outcome"] else labels["state"]
        yield TallyKey(labels["source"], "ended", detail), KindCount(int(value))


def _lag() -> Iterator[tuple[TallyKey, KindCount]]:
    for kind, histogram in (("lag", metrics.APPLIED_SECONDS), ("freshness", metrics.FRESHNESS_SECONDS)):
        sums = {labels["source"]: value for labels, value in _samples(histogram, "_sum")}
        for labels, value in _samples(histogram, "_count"):
            yield TallyKey(labels["source"], kind, ""), KindCount(int(value), sums.get(labels["source"], 0.0))


def _gauges() -> dict[TallyKey, KindCount]:
    """What stands so now, for the minute that it is seen in."""
    hung = sum(int(value) for _, value in _samples(metrics.HUNG_WORKERS, ""))
    return {TallyKey("", "hung", ""): KindCount(hung)} if hung else {}


def _named(counted: Counted) -> Iterator[tuple[TallyKey, KindCount]]:
    """With what others wrote, where the metric has no label for it."""
    for key, count in counted.items():
        if key.kind == "misspelt":
            yield key._replace(detail=few_names.asked_instead.get(key.source, "")), count
        else:
            yield key, count
        if key.kind == "refused" and key.detail == "body_too_large" and key.source in few_names.largest_refused:
            yield TallyKey(key.source, TOO_LARGE, str(few_names.largest_refused[key.source])), count


def _samples(metric: MetricWrapperBase, suffix: str) -> Iterator[tuple[dict[str, str], float]]:
    for family in metric.collect():
        for sample in family.samples:
            if sample.name == family.name + suffix:
                yield sample.labels, sample.value


def _minus(count: KindCount, before: KindCount) -> KindCount:
    return KindCount(count.number - before.number, count.amount - before.amount)
