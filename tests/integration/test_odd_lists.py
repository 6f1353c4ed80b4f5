"""Code of a dialect that asks its source, and does anything: its run says why, and all others go on."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from itertools import cycle
from typing import Any

import httpx
import pytest
from paging import listened_to
from running import Runs, asked, new_reconciler
from shopping import NOON, new_shop, sources_of
from waiting import TIMEOUT, wait_until

from handlers.catalog import Product
from receiver import Listed, ListPage, SourceSettings, Wanted
from receiver.api.ask import SourceQuestions
from receiver.errors import ConfigurationError, HookmirrorError, WiringError
from receiver.loading import foreign_code
from receiver.reconcile.ask import ask_source
from receiver.runs.feeder import Feeder, FeederThread
from receiver.runs.leases import with_expired_lease
from receiver.runs.reconcile import RECONCILE_LEASE
from receiver.runs.tables import RunState
from receiver.testing import Webhooks

#: Errors that are no `Exception`, and one that is.
ODD = [SystemExit, asyncio.CancelledError, KeyboardInterrupt, GeneratorExit, BaseException, ValueError]


@pytest.fixture
def kit(tmp_path, shop) -> Iterator[Webhooks]:
    """Open a kit on SQLite, because the database makes no difference to code that fails before it writes."""
    with closing(Webhooks(tmp_path, {"shop": shop})) as opened:
        yield opened


def connected(shop, kit) -> None:
    """Give the shop an API."""

    @shop.connect
    def connect(source: SourceSettings) -> httpx.Client:
        return httpx.Client(base_url="http://nowhere.invalid")

    listened_to(kit)


def walking(shop, do: Callable[[], Any]) -> None:
    @shop.listing(Product)
    def walk(api: httpx.Client) -> Iterator[Listed]:
        yield Listed(Product, "A1", {"name": "Lamp"})
        do()


def paging(shop, do: Callable[[], Any]) -> None:
    @shop.pages(Product)
    def read(api: httpx.Client, start: Any) -> ListPage:
        do()
        return ListPage([Listed(Product, "A1", {"name": "Lamp"})])


def connecting(shop, do: Callable[[], Any]) -> None:
    paging(shop, lambda: None)

    def connect(source: SourceSettings) -> httpx.Client:
        do()
        return httpx.Client(base_url="http://nowhere.invalid")

    shop.connect(connect, override=True)


def looking_up(shop, do: Callable[[], Any]) -> None:
    @shop.lookup(Product)
    def ask(api: httpx.Client, wanted: Wanted) -> list[Listed]:
        do()
        return [Listed(Product, wanted.external_id, {"name": "Lamp"})]


@contextmanager
def feeding(kit) -> Iterator[Feeder]:
    """Feed runs on a thread, as a worker's process does."""
    feeder = new_reconciler(kit)
    thread = FeederThread(lambda: feeder)
    thread.start()
    try:
        yield feeder
    finally:
        thread.stop()


def planned(runs: Runs) -> int:
    """Ask for a plan, and return its run."""
    request = asked("plan reconcile", source="shop", force=False)
    return int(runs.verbs.plan(request, "reconcile", sources=["shop"], now=runs.kit.now()).result["run"])


@pytest.mark.parametrize(("error", "where"), [*zip(ODD, cycle([walking, paging, connecting]), strict=False)])
def test_a_run_whose_list_raises_anything_says_so_and_the_feeder_goes_on(kit, shop, where, error):
    broken: list[bool] = []

    def do() -> None:
        if broken:
            raise error("of the list's")

    connected(shop, kit)
    where(shop, do)
    with feeding(kit) as feeder:
        broken.append(True)
        runs = Runs(kit)
        run = planned(runs)
        feeder.wake()
        wait_until(lambda: "of the list's" in (runs.run(run)["trouble"] or ""), "the reason")
        broken.clear()
        again = planned(runs)
        feeder.wake()
        wait_until(lambda: runs.run(again)["state"] == RunState.PLANNED, "the plan")


