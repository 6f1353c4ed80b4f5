"""Sending: retries on each system's schedule, faults from the seed, and one answer for each request."""

from __future__ import annotations

import asyncio
import itertools
import socket
import sys

import pytest
from dropping import DROPPING, dropping
from simulator_receiver import START, courier_for, message, served, until
from waiting import TIMEOUT

from simulator.clock import RunningClock, SteppedClock
from simulator.connection import Address, Connection, NoAnswerError, request_bytes
from simulator.systems.base import RetryPolicy, refused
from simulator.systems.iimmpact.system import Iimmpact
from simulator.systems.indexed.system import Indexed
from simulator.systems.sigma.system import Sigma


def retried_after(system, *statuses):
    """Return the seconds before each retry, for a receiver with these answers."""

    async def scene(url, requests):
        clock = SteppedClock(START)
        courier = courier_for(clock, retries=system.retries)
        await courier.send(message(url=url))
        moments = []
        await until(lambda: len(requests) == 1)
        await until(lambda: sum(courier.log.statuses.values()) == 1)
        while courier.log.given_up == courier.log.acked == 0:
            await until(lambda: clock.sleeping)
            tries, waited = len(requests), 0
            while len(requests) == tries:
                await clock.advance(1)
                waited += 1
                for _ in range(20):
                    await asyncio.sleep(0)
                if not clock.sleeping:
                    await until(lambda tries=tries: len(requests) > tries)
            moments.append(waited)
            await until(lambda: sum(courier.log.statuses.values()) == len(requests))
        await courier.finish()
        await courier.close()
        return moments

    return served(scene, *statuses)


def test_sigma_retries_after_10_60_and_300_seconds():
    """Sigma docs, "Retry Policy": "retried up to 3 times with exponential backoff: 10s, 60s, 300s"."""
    assert retried_after(Sigma, 500) == [10, 60, 300]


def test_sigma_retries_a_client_error_too():
    """Sigma docs, "Retry Policy": "non-2xx responses"."""
    assert retried_after(Sigma, 404, 200) == [10]


def test_indexed_makes_one_attempt():
    """Indexed docs, "Operational limitation to know": no retry logic was found."""
    assert retried_after(Indexed, 503) == []


def test_iimmpact_makes_five_attempts():
    """IIMMPACT guide, "Retry Policy": immediate, ~1, ~2, ~4, ~8 minutes; then "the event is dropped"."""
    assert retried_after(Iimmpact, 500) == [60, 120, 240, 480]


@pytest.mark.parametrize(
    ("status", "delay"), [(400, None), (401, None), (404, None), (408, 60), (429, 60), (500, 60), (None, 60)]
)
def test_iimmpact_takes_most_client_errors_as_final(status, delay):
    """IIMMPACT guide, "Retry Policy", second table."""
    assert Iimmpact.retries.delay(1, status) == delay


def test_an_answer_is_counted_by_the_status_in_its_body():
    async def scene(url, requests):
        courier = courier_for(SteppedClock(START), retries=Sigma.retries)
        for number in (1, 2, 3):
            await courier.send(message(number, url=url))
        await courier.finish()
        await courier.close()
        return courier.log

    log = served(scene, 200, answer=b'{"status": "duplicate"}')
    assert (log.sent, log.acked, log.duplicates, log.arrived) == (3, 3, 3, {1, 2, 3})


def test_messages_of_a_family_are_sent_in_order():
    async def scene(url, requests):
        courier = courier_for(SteppedClock(START), retries=Sigma.retries)
        for number in range(100):
            await courier.send(message(number, url=url, family="one"))
        await courier.finish()
        await courier.close()
        return [int(head.split(b"X-Number: ")[1].split(b"\r\n")[0]) for head in requests]

    assert served(scene, 200) == list(range(100))


def test_a_connection_closed_before_the_answer_counts_as_no_answer():
    async def scene(url, requests):
        connection = Connection(Address.of(url))
        with pytest.raises(NoAnswerError, match="closed before the answer"):
            await connection.post(request_bytes(url, {}, b"{}"))
        return len(requests)

    assert served(scene, 0) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nfine",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfine",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine",
    ],
    ids=["without a length", "closing without a length", "after a hint"],
)
def test_an_answer_is_read_in_each_form_that_http_has(answer):
    async def scene():
        async def connected(reader, writer):
            await reader.readuntil(b"{}")
            writer.write(answer)
            writer.close()

        async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            return await Connection(Address.of(url)).post(request_bytes(url, {}, b"{}"))

    found = asyncio.run(asyncio.wait_for(scene(), TIMEOUT))
    assert (found.status, found.body) == (200, b"fine")


