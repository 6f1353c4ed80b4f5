"""Hydrate: the data that a thin event only names is fetched from the source's API, outside every transaction."""

from __future__ import annotations

import threading
from datetime import timedelta

import httpx
import pytest
import stamina
from pydantic import BaseModel
from serving import TIMEOUT
from shopping import NOON, drain, named, states
from structlog.testing import capture_logs
from targets import Reply, receiving

from handlers import api as asking
from handlers.api import NotFoundError, fetch, segment
from handlers.catalog import Product
from receiver import ApiError, Event, Mirror, Retry, SourceSettings


class SourceApi:
    """A source's API with a product's JSON, a status to refuse with, or a connection that breaks."""

    def __init__(self) -> None:
        self.answers: dict[str, dict | httpx.Response | None] = {}
        self.asked: list[str] = []
        self.closed = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        answer = self.answers.get(request.url.path.removeprefix("/products/"), httpx.Response(404))
        if answer is None:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, json=answer) if isinstance(answer, dict) else answer


@pytest.fixture
def api(shop, kit) -> SourceApi:
    """Serve the API for `product.thin`, whose handler writes the fetched data."""
    served = SourceApi()

    @shop.connect
    def connect(source: SourceSettings) -> httpx.Client:
        return httpx.Client(base_url=source.api_url, transport=httpx.MockTransport(served))

    @shop.hydrate("product.thin")
    def fetch_product(event: Event, client: httpx.Client) -> dict | None:
        try:
            return fetch(client, f"/products/{segment(event.entity_id)}")
        except NotFoundError:
            return None

    @shop.on("product.thin")
    def upsert(event: Event, mirror: Mirror) -> None:
        if event.hydrated is None:
            mirror.deactivate(Product, event.entity_id)
        else:
            mirror.upsert(Product, event.entity_id, name=event.hydrated["name"])

    kit.source("shop", api_url="http://api.test", secrets=["TestSecretOf32CharactersForTests"])
    return served


def test_a_thin_event_leaves_the_row_that_the_source_s_api_returns(kit, api, worker):
    api.answers["A/1"] = {"name": "Lamp"}
    api.answers["A"] = {"name": "another product"}
    kit.send("shop", "product.thin", id="A/1")
    drain(worker)
    assert kit.row(Product, "A/1").name == "Lamp"


def test_the_dialect_decides_about_a_row_that_the_source_no_longer_has(kit, api, worker):
    kit.send("shop", "product.thin", id="GONE")
    drain(worker)
    assert not kit.row(Product, "GONE").active


def test_a_busy_api_is_asked_again_at_the_time_it_names(kit, api, worker):
    api.answers["A1"] = httpx.Response(503, headers={"Retry-After": "120"})
    answer = kit.send("shop", "product.thin", id="A1")
    before = kit.now()
    drain(worker)
    delivery, wait = kit.delivery(answer), timedelta(seconds=120)
    assert delivery["state"] == "pending"
    assert delivery["reason"] == "/products/A1 of the source's API answered 503."
    assert before + wait <= delivery["next_attempt_at"] <= kit.now() + wait
    api.answers["A1"] = {"name": "Lamp"}
    kit.advance(seconds=121)
    drain(worker)
    assert (kit.delivery(answer)["state"], kit.row(Product, "A1").name) == ("processed", "Lamp")


def test_an_unreachable_api_is_asked_again_later(kit, api, worker):
    api.answers["A1"] = None
    answer = kit.send("shop", "product.thin", id="A1")
    drain(worker)
    assert kit.delivery(answer)["reason"] == "/products/A1 of the source's API cannot be reached: ConnectError."


def test_an_api_that_refuses_our_key_delays_only_its_own_deliveries(kit, api, worker):
    api.answers["A1"] = httpx.Response(403)
    answer = kit.send("shop", "product.thin", id="A1")
    kit.send("shop", "product.updated", id="A2", data=named())
    assert worker.work() == 2
    assert states(kit) == ["pending", "processed"]
    assert "answered 403: check api_key and api_secret" in kit.delivery(answer)["reason"]


def test_nothing_is_fetched_for_other_event_types_or_without_an_api(kit, api, worker):
    kit.send("shop", "product.updated", id="A1", data=named())
    kit.source("shop", api_url=None)
    kit.send("shop", "product.thin", id="A1", at=NOON)
    kit.drain()
    assert (api.asked, states(kit)) == ([], ["processed", "processed"])


def test_no_transaction_is_open_during_a_call_of_the_api(shop, kit, api, worker):
    answered = threading.Event()

    @shop.hydrate("product.slow")
    def fetch_slowly(event: Event, client: httpx.Client) -> None:
        def write_beside() -> None:
            kit.send("shop", "product.updated", id="A2", at=NOON + timedelta(minutes=1), data=named("meanwhile"))
            answered.set()

        threading.Thread(target=write_beside).start()
        assert answered.wait(TIMEOUT), "the endpoint could not write while the worker waited for the API"

    @shop.on("product.slow")
    def upsert(event: Event, mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id)

    kit.send("shop", "product.slow", id="A1")
    drain(worker)
    assert states(kit) == ["processed", "processed"]


def test_the_calls_of_one_batch_run_at_the_same_time(shop, kit, api, worker):
    together = threading.Barrier(4)

    @shop.hydrate("product.slow")
    def meet(event: Event, client: httpx.Client) -> None:
        together.wait(TIMEOUT)

    @shop.on("product.slow")
    def upsert(event: Event, mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id)

    for number in range(4):
        kit.send("shop", "product.slow", id=f"A{number}")
    assert worker.work() == 4
    assert states(kit) == ["processed"] * 4


