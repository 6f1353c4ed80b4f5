"""A batch is bounded in bytes as well as in deliveries: claimed, parsed, fetched and written at once."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from contextlib import closing
from pathlib import Path
from typing import Any

import exploding
import httpx
import pytest
from shopping import Named, drain, named, new_worker, states

from handlers.catalog import Product
from receiver import Event, Mirror, SourceSettings
from receiver.worker import handling, hydration, reading

KILOBYTE = 1024


def send_large(kit, numbers: range, kilobytes: int) -> None:
    for number in numbers:
        kit.send("shop", "product.updated", id=f"A{number:03}", data={"name": "x" * kilobytes * KILOBYTE})


def test_a_claim_is_bounded_in_bytes_of_bodies_and_takes_one_larger_body_alone(kit):
    send_large(kit, range(5), 40)
    send_large(kit, range(5, 6), 200)
    send_large(kit, range(6, 8), 40)
    with closing(new_worker(kit, max_batch_bytes=100 * KILOBYTE)) as worker:
        assert [worker.work() for _ in range(6)] == [2, 2, 1, 1, 2, 0]
    assert states(kit) == ["processed"] * 8


def test_small_bodies_are_claimed_up_to_the_number(kit):
    for number in range(7):
        kit.send("shop", "product.updated", id=f"A{number}", data=named())
    with closing(new_worker(kit, batch_size=5)) as worker:
        assert [worker.work() for _ in range(3)] == [5, 2, 0]


def test_only_a_portion_of_a_batch_is_parsed_at_once_and_freed_when_settled(shop, kit, monkeypatch):
    monkeypatch.setattr(reading, "PORTION_BYTES", 100 * KILOBYTE)
    alive: list[Any] = []
    most = []

    @shop.on("product.updated", override=True)
    def upsert(event: Event[Named], mirror: Mirror) -> None:
        alive.append(weakref.ref(event.data))
        gc.collect()
        most.append(sum(each() is not None for each in alive))
        mirror.upsert(Product, event.entity_id, name=event.data.name[:9])

    send_large(kit, range(9), 30)
    with closing(new_worker(kit)) as worker:
        assert worker.work() == 9
    assert max(most) <= 3
    assert states(kit) == ["processed"] * 9


def test_bodies_that_grow_when_parsed_use_the_memory_of_one_at_a_time(tmp_path):
    exploding.fill(tmp_path)
    command = [sys.executable, str(Path(exploding.__file__)), str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout.split()
    worked, megabytes = map(int, said)
    assert worked == exploding.BODIES
    # Together they would use fifteen times the memory of one.
    assert megabytes < 90


@pytest.mark.parametrize(("kilobytes", "largest"), [(1, 20), (600, 9)])
def test_beyond_a_bound_of_bytes_fetched_data_is_settled_before_more_is_fetched(shop, kit, settled, kilobytes, largest):
    @shop.connect
    def client(source: SourceSettings) -> httpx.Client:
        answer = httpx.Response(200, content=b"x" * kilobytes * KILOBYTE)
        return httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=answer.content)))

    @shop.hydrate("product.updated")
    def fetch(event: Event[Any], api: httpx.Client) -> bytes:
        return api.get("http://api/").content

    kit.source("shop", api_url="http://api")
    for number in range(20):
        kit.send("shop", "product.updated", id=f"A{number}", data=named())
    with closing(new_worker(kit)) as worker:
        assert worker.work() == 20
    assert sum(settled) == 20
    # The number that passes the bound, and the calls under way by then.
    assert max(settled) <= largest + hydration.HYDRATIONS_AT_ONCE
    assert states(kit) == ["processed"] * 20


def test_many_writes_are_settled_before_further_ones(shop, kit, settled, monkeypatch):
    monkeypatch.setattr(handling, "MOST_WRITES", 50)

    @shop.on("product.many")
    def upsert(event: Event[Any], mirror: Mirror) -> None:
        for number in range(20):
            mirror.upsert(Product, f"{event.entity_id}-{number}", name="Lamp")

    for number in range(7):
        kit.send("shop", "product.many", id=f"A{number}")
    with closing(new_worker(kit)) as worker:
        drain(worker)
    assert settled == [3, 3, 1]
    assert len(kit.rows(Product)) == 140
