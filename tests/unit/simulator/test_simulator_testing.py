"""The pytest fixture `simulated`."""

from __future__ import annotations

import threading
from http.server import ThreadingHTTPServer

import pytest
from raw import raw_headers
from simulator_asking import sign_request
from stub_servers import Stub
from waiting import TIMEOUT

from receiver.verify.request import WebhookRequest
from simulator.faults import Faults
from simulator.systems import SYSTEMS
from simulator.testing import Simulated


class Receiver(Stub):
    protocol_version = "HTTP/1.1"

    def post(self):
        body = self.body()
        self.server.seen.append((raw_headers(dict(self.headers.items())), body))
        statuses = self.server.statuses
        self.answer(status=statuses.pop(0) if statuses else 200)


@pytest.fixture
def receiver():
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.seen, server.statuses = [], []
        server.url = f"http://127.0.0.1:{server.server_port}/hooks"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def simulated():
    running = Simulated()
    yield running
    running.close()


def options(name):
    return {"kind": "product"} if name in ("indexed", "iimmpact") else {}


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_can_be_started_edited_and_waited_for(simulated, receiver, name):
    shop = simulated.start(name, to=receiver.url)
    lamp = shop.create(name="Lamp", **options(name))
    shop.update(lamp, name="Better lamp")
    assert shop.system.oracle.rows[lamp.table, lamp.external_id].active
    shop.delete(lamp)
    assert not shop.system.oracle.rows[lamp.table, lamp.external_id].active
    shop.live(10)
    log = shop.wait()
    assert log.arrived == set(range(1, shop.events + 1))
    assert log.acked == len(receiver.seen)


@pytest.mark.parametrize("name", SYSTEMS)
def test_received_webhooks_can_be_verified_with_the_settings(simulated, receiver, name):
    shop = simulated.start(name, to=receiver.url)
    shop.create()
    shop.wait()
    hooks = shop.system.subscriptions
    for headers, body in receiver.seen:
        verified = [try_one(shop.system, hook, headers, body) for hook in hooks]
        assert any(verified)


def try_one(system, hook, headers, body):
    from receiver.errors import NotVerified

    try:
        return system.verifier.verify(WebhookRequest(body, headers), system.credentials(hook)).plain
    except NotVerified:
        return None


@pytest.mark.parametrize("name", SYSTEMS)
def test_quick_edits_of_one_entity_have_different_times(simulated, receiver, name):
    shop = simulated.start(name, to=receiver.url)
    lamp = shop.create(name="Lamp", **options(name))
    for number in range(5):
        shop.update(lamp, name=f"Lamp {number}")
        assert not shop.system.oracle.rows[lamp.table, lamp.external_id].tied


def test_a_retry_comes_soon_on_the_system_s_own_schedule(simulated, receiver):
    receiver.statuses += [500, 503]
    shop = simulated.start("sigma", to=receiver.url)
    shop.create()
    log = shop.wait()
    assert (log.acked, log.retries, len(receiver.seen)) == (1, 2, 3)


def test_faults_can_be_given_in_code(simulated, receiver):
    shop = simulated.start("sigma", to=receiver.url, faults=Faults(duplicate=1, wrong_signature=1))
    shop.create()
    log = shop.wait()
    assert (log.sent, log.acked, log.believed) == (3, 2, 1)


def test_the_oracle_can_be_compared_with_rows(simulated, receiver):
    shop = simulated.start("iimmpact", to=receiver.url)
    lamp = shop.create(kind="group", name="Lamps")
    shop.wait()
    comparison = shop.compare({(lamp.table, lamp.external_id): {"active": True, "name": "Tents"}})
    assert "groups" in str(comparison.differences[0])


def test_the_api_of_the_system_is_served(simulated, receiver):
    import httpx

    shop = simulated.start("iimmpact", to=receiver.url)
    shop.create(kind="product")
    catalog = httpx.get(f"{shop.api_url}/v2/catalog", headers=sign_request(shop.system), timeout=TIMEOUT).json()
    assert len(catalog["products"]) == 1


def test_secrets_can_be_rotated(simulated, receiver):
    shop = simulated.start("iimmpact", to=receiver.url)
    old = shop.settings["secrets"]
    shop.rotate()
    assert shop.settings["secrets"] != old


def test_a_test_event_is_sent_before_the_wait_ends(simulated, receiver):
    import httpx

    shop = simulated.start("sticky", to=receiver.url)
    auth = (shop.system.api_user, shop.system.api_password)
    assert httpx.post(f"{shop.api_url}/api/v2/webhooks/test", auth=auth, timeout=TIMEOUT).status_code == 202
    assert (shop.wait().acked, shop.events) == (1, 0)


@pytest.mark.parametrize("name", SYSTEMS)
def test_an_unknown_attribute_is_refused_with_the_known_ones(simulated, receiver, name):
    shop = simulated.start(name, to=receiver.url)
    with pytest.raises(ValueError, match="there is no attribute 'colour': choose from"):
        shop.create(colour="red", **options(name))


def test_an_unknown_system_is_refused_with_the_known_ones(simulated):
    with pytest.raises(ValueError, match="there is no system 'sap': choose from sigma, indexed, iimmpact, sticky"):
        simulated.start("sap", to="http://127.0.0.1:1/")


def test_the_wait_for_a_receiver_that_never_answers_ends(simulated, receiver):
    receiver.statuses += [500] * 100
    shop = simulated.start("sigma", to=receiver.url, speed=1)
    shop.create()
    with pytest.raises(TimeoutError):
        shop.wait(seconds=0.2)