def test_an_interrupt_of_the_main_thread_is_no_failure_of_a_run(kit, shop):
    def interrupt() -> None:
        raise KeyboardInterrupt

    connected(shop, kit)
    paging(shop, interrupt)
    runs = Runs(kit)
    run = planned(runs)
    with closing(new_reconciler(kit)) as feeder, pytest.raises(KeyboardInterrupt):
        feeder.step_all()
    assert runs.run(run)["trouble"] is None


def test_a_run_whose_list_never_returns_is_known_once_its_lease_has_expired(kit, shop):
    begun, over = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        over.wait(10 * TIMEOUT)

    connected(shop, kit)
    paging(shop, hang)
    with feeding(kit) as feeder:
        run = planned(Runs(kit))
        feeder.wake()
        assert begun.wait(TIMEOUT)
        with kit.database.read() as connection:
            assert with_expired_lease(connection, kit.now()) == []
            (found,) = with_expired_lease(connection, kit.now() + RECONCILE_LEASE + timedelta(minutes=5))
        assert found[:3] == (run, "reconcile", ["shop"])
        over.set()


@pytest.mark.parametrize(
    ("where", "ends"), [(walking, "returns"), (paging, "raises"), (connecting, "returns"), (connecting, "raises")]
)
def test_a_child_that_a_list_forked_does_not_go_on_as_a_second_feeder(kit, shop, where, ends):
    children: list[int] = []

    def do() -> None:
        child = os.fork()
        if child == 0 and ends == "raises":
            raise ValueError("in the child")
        children.append(child)

    connected(shop, kit)
    where(shop, do)
    feeder, runs = new_reconciler(kit), Runs(kit)
    run = planned(runs)
    for _ in feeder.steps(run):
        pass
    feeder.close()
    assert [ended(child) for child in children] == [1] * len(children)
    assert runs.run(run)["state"] == RunState.PLANNED


def test_a_child_that_a_lookup_forked_does_not_answer(kit, shop):
    children: list[int] = []
    connected(shop, kit)
    looking_up(shop, lambda: children.append(os.fork()))
    assert ask_source(kit.database, kit.source("shop"), Product, "A1").known_there
    assert [ended(child) for child in children] == [1]


def ended(child: int) -> int:
    """Wait for a child, and return its exit code."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize("error", ODD)
def test_a_question_whose_lookup_raises_anything_is_answered_with_the_reason(kit, shop, error):
    connected(shop, kit)

    def fail() -> None:
        raise error("of the lookup's")

    looking_up(shop, fail)
    questions = SourceQuestions(kit.database, lambda: sources_of(kit))

    async def ask() -> str:
        try:
            async with asyncio.timeout(TIMEOUT):
                await questions._turns.run(lambda: _asked(kit))
        except HookmirrorError as refusal:
            return str(refusal)
        return ""

    assert "of the lookup's" in asyncio.run(ask())
    questions.close()


def _asked(kit) -> None:
    with foreign_code("The lookup of shop"):
        ask_source(kit.database, kit.source("shop"), Product, "A1")


def test_an_interrupt_of_a_person_is_not_an_error_of_the_code():
    with pytest.raises(KeyboardInterrupt), foreign_code("A test"):
        raise KeyboardInterrupt
    with pytest.raises(WiringError, match="GeneratorExit"), foreign_code("A test"):
        raise GeneratorExit
    with pytest.raises(WiringError, match="CancelledError"), foreign_code("A test"):
        raise asyncio.CancelledError


@pytest.mark.parametrize("error", ODD[1:])
def test_a_test_event_whose_compose_function_raises_anything_is_refused(error):
    shop = new_shop()

    @shop.compose
    def write(event_type: str, entity_id: str, at: Any, data: Any) -> Any:
        raise error("of the function's")

    with ThreadPoolExecutor(1) as pool, pytest.raises(ConfigurationError, match="of the function's"):
        pool.submit(shop.write, "product.updated", "A1", at=NOON, data=None).result(TIMEOUT)
