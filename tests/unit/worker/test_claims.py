"""What a worker claims next, and when it looks for what is due first."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from receiver.inbox.due import Due
from receiver.inbox.leases import Claimed
from receiver.worker.batch_sizes import BatchSize
from receiver.worker.claims import Claims

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

SIZE = 10


class Backlog:
    """An inbox that only counts: deliveries that are due, and the looks at them."""

    def __init__(self, ordinary: int, suspects: int = 0, *, is_postgresql: bool = True) -> None:
        self.ordinary, self.suspects = ordinary, suspects
        self.database = SimpleNamespace(is_postgresql=is_postgresql)
        self.looks = 0

    def due(self, sources: Collection[str], *, now: datetime) -> Due:
        self.looks += 1
        return Due(ordinary=self.ordinary > 0, suspect=self.suspects > 0, is_calm=False)

    def claim(self, worker: str, sources: Collection[str], *, limit: int, suspect: bool, **_: Any) -> list[Claimed]:
        number = min(limit, self.suspects if suspect else self.ordinary)
        if suspect:
            self.suspects -= number
        else:
            self.ordinary -= number
        plain = b"suspect" if suspect else b""
        return [Claimed(each, "shop", 1, 1, NOON, plain, None, "product.updated", NOON) for each in range(number)]


def claims(backlog: Backlog, number: int) -> list[tuple[int, bool]]:
    """Claim this many times, and return how many deliveries each claim has, and whether they are suspects."""
    worker_claims = Claims(backlog, "worker", max_bytes=1 << 20, lease=timedelta(minutes=1))  # type: ignore[arg-type]
    size = BatchSize(SIZE, grows=False)
    found = [worker_claims.claim({"shop"}, size, now=NOON) for _ in range(number)]
    return [(len(claimed), any(each.plain for each in claimed)) for claimed in found]


def test_on_postgresql_the_claim_after_a_full_one_does_without_a_look():
    backlog = Backlog(4 * SIZE)
    assert claims(backlog, 4) == [(SIZE, False)] * 4
    assert backlog.looks == 2


def test_on_sqlite_each_claim_looks_whether_webhooks_arrive():
    backlog = Backlog(4 * SIZE, is_postgresql=False)
    assert claims(backlog, 4) == [(SIZE, False)] * 4
    assert backlog.looks == 4


@pytest.mark.parametrize("is_postgresql", [True, False])
def test_after_a_full_claim_an_empty_backlog_is_found_empty(is_postgresql):
    assert claims(Backlog(SIZE, is_postgresql=is_postgresql), 3) == [(SIZE, False), (0, False), (0, False)]


def test_suspects_that_are_due_with_ordinary_deliveries_take_turns_with_them():
    backlog = Backlog(3 * SIZE, suspects=2)
    assert claims(backlog, 5) == [(SIZE, False), (1, True), (SIZE, False), (1, True), (SIZE, False)]


def test_a_suspect_waits_for_one_batch_at_most():
    """It became due after the look that the second claim does without."""
    backlog = Backlog(4 * SIZE)
    worker_claims = Claims(backlog, "worker", max_bytes=1 << 20, lease=timedelta(minutes=1))  # type: ignore[arg-type]
    size = BatchSize(SIZE, grows=False)
    worker_claims.claim({"shop"}, size, now=NOON)
    backlog.suspects = 1
    worker_claims.claim({"shop"}, size, now=NOON)
    worker_claims.claim({"shop"}, size, now=NOON)
    worker_claims.claim({"shop"}, size, now=NOON)
    assert backlog.suspects == 0


def test_a_suspect_that_is_due_alone_is_found_by_the_claim_after_a_full_one():
    backlog = Backlog(SIZE)
    worker_claims = Claims(backlog, "worker", max_bytes=1 << 20, lease=timedelta(minutes=1))  # type: ignore[arg-type]
    size = BatchSize(SIZE, grows=False)
    worker_claims.claim({"shop"}, size, now=NOON)
    backlog.suspects = 1
    assert len(worker_claims.claim({"shop"}, size, now=NOON)) == 1
    assert backlog.suspects == 0


@pytest.mark.parametrize("missing", ["entity", "event_type", "occurred_at"])
def test_a_claimed_delivery_is_not_made_without_a_recorded_value_which_would_count_as_unread(missing):
    recorded = {"entity": ("product", "A1"), "event_type": "product.updated", "occurred_at": NOON}
    del recorded[missing]
    with pytest.raises(TypeError, match=missing):
        Claimed(id=1, source="shop", round=1, attempt=1, received_at=NOON, plain=b"", **recorded)
