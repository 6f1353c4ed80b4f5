"""How many deliveries a worker claims: fewer after an error, and more while no webhook arrives."""

from __future__ import annotations

import pytest

from receiver.worker.batch_sizes import CLAIMED_BESIDE_REQUESTS, LARGER_WHEN_CALM, QUICK_PASS, BatchSize


def sizes(
    size: BatchSize,
    passes: int,
    *,
    is_calm: bool = True,
    requests_wait: bool = False,
    seconds: float = 0.0,
    is_done: bool = True,
) -> list[int]:
    """Return the number that each of these passes claims; all passes take equally long."""
    found = []
    for _ in range(passes):
        found.append(size.next(is_calm=is_calm, requests_wait=requests_wait))
        size.passed(seconds=seconds, is_done=is_done)
    return found


def test_while_webhooks_arrive_each_batch_has_the_usual_size():
    assert sizes(BatchSize(10, grows=True), 3, is_calm=False) == [10, 10, 10]


def test_while_none_arrives_a_batch_grows_to_a_bound():
    assert LARGER_WHEN_CALM == 4
    assert sizes(BatchSize(10, grows=True), 4) == [10, 20, 40, 40]


def test_while_requests_wait_a_batch_is_small():
    assert CLAIMED_BESIDE_REQUESTS == 50
    assert sizes(BatchSize(200, grows=True), 2, is_calm=False, requests_wait=True) == [50, 50]
    assert sizes(BatchSize(10, grows=True), 2, is_calm=False, requests_wait=True) == [10, 10]


def test_after_requests_have_waited_a_batch_has_the_usual_size_again():
    size = BatchSize(200, grows=True)
    sizes(size, 2, is_calm=False, requests_wait=True)
    assert sizes(size, 1, is_calm=False) == [200]


def test_where_batches_may_not_grow_each_has_the_usual_size():
    assert sizes(BatchSize(10, grows=False), 3) == [10, 10, 10]


def test_deliveries_that_are_claimed_one_by_one_stay_alone():
    """A rehearsal relies on it: the delivery that its process held when it ended is the one that ended it."""
    assert sizes(BatchSize(1, grows=True), 3) == [1, 1, 1]


def test_no_batch_grows_beyond_a_thousand_deliveries():
    assert sizes(BatchSize(400, grows=True), 4) == [400, 800, 1_000, 1_000]
    assert sizes(BatchSize(1_500, grows=True), 2) == [1_500, 1_500]


def test_the_first_batch_after_an_arrival_has_the_usual_size_again():
    size = BatchSize(10, grows=True)
    sizes(size, 3)
    assert sizes(size, 2, is_calm=False) == [10, 10]


@pytest.mark.parametrize("passed", [{"seconds": QUICK_PASS}, {"is_done": False}], ids=["slow", "with calls left"])
def test_a_batch_does_not_grow_after_a_pass_that_was_slow_or_left_deliveries(passed):
    assert sizes(BatchSize(10, grows=True), 3, **passed) == [10, 10, 10]


def test_after_an_error_batches_begin_with_one_delivery():
    size = BatchSize(10, grows=True)
    sizes(size, 3)
    size.failed()
    assert sizes(size, 6, is_calm=False) == [1, 2, 4, 8, 10, 10]
