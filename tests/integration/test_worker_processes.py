"""Several worker processes on one database: each delivery once, each entity in one process at a time."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from datetime import timedelta

import pytest
from recording import Record, end, kill, wait_for_begin
from serving import TIMEOUT, wait_until
from shopping import NOON, named, states, url_of

from handlers.catalog import Product

#: There are more entities than the batches of two processes hold, so that the third finds some, too.
PROCESSES, EVENTS, ENTITIES = 3, 240, 30

#: Code that a process runs first: it looks for dead workers every second, much more often than in a release.
LOOKS_OFTEN = "from receiver.worker import reclaiming; reclaiming.LOOKS_PER_LEASE = 600"


@pytest.fixture
def record(tmp_path, kit):
    return Record(tmp_path, url_of(kit))


def tell(kit, entity: str, number: int = 0) -> str:
    at = NOON + timedelta(seconds=number)
    return kit.send("shop", "product.updated", id=entity, at=at, data=named(f"{number}")).delivery


def test_processes_share_the_work_by_entity_in_the_order_of_arrival(kit, record):
    with ExitStack() as stack:
        workers = [stack.enter_context(record.working()) for _ in range(PROCESSES)]
        for number in range(PROCESSES):
            # The processes that have begun are busy with the earlier ones, so that another process takes this one.
            tell(kit, f"SLOW{number}")
            wait_for_begin(record, f"SLOW{number}")
        for number in range(EVENTS):
            if number == EVENTS // 2:
                record.let_go()
            tell(kit, f"A{number % ENTITIES}", number)
        wait_until(lambda: set(states(kit)) == {"processed"}, "the workers to finish")
        for worker in workers:
            end(worker)

    assert record.overlaps() == []
    begun = defaultdict(list)
    for note in record.notes("begin"):
        begun[note.entity].append(int(note.delivery))
    assert all(deliveries == sorted(set(deliveries)) for deliveries in begun.values())
    assert sum(map(len, begun.values())) == EVENTS + PROCESSES
    assert len({note.process for note in record.notes("begin")}) == PROCESSES
    assert {delivery["attempts_made"] for delivery in kit.deliveries()} == {1}
    last = {f"A{number % ENTITIES}": str(number) for number in range(EVENTS)}
    last |= {f"SLOW{number}": "0" for number in range(PROCESSES)}
    assert {row.external_id: row.name for row in kit.rows(Product)} == last


def test_the_deliveries_of_a_killed_process_are_reclaimed_on_its_machine_before_the_lease_ends(kit, record):
    """An attempt that the dead process had begun counts."""
    record.before = LOOKS_OFTEN
    slow = tell(kit, "SLOW")
    others = [tell(kit, f"A{number}") for number in range(5)]
    with record.working() as first, record.working() as second:
        begun = wait_for_begin(record, "SLOW")
        victim, heir = (first, second) if begun.process == first.pid else (second, first)
        kill(victim)
        record.let_go()
        wait_until(lambda: set(states(kit)) == {"processed"}, "the heir")
        end(heir)
    again = wait_for_begin(record, "SLOW", times=2)
    assert again.process == heir.pid
    assert (again.at - begun.at) / 1e9 < record.lease_seconds
    shown = kit.delivery(slow)
    assert (shown["attempts_made"], [each["number"] for each in shown["attempts"]]) == (2, [1])
    assert shown["attempts"][0]["reason"] == "The worker stopped or hung during this attempt."
    assert {kit.delivery(each)["state"] for each in others} == {"processed"}


def test_the_deliveries_of_a_vanished_machine_are_reclaimed_when_the_lease_ends(kit, record):
    answer = tell(kit, "A1")
    elsewhere = "elsewhere:0123456789:77:12345:abcd"
    lease = timedelta(seconds=2)
    claimed_at = kit.now()
    assert kit.inbox.claim(elsewhere, ["shop"], limit=1, now=claimed_at, lease=lease)
    record.before = LOOKS_OFTEN
    with record.working() as worker:
        begun = wait_for_begin(record, "A1")
        wait_until(lambda: states(kit) == ["processed"], "the worker")
        end(worker)
    assert begun.at / 1e9 >= (claimed_at + lease).timestamp()
    shown = kit.delivery(answer)
    assert (shown["attempts_made"], shown["attempts"][0]["worker"]) == (2, elsewhere)


def test_a_process_asked_to_end_finishes_its_delivery_and_returns_the_others(kit, record):
    record.batch_size = 100
    for name in ("SLOW", *(f"A{number}" for number in range(1, 60))):
        kit.send("shop", "product.updated", id=name, at=NOON, data={"name": "Lamp", "seconds": 0.1})
    with record.working() as worker:
        wait_for_begin(record, "SLOW")
        worker.terminate()
        record.let_go()
        assert worker.wait(TIMEOUT) == 0
        assert "Traceback" not in worker.stderr.read()
    done = len(record.notes("begin"))
    assert len(record.notes("end")) == done < 60
    assert states(kit) == ["processed"] * done + ["pending"] * (60 - done)
    assert [delivery["attempts_made"] for delivery in kit.deliveries()] == [1] * done + [0] * (60 - done)