def test_the_cookies_of_an_api_are_not_sent_to_it():
    answer = Reply(headers=(("Set-Cookie", "session=secret; Path=/"),), content=b"{}")
    with receiving(lambda *_: answer) as endpoint:
        source = SourceSettings(name="shop", api_url=endpoint.url)
        with asking.client(source, headers={"Idempotency-Key": "any"}) as client:
            assert [asking.post(client, "/graphql", {}) for _ in range(2)] == [{}, {}]
    assert [posted.headers.get("cookie") for posted in endpoint.posts] == [None, None]


@pytest.mark.parametrize("wraps", [True, False])
def test_a_refusing_api_is_one_line_without_a_traceback_however_many_deliveries_ask_it(shop, kit, api, worker, wraps):
    @shop.hydrate("product.other")
    def fetch_other(event: Event, client: httpx.Client) -> object:
        path = f"/products/{event.entity_id}"
        return fetch(client, path) if wraps else client.get(path).raise_for_status().json()

    @shop.on("product.other")
    def upsert_other(event: Event, mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id)

    for number in range(20):
        api.answers[f"A{number}"] = httpx.Response(403)
        kit.send("shop", "product.other", id=f"A{number}")
    with capture_logs() as lines:
        drain(worker)
    (line,) = [line for line in lines if line["event"] == "a call of a source's API failed"]
    assert "exception" not in line
    assert "403" in line["reason"]
    assert (line["source"], line["handler"].rpartition(".")[2]) == ("shop", "fetch_other")
    (own_round,) = kit.delivery(str(line["delivery"]))["rounds"]
    assert all("Traceback" in attempt["traceback"] for attempt in own_round["attempts"])


def test_an_api_that_begins_to_fail_in_another_way_is_another_line(shop, kit, api, worker):
    @shop.hydrate("product.other")
    def fetch_other(event: Event, client: httpx.Client) -> object:
        return fetch(client, f"/products/{event.entity_id}")

    @shop.on("product.other")
    def upsert_other(event: Event, mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id)

    with capture_logs() as lines:
        for status in (403, 404, 403):
            api.answers["A1"] = httpx.Response(status)
            kit.send("shop", "product.other", id="A1")
            drain(worker)
    found = [line["error"] for line in lines if line["event"] == "a call of a source's API failed"]
    assert found == ["ApiError", "NotFoundError"]


def test_a_mistake_of_a_handler_is_logged_with_its_traceback_once(shop, kit, worker):
    @shop.on("product.wrong")
    def divide(event: Event, mirror: Mirror) -> None:
        raise ZeroDivisionError

    for number in range(20):
        kit.send("shop", "product.wrong", id=f"A{number}")
    with capture_logs() as lines:
        drain(worker)
    (line,) = [line for line in lines if line["event"] == "a handler failed"]
    assert line["exception"].startswith("Traceback")
    assert (line["source"], line["error"]) == ("shop", "ZeroDivisionError")


def test_the_log_says_why_the_calls_to_an_api_pause_and_when_it_answers_again(kit, api, worker):
    for number in range(10):
        api.answers[f"A{number}"] = httpx.Response(503)
        kit.send("shop", "product.thin", id=f"A{number}")
    with capture_logs() as lines:
        drain(worker)
        api.answers = {f"A{number}": {"name": "Lamp"} for number in range(10)}
        kit.advance(seconds=7_200)
        drain(worker)
    paused, back = [line for line in lines if line["event"].startswith("a source's API")]
    assert paused["reason"].endswith("of the source's API answered 503.")
    assert (back["event"], back["log_level"]) == ("a source's API answers again", "info")


class Part(BaseModel):
    sku: str


class Shape(BaseModel):
    parts: list[Part]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([], "the answer should be a JSON object, not []."),
        ({}, "`parts` is missing."),
        ({"parts": [{"sku": "A"}, {"sku": 12}]}, "`parts.1.sku` should be a valid string, not 12."),
        ({"parts": [None]}, "`parts.0` should be a JSON object, not None."),
    ],
)
def test_an_undocumented_shape_is_told_by_its_place_and_what_should_be_there(answer, says):
    with pytest.raises(ApiError) as error:
        asking.shaped(Shape, answer, "/products")
    assert str(error.value) == f"/products of the source's API answered in an undocumented shape: {says}"


def test_only_the_repetitions_of_our_own_calls_are_told_in_our_words():
    told = []
    stamina.instrumentation.set_on_retry_hooks([lambda details: told.append(details.name)])
    asked = []

    def of_a_plugin() -> None:
        asked.append("plugin")
        if len(asked) == 2:
            raise ValueError

    def ask() -> str:
        asked.append("ours")
        stamina.retry(on=ValueError, attempts=2)(of_a_plugin)()
        if len(asked) == 3:
            raise Retry("It answered 503.")
        return "answered"

    try:
        with stamina.set_testing(True, attempts=2), capture_logs() as lines:
            assert asking.patiently(ask) == "answered"
    finally:
        stamina.instrumentation.set_on_retry_hooks(None)
    assert [(line["event"], line["reason"]) for line in lines] == [
        ("a call of a source's API failed; trying again", "It answered 503.")
    ]
    assert [name.rpartition(".")[2] for name in told] == ["of_a_plugin"]