def test_an_answer_without_its_end_counts_as_no_answer():
    async def scene():
        async def connected(reader, writer):
            await reader.readuntil(b"{}")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfine")
            writer.close()

        async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            with pytest.raises(NoAnswerError, match="closed before the answer"):
                await Connection(Address.of(url)).post(request_bytes(url, {}, b"{}"))

    asyncio.run(asyncio.wait_for(scene(), TIMEOUT))


def test_a_connection_is_used_again():
    async def scene(url, requests):
        connection = Connection(Address.of(url))
        answers = [await connection.post(request_bytes(url, {}, b"{}")) for _ in range(5)]
        connection.close()
        return [answer.status for answer in answers]

    assert served(scene, 200) == [200] * 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has 127.0.0.2 without any set-up")
def test_an_address_that_drops_packets_does_not_keep_a_request_from_the_next_address(monkeypatch):
    async def scene(url, requests):
        port = Address.of(url).port

        async def resolve(*_, **__):
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (each, port)) for each in (DROPPING, "127.0.0.1")]

        with dropping(port), monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
            connection = Connection(Address("hooks.test", port, False), timeout=3.0)
            answer = await connection.post(request_bytes(url, {}, b"{}"))
        connection.close()
        return answer.status

    assert served(scene, 200) == 200


def test_a_host_that_cannot_exist_counts_as_no_answer():
    async def scene():
        connection = Connection(Address("a..b", 80, False))
        with pytest.raises(NoAnswerError, match=r"there can be no host 'a\.\.b'"):
            await connection.post(b"")

    asyncio.run(scene())


def test_an_address_must_be_http():
    with pytest.raises(ValueError, match="not an http or https URL"):
        Address.of("ftp://example.com/hooks")


@pytest.mark.parametrize("speed", [1, 50])
def test_a_running_clock_scales_the_schedule(speed):
    """With a speed of 50, retries due after 5 and 10 s of the clock come 0.1 and 0.2 real seconds later."""

    async def scene(url, requests):
        loop, moments = asyncio.get_running_loop(), []
        courier = courier_for(
            RunningClock(speed=speed),
            retries=RetryPolicy((0.1 * speed, 0.2 * speed), refused),
            on_attempt=lambda _: moments.append(loop.time()),
        )
        await courier.send(message(url=url))
        await courier.finish()
        await courier.close()
        return [later - sooner for sooner, later in itertools.pairwise(moments)], courier.log

    gaps, log = served(scene, 500, 500, 200)
    assert gaps[0] >= 0.1
    assert gaps[1] >= 0.2
    assert (log.acked, log.retries, log.given_up) == (1, 2, 0)


def test_messages_may_go_to_several_addresses():
    """Sigma docs, "List all webhooks": the sample's two webhooks have different hosts."""

    async def scene(url, requests):
        courier = courier_for(SteppedClock(START), retries=Sigma.retries)
        await courier.send(message(url=url))
        await courier.send(message(url=url.replace("127.0.0.1", "localhost")))
        await courier.finish()
        await courier.close()
        return [head.split(b"Host: ")[1].split(b":")[0] for head in requests]

    assert sorted(served(scene, 200)) == [b"127.0.0.1", b"localhost"]


def test_the_system_learns_of_every_attempt():
    async def scene(url, requests):
        told = []
        courier = courier_for(RunningClock(speed=10_000), retries=Sigma.retries, on_attempt=told.append)
        await courier.send(message(url=url))
        await courier.finish()
        await courier.close()
        return [(attempt.status, attempt.answer) for attempt in told]

    assert served(scene, 0, 503, 200, answer=b"fine") == [(None, b""), (503, b"fine"), (200, b"fine")]


def test_a_message_that_is_refused_for_good_is_given_up():
    async def scene(url, requests):
        courier = courier_for(SteppedClock(START), retries=Iimmpact.retries)
        await courier.send(message(url=url))
        await courier.finish()
        await courier.close()
        return courier.log

    log = served(scene, 400, answer=b'{"error": "bad"}')
    assert (log.given_up, log.dropped, dict(log.reasons)) == (1, 0, {"400 bad": 1})
