"""Counting: the growth of this process's metrics since its last tally.

The endpoint counts nothing for tallies alone, so an ack costs no more than its metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from receiver.metrics import few_names, metrics


class TallyKey(NamedTuple):
    """The subject of a tally: a kind of event at a source, with a detail."""

    source: str
    kind: str
    detail: str


class KindCount(NamedTuple):
    number: int
    #: A sum of amounts, for kinds that have them.
    amount: float = 0.0


#: The longest delay of a tally's minute after the arrivals that it counts.
LATE = timedelta(minutes=2)

#: How long counts wait for a database that is away. Older ones count in the first minute that may still wait.
TALLIES_WAIT = timedelta(hours=2)

Counted = Mapping[TallyKey, KindCount]

#: Kinds of tallies without a metric: a running process, by release and fingerprint of its wiring, and one whose
#: endpoint could have received webhooks.
RUNNING, WATCHED = "running", "watched"

#: Deliveries that a worker brought to an end, and those that were stored as ended; the detail begins with the state.
ENDS, ENDS_ON_ARRIVAL = "ended", "ended_on_arrival"

#: Bodies over `max_body_bytes`; the detail is the size of the largest.
TOO_LARGE = "too_large"

#: Webhooks for an unknown source, by its name, and the number in one process from which a name is tallied. A stranger
#: tries each name only once.
UNKNOWN_SOURCE, FEW_OF_A_NAME = "unknown_source", 3

#: Webhooks for an unknown source whose name resembles that of a source; the detail is the last such name.
MISSPELT_SOURCE = "misspelt"

#: Webhooks that one secret verified, by its mark; and a change of a source's secrets, by the mark of all.
SECRET_USED, SECRETS_SET = "secret", "secrets"

#: For each counter, the kind of its tallies (None: the value of its label `status`) and the label with the detail.
_COUNTERS: tuple[tuple[MetricWrapperBase, str | None, str | None], ...] = (
    (metrics.ACCEPTED_DELIVERIES, None, None),
    (metrics.REFUSED, "refused", "code"),
    (metrics.VERIFIED, "verified", "secret"),
    (metrics.UNHANDLED, "unhandled", "event_type"),
    (metrics.ENDED_ON_ARRIVAL, ENDS_ON_ARRIVAL, "state"),
    (metrics.FAILED_ATTEMPTS, "failed_attempt", None),
    (metrics.API_RESTS, "api_rest", None),
    (metrics.MISDATED, "misdated", None),
    (metrics.MISSPELT, MISSPELT_SOURCE, None),
    (metrics.REFUSED_LOST, "refused_lost", "reason"),
    (metrics.REFUSED_VERIFIED, "refused_verified", None),
    (metrics.LIMITED, "limited", "limit"),
    (metrics.ACCEPTOR_ENDED, "acceptor_ended", None),
)


class ProcessCounts:
    """The counts of this process since its last tally."""

    def __init__(self, snapshot: Callable[[], dict[TallyKey, KindCount]] | None = None) -> None:
        self._snapshot = snapshot or take_snapshot
        self._before = self._snapshot()

    def look(self) -> dict[TallyKey, KindCount]:
        """Return the counts since the last look."""
        before, self._before = self._before, self._snapshot()
        differences = {key: _minus(count, before.get(key, KindCount(0))) for key, count in self._before.items()}
        counted = {key: count for key, count in differences.items() if count.number > 0}
        return dict(_named(counted)) | _gauges()


def take_snapshot() -> dict[TallyKey, KindCount]:
    """Read all counts of this process since its start."""
    return dict(_counters()) | dict(_ended()) | dict(_lag()) | _unknown() | _secrets()


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


def _secrets() -> dict[TallyKey, KindCount]:
    used = metrics.uses_of_secrets.copy()
    return {TallyKey(source, SECRET_USED, mark): KindCount(number) for (source, mark), number in used.items()}


def _ended() -> Iterator[tuple[TallyKey, KindCount]]:
    for labels, value in _samples(metrics.ENDED_DELIVERIES, "_total"):
        detail = f"{labels['state']}/{labels['outcome']}" if labels["outcome"] else labels["state"]
        yield TallyKey(labels["source"], ENDS, detail), KindCount(int(value))


def _lag() -> Iterator[tuple[TallyKey, KindCount]]:
    for kind, histogram in (("lag", metrics.APPLIED_SECONDS), ("freshness", metrics.FRESHNESS_SECONDS)):
        sums = {labels["source"]: value for labels, value in _samples(histogram, "_sum")}
        for labels, value in _samples(histogram, "_count"):
            yield TallyKey(labels["source"], kind, ""), KindCount(int(value), sums.get(labels["source"], 0.0))


def _gauges() -> dict[TallyKey, KindCount]:
    """Current values, which are tallied for the minute in which they are read."""
    hung = sum(int(value) for _, value in _samples(metrics.HUNG_WORKERS, ""))
    return {TallyKey("", "hung", ""): KindCount(hung)} if hung else {}


def _named(counted: Counted) -> Iterator[tuple[TallyKey, KindCount]]:
    """The counts, with a detail added to the kinds whose metric has no label for it."""
    for key, count in counted.items():
        if key.kind == MISSPELT_SOURCE:
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


def summed(first: Counted, second: Counted) -> Counted:
    """The sum of two counts."""
    none = KindCount(0)
    pairs = {key: (first.get(key, none), second.get(key, none)) for key in (*first, *second)}
    return {key: KindCount(one.number + two.number, one.amount + two.amount) for key, (one, two) in pairs.items()}
