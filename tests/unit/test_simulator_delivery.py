"""Sending: retries on each system's schedule, faults from the seed, one answer per request."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from simulator.clock import SteppedClock
from simulator.connection import Address, Connection, NoAnswerError, request_bytes
from simulator.delivery import Courier
from simulator.faults import Fate, Faults
from simulator.systems.base import Message
from simulator.systems.iimmpact import Iimmpact
from simulator.systems.indexed import Indexed
from simulator.systems.sigma import Sigma

START = datetime(2026, 3, 8, 10, tzinfo=UTC)


def message(number=1, *, url="http://127.0.0.1:1/hooks/sigma", family="a"):
    return Message(
        number=number, event_type="x", at=START, family=family, url=url, headers={"X-Number": str(number)}, body=b"{}"
    )


def served(scene, *statuses, answer=b'{"status": "accepted", "delivery": "d"}'):
    """Run `scene(url, requests)` beside a server that gives these statuses in turn, the last one for ever."""
    requests = []

    async def connected(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            requests.append(head)
            status = statuses[min(len(requests), len(statuses)) - 1]
            if status == 0:
                break
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(answer)) + answer)
        writer.close()

    async def quiet(reader, writer):
        try:
            await connected(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main():
        async with await asyncio.start_server(quiet, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks/sigma"
            return await asyncio.wait_for(scene(url, requests), 10)

    return asyncio.run(main())


def courier_for(url, clock, *, retries, faults=None, seed=1):
    return Courier(url, clock=clock, retries=retries, fate=Fate(faults or Faults(), seed=seed, source="sigma"))


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def retried_after(system, *statuses):
    """The seconds after which each further try was made, for a receiver with these answers."""

    async def scene(url, requests):
        clock = SteppedClock(START)
        courier = courier_for(url, clock, retries=system.retries)
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


def test_indexed_has_one_chance():
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


def test_an_answer_is_counted_with_what_the_receiver_called_it():
    async def scene(url, requests):
        courier = courier_for(url, SteppedClock(START), retries=Sigma.retries)
        for number in range(3):
            await courier.send(message(number, url=url))
        await courier.finish()
        await courier.close()
        return courier.log

    log = served(scene, 200, answer=b'{"status": "duplicate"}')
    assert (log.sent, log.acked, log.duplicates, log.arrived) == (3, 3, 3, {0, 1, 2})


def test_messages_of_a_family_are_sent_in_order():
    async def scene(url, requests):
        courier = courier_for(url, SteppedClock(START), retries=Sigma.retries)
        for number in range(100):
            await courier.send(message(number, url=url, family="one"))
        await courier.finish()
        await courier.close()
        return [int(head.split(b"X-Number: ")[1].split(b"\r\n")[0]) for head in requests]

    assert served(scene, 200) == list(range(100))


def test_a_connection_closed_before_the_answer_is_no_answer():
    async def scene(url, requests):
        connection = Connection(Address.of(url))
        with pytest.raises(NoAnswerError, match="closed before the answer"):
            await connection.post(request_bytes(url, {}, b"{}"))
        return len(requests)

    assert served(scene, 0) == 1


def test_a_connection_is_kept_alive():
    async def scene(url, requests):
        connection = Connection(Address.of(url))
        answers = [await connection.post(request_bytes(url, {}, b"{}")) for _ in range(5)]
        connection.close()
        return [answer.status for answer in answers]

    assert served(scene, 200) == [200] * 5


def test_an_address_must_be_http():
    with pytest.raises(ValueError, match="not an http or https URL"):
        Address.of("ftp://example.com/hooks")


def fates(faults, *, seed=1, count=200):
    fate = Fate(faults, seed=seed, source="sigma")
    due = [planned for number in range(count) for planned in fate.meet(message(number))]
    return [*due, *fate.rest()]


def test_without_faults_everything_goes_once_and_in_order():
    assert [(p.message.number, p.delay, p.dropped) for p in fates(Faults())] == [(n, 0, False) for n in range(200)]


def test_faults_come_from_the_seed():
    bad = Faults(duplicate=0.2, reorder=10, delay=0.2, drop=0.1)
    assert fates(bad) == fates(bad)
    assert fates(bad) != fates(bad, seed=2)


def test_reordering_loses_nothing():
    numbers = [planned.message.number for planned in fates(Faults(reorder=16))]
    assert numbers != sorted(numbers)
    assert sorted(numbers) == list(range(200))


def test_a_duplicate_is_the_same_message():
    planned = fates(Faults(duplicate=1))
    assert len(planned) == 400


def test_a_dropped_message_never_arrives():
    assert all(planned.dropped for planned in fates(Faults(drop=1)))


def test_a_fault_out_of_its_bounds_is_refused():
    with pytest.raises(ValueError, match="duplicate must be a number from 0 to 1"):
        Faults(duplicate=2)
