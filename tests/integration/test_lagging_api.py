"""The simulated Sigma PIM with an API that lags behind: the changes of its events reach the mirror."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from histories import Api, new_kit, post
from shopping import new_worker

from handlers import sigma as dialect
from handlers.api import client
from handlers.catalog import Product
from simulator.clock import RunningClock
from simulator.systems import SYSTEMS

#: The answer of the API about an unknown record.
UNKNOWN = {"error": "NOT_FOUND", "message": "no such record"}


class Copy(httpx.HTTPTransport):
    """Returns the API's answers from the last time that it did not lag."""

    def __init__(self) -> None:
        super().__init__()
        self.lags = False
        self.answers: dict[str, httpx.Response] = {}
        self.asked = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if not self.lags:
            found = super().handle_request(request)
            self.answers[request.url.path] = httpx.Response(found.status_code, content=found.read())
        known = self.answers.get(request.url.path)
        return (
            httpx.Response(404, json=UNKNOWN)
            if known is None
            else httpx.Response(known.status_code, content=known.content)
        )


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with Api() as running:
        yield running


@pytest.fixture
def copy(monkeypatch) -> Copy:
    """Make the dialect's client read from the lagging copy."""
    reading = Copy()

    def through_the_copy(*arguments, **options):
        made = client(*arguments, **options)
        made._transport = reading
        return made

    monkeypatch.setattr(dialect, "client", through_the_copy)
    return reading


class Shop:
    """A simulated Sigma PIM, and a kit that receives its webhooks."""

    def __init__(self, kit, api) -> None:
        self.kit = kit
        self.system = SYSTEMS["sigma"]("sigma", seed=7, clock=RunningClock())
        self.system.subscribe("http://receiver.test/hooks")
        api.show(self.system)
        settings = self.system.settings(api_url=api.url) | {"api_lag_seconds": 60}
        self.worker = new_worker(kit, sources={"sigma": kit.source("sigma", **settings)})

    def tell(self, changes) -> str:
        """Send the messages of these changes, and return the family that they belong to."""
        for change in changes:
            for message in self.system.messages(change):
                post(self.kit, "sigma", message)
        return changes[-1].family

    def create(self) -> str:
        return self.tell(self.system.create(self.now(), name="Lamp"))

    def now(self) -> datetime:
        moment = self.kit.now().astimezone(UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def work(self, *, after: float = 0) -> None:
        self.kit.advance(seconds=after)
        while self.worker.work():
            pass


@pytest.fixture
def shop(lend_database, api, copy) -> Iterator[Shop]:
    with new_kit(lend_database) as kit:
        running = Shop(kit, api)
        with closing(running.worker):
            yield running


def test_a_created_record_is_active_once_the_api_knows_it(shop, copy):
    copy.lags = True
    family = shop.create()
    shop.work()
    assert shop.kit.rows(Product) == []
    assert "does not have the record yet" in shop.kit.deliveries()[0]["reason"]
    copy.lags = False
    shop.work(after=6)
    row = shop.kit.row(Product, family)
    assert (row.active, row.name) == (True, "Lamp")
    assert [each["state"] for each in shop.kit.deliveries()] == ["processed"]


def test_an_updated_record_gets_its_new_values_once_the_api_shows_them(shop, copy):
    family = shop.create()
    shop.work()
    copy.lags = True
    shop.tell(shop.system.alter(family, shop.now() + timedelta(seconds=60), name="Better lamp"))
    shop.work()
    assert shop.kit.row(Product, family).name == "Lamp"
    copy.lags = False
    shop.work(after=6)
    assert shop.kit.row(Product, family).name == "Better lamp"
    assert {each["state"] for each in shop.kit.deliveries()} == {"processed"}


def test_an_update_within_a_second_of_the_last_one_waits_for_the_newer_record(shop, copy):
    family = shop.create()
    shop.work()
    copy.lags = True
    shop.tell(shop.system.alter(family, shop.now() + timedelta(milliseconds=300), name="Better lamp"))
    shop.work()
    copy.lags = False
    shop.work(after=6)
    assert shop.kit.row(Product, family).name == "Better lamp"


def test_the_answer_of_an_api_that_never_catches_up_is_accepted_after_the_bound(shop, copy):
    copy.lags = True
    family = shop.create()
    for wait in (0, 6, 30):
        shop.work(after=wait)
        assert [each["state"] for each in shop.kit.deliveries()] == ["pending"]
    shop.work(after=26)
    delivery = shop.kit.deliveries()[0]
    assert (delivery["state"], delivery["attempts_made"], copy.asked) == ("processed", 4, 4)
    assert not shop.kit.row(Product, family).active


def test_a_record_deleted_meanwhile_is_not_waited_for(shop, copy):
    copy.lags = True
    family = shop.create()
    shop.work()
    copy.lags = False
    shop.kit.advance(seconds=1)
    shop.tell(shop.system.erase(family, shop.now()))
    shop.work()
    shop.work(after=6)
    assert {each["state"] for each in shop.kit.deliveries()} == {"processed"}
    assert not shop.kit.row(Product, family).active


def test_a_replayed_old_delivery_accepts_the_answer_at_once(shop, copy):
    family = shop.create()
    shop.work()
    shop.tell(shop.system.erase(family, shop.now() + timedelta(seconds=1)))
    shop.work()
    shop.kit.advance(seconds=3600)
    asked = copy.asked
    created = shop.kit.deliveries()[0]
    shop.kit.inbox.replay([int(created["id"])], now=shop.kit.now())
    shop.work()
    assert {each["state"] for each in shop.kit.deliveries()} == {"processed"}
    assert copy.asked == asked + 1
