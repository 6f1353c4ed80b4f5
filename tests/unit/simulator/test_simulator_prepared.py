"""The fast sender: all messages are made first, each is sent once, and each answer is counted."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from raw import raw_headers
from simulator_receiver import START, served
from waiting import TIMEOUT

from receiver.verify.request import WebhookRequest
from simulator.clock import SteppedClock
from simulator.connection import NoAnswerError
from simulator.load import blast, body_length, make, send_load
from simulator.run import build
from simulator.scenario import Scenario


def messages(url, count=50, name="iimmpact"):
    (system,) = build([name], seed=1, clock=SteppedClock(START))
    system.subscribe(url)
    return system, make(system, count)


def test_every_message_is_sent_once_and_every_answer_counted():
    bodies = []

    async def scene(url, requests):
        _, made = messages(url)
        return made, await blast(made, connections=7)

    made, sent = served(scene, 200, bodies=bodies)
    assert Counter(bodies) == Counter(message.body for message in made)
    assert sent.statuses == {200: len(made)}
    assert len(sent.latencies) == len(made)
    assert sent.per_second > 0


def test_refusals_are_counted_by_their_status():
    async def scene(url, requests):
        _, made = messages(url, 10)
        return await blast(made[:10], connections=1)

    assert served(scene, 200, 401, 503).statuses == {200: 1, 401: 1, 503: 8}


def test_a_lost_connection_is_reported():
    async def scene(url, requests):
        _, made = messages(url, 10)
        with pytest.raises(NoAnswerError, match="closed before the answer"):
            await blast(made, connections=2)

    served(scene, 200, 0)


@pytest.mark.parametrize(
    "parts",
    [
        (b"HTTP/1.1 20", b"0 OK\r\ncontent-", b"length: 4\r\n\r\nab", b"cd"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",),
    ],
    ids=["pieces", "behind an interim answer", "behind two in one piece"],
)
def test_an_answer_may_come_in_pieces_or_behind_interim_ones(parts):
    async def scene():
        async def connected(reader, writer):
            try:
                for _ in range(3):
                    head = await reader.readuntil(b"\r\n\r\n")
                    await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
                    for part in parts:
                        writer.write(part)
                        await asyncio.sleep(0.002)
            finally:
                writer.close()

        async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
            _, made = messages(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", 3)
            return await blast(made[:3], connections=1)

    assert asyncio.run(asyncio.wait_for(scene(), TIMEOUT)).statuses == {200: 3}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "is not HTTP/1.1 with a Content-Length"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "is not HTTP/1.1 with a Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "is not HTTP/1.1 with a Content-Length"),
        (
            b"HTTP/1.0 200 OK\r\n\r\n",
            r"closed before the answer \(answers before: 1\): --prepared needs connections that stay",
        ),
    ],
)
def test_an_answer_that_this_sender_does_not_read_is_an_error_that_says_so(answer, says):
    async def scene():
        async def connected(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
            _, made = messages(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", 3)
            with pytest.raises(NoAnswerError, match=says):
                await blast(made, connections=1)

    asyncio.run(asyncio.wait_for(scene(), TIMEOUT))


@pytest.mark.parametrize(
    ("answer", "length"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", 12),
        (b"HTTP/1.1 200 OK\r\ncontent-length:3\r\nx: y\r\n\r\n", 3),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 0),
    ],
)
def test_the_length_of_an_answer_comes_from_its_header(answer, length):
    assert body_length(answer, answer.find(b"\r\n\r\n")) == length


def test_prepared_messages_are_signed():
    system, made = messages("http://127.0.0.1:1/")
    credentials = system.credentials(system.subscriptions[0])
    assert all(system.verifier.verify(WebhookRequest(m.body, raw_headers(m.headers)), credentials).plain for m in made)


def test_the_report_counts_refused_messages_as_given_up():
    async def scene(url, requests):
        systems = build(["sigma", "iimmpact"], seed=1, clock=SteppedClock(START))
        for system in systems:
            system.subscribe(url)
        scenario = Scenario(name="mine", title="Mine", events=40, rate=0)
        return await send_load(systems, scenario, connections=3)

    reports = served(scene, 200, 500, 200)
    assert [report.log.given_up for report in reports] == [1, 0]
    assert [report.good for report in reports] == [False, True]
    assert [report.as_json()["lost"] for report in reports] == [1, 0]
