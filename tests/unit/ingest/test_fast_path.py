"""Our protocol compared with uvicorn's, fed piece by piece: equal answers, and the intended differences."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import weakref
from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState
from wire import Wire

from examples import examples
from receiver.errors import NotVerified, Refused, Unavailable
from receiver.inbox.arrival import Accepted
from receiver.ingest import endpoint, fast_path
from receiver.ingest.admission import Request
from receiver.ingest.bounded import UNREAD_SECONDS
from receiver.ingest.closing import STOP_SECONDS
from receiver.ingest.connections import Connections
from receiver.ingest.endpoint import Endpoint
from receiver.ingest.fast_path import FastPathProtocol
from receiver.ingest.gathering import PendingReply
from receiver.ingest.heads import HEADER_MEMORY
from receiver.ingest.incoming import Incoming
from receiver.metrics import metrics
from receiver.settings.limits import Limits

#: Turns of the event loop after which everything is done.
TURNS = 12

LARGEST = 2_000


class Application:
    """An endpoint that counts its calls, with an admission that does what the body says."""

    def __init__(self) -> None:
        self.admitted: list[bytes] = []
        self.asked = 0
        # Smaller than a setting may be, so that random requests reach the limits.
        limits = Limits.model_construct(max_body_bytes=LARGEST, max_waiting_bytes=4 * LARGEST)
        self.incoming = Incoming(limits)
        self.connections = Connections(limits, self.incoming)
        dialect = SimpleNamespace(challenges=(), on_accept=None, on_refusal=None)
        shop: Any = SimpleNamespace(name="shop", dialect=dialect)
        self.endpoint = Endpoint({"shop": shop}, self._take, limits=limits, incoming=self.incoming)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await self.endpoint(scope, receive, send)

    def _take(self, submitted: Sequence[tuple[Request, PendingReply]]) -> None:
        for request, answer in submitted:
            if request.body == b"broken":
                raise RuntimeError("nobody foresaw this")
            self.admitted.append(request.body)
            _decide(request.body, answer)


def _decide(body: bytes, answer: PendingReply) -> None:
    if answer.done() or body == b"undecided":
        return
    refusals: dict[bytes, Refused] = {
        b"forged": NotVerified("signature_wrong", "It is."),
        b"stalled": Unavailable("It is."),
    }
    if body in refusals:
        answer.set_exception(refusals[body])
    else:
        answer.set_result(Accepted("accepted", len(body)))


class Connection:
    """One connection to an application through a protocol."""

    def __init__(self, protocol: type[HttpToolsProtocol], wire: type[Wire] = Wire) -> None:
        self.application = Application()
        config = Config(self.application, log_config=None, proxy_headers=False, ws="none")
        config.load()
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"today")]
        self.wire = wire(asyncio.get_running_loop())
        self.protocol = protocol(config=config, server_state=self.state, app_state={})
        self.wire.protocol = self.protocol
        self.protocol.connection_made(self.wire)

    async def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            if not self.wire.closing:
                self.protocol.data_received(piece)
            await settle()


async def settle() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def request(
    *lines: bytes, body: bytes = b"{}", target: bytes = b"/hooks/shop", method: bytes = b"POST", version: bytes = b"1.1"
) -> bytes:
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join([b"%b %b HTTP/%b" % (method, target, version), b"Host: here", *lines, length, b"", body])


def chunked(*parts: bytes, trailer: bytes = b"") -> bytes:
    head = b"POST /hooks/shop HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailer + b"\r\n"


# ── equal answers ─────────────────────────────────────────────────────────────────────────────────────────────

BODIES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"forged", b"stalled", b"", b"x" * LARGEST, b"x" * (LARGEST + 1), b"x" * 9_000]),
)
LINES = st.sampled_from(
    [
        b"Connection: keep-alive",
        b"Connection: close",
        b"Connection: close, x",
        b"X-Signature: \xff\xfe",
        b"X-Signature: twice",
        b"Bad Name: 1",
    ]
)
TARGETS = st.sampled_from(
    [
        *[b"/hooks/shop"] * 6,
        *(b"/hooks/nobody", b"/hooks/", b"/hooks/shop/", b"/hooks/sho%70", b"/hooks/shop?a=1", b"/hooks/shop#a", b"*"),
        *(b"http://here/hooks/shop", b"//hooks/shop", b"/hooks/\xff", b"/hooks/SHOP"),
    ]
)
REQUESTS = st.one_of(
    st.builds(
        lambda lines, **parts: request(*lines, **parts),
        st.lists(LINES, max_size=2),
        body=BODIES,
        target=TARGETS,
        method=st.sampled_from([*[b"POST"] * 6, b"GET", b"PUT", b"HEAD", b"OPTIONS", b"post"]),
        version=st.sampled_from([*[b"1.1"] * 6, b"1.0", b"0.9", b"2.0", b"x"]),
    ),
    st.builds(
        lambda parts, trailer: chunked(*parts, trailer=trailer),
        st.lists(BODIES.filter(len), max_size=3),
        st.sampled_from([b"", b"Connection: close\r\n", b"A: b"]),
    ),
    st.builds(chunked, st.just(b"{}"), st.just(b"{}")),
    st.sampled_from(
        [b"\x00\x01\r\n\r\n", b"\r\n", b"POST", b"POST /hooks/shop HTTP/1.1\r\nContent-Length: x\r\n\r\n{}"]
    ),
    st.just(b"POST /hooks/shop HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nnonsense\r\n"),
)


class Told(NamedTuple):
    """The outcome of a connection: what it wrote, and what the application got."""

    written: bytes
    closed: bool
    #: Requests counted by the server. uvicorn also counts a malformed request that ends its connection.
    requests: int | None
    admitted: list[bytes]
    waiting: int


async def told(protocol: type[HttpToolsProtocol], pieces: Iterable[bytes]) -> Told:
    connection = Connection(protocol)
    await connection.feed(*pieces)
    closed = connection.wire.closing or connection.wire.half_closed
    requests = None if closed else connection.state.total_requests
    connection.wire.close()
    await settle()
    application = connection.application
    waiting = application.endpoint.waiting.bytes + application.incoming.bytes
    return Told(connection.wire.written, closed, requests, application.admitted, waiting)


def answers(written: bytes) -> list[tuple[bytes, bytes]]:
    """Return status and body of each answer."""
    found = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head)
        # The answer to a HEAD has a length, but no body.
        size = int(length[1]) if length and not rest.startswith(b"HTTP/1.1 ") else 0
        found.append((head[9:12], rest[:size]))
        written = rest[size:]
    return found


def pieces_of(content: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    return [content[start:end] for start, end in pairwise(places)]


NOT_HTTP = (b"400", b"Invalid HTTP request received.")

#: Our error codes for malformed requests, by status.
NONSENSE = {b"400": "malformed_request", b"414": "url_too_long", b"431": "head_too_large"}

CUTS = st.lists(st.integers(1, 600), max_size=5)


@given(requests=st.lists(REQUESTS, min_size=1, max_size=4), cuts=CUTS)
@examples(150)
def test_requests_in_any_pieces_get_the_answers_of_uvicorn_s_own_protocol(requests, cuts):
    pieces = pieces_of(b"".join(requests), cuts)
    ours, theirs = (asyncio.run(told(protocol, pieces)) for protocol in (FastPathProtocol, HttpToolsProtocol))
    assert ours.waiting == 0
    if NOT_HTTP[1] not in theirs.written:
        assert ours == theirs
        return
    # Ours answers the earlier requests before it refuses the malformed one. uvicorn drops them.
    owed = answers(ours.written)
    status, content = owed[-1]
    # The refusal of a HEAD request has no body.
    if status in NONSENSE and (not content or json.loads(content)["error"] == NONSENSE[status]):
        owed.pop()
    else:
        assert b"connection: close" in ours.written
    assert ours.closed
    answered = [each for each in answers(theirs.written) if each != NOT_HTTP]
    assert owed[: len(answered)] == answered


OFFERS = [
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    b"UPGRADE: a/1, b\r\nconnection: x, upgrade\r\n",
    b"Upgrade: twice\r\nUpgrade:\r\nConnection: upgrade\r\n",
]


@given(
    requests=st.lists(st.tuples(REQUESTS, st.sampled_from([b"", *OFFERS])), min_size=1, max_size=4),
    cuts=CUTS,
)
@example(requests=[(request(body=b"x" * (LARGEST + 1)), OFFERS[0])], cuts=[])
@example(requests=[(chunked(b"{}", b"{}"), OFFERS[0]), (b"\x00\x01\r\n\r\n", b"")], cuts=[])
@example(requests=[(request(body=b"{}"), OFFERS[1]), (request(body=b"[]"), OFFERS[0])], cuts=[])
@example(requests=[(request(body=b""), OFFERS[0]), (chunked(b"x" * 9_000), b"")], cuts=[60])
@examples(100)
def test_an_offer_to_upgrade_does_not_change_the_answer(requests, cuts):
    plain = [each for each, _ in requests]
    offering = [each.replace(b"Host: here\r\n", b"Host: here\r\n" + offer, 1) for each, offer in requests]
    with_offer = asyncio.run(told(FastPathProtocol, pieces_of(b"".join(offering), cuts)))
    without = asyncio.run(told(FastPathProtocol, pieces_of(b"".join(plain), [])))
    assert (answers(with_offer.written), with_offer.closed, with_offer.admitted, with_offer.waiting) == (
        answers(without.written),
        without.closed,
        without.admitted,
        0,
    )


@given(
    content=st.lists(
        st.one_of(
            REQUESTS,
            st.binary(max_size=300),
            st.sampled_from(
                [
                    request(b"Expect: 100-continue"),
                    request(b"Expect: 100-continue", target=b"/hooks/nobody"),
                    request(*[b"A: b"] * 200),
                    request(b"A: " + b"b" * 20_000),
                    b"CONNECT here:443 HTTP/1.1\r\n\r\n",
                    request(target=b"/hooks/shop?" + b"a" * 9_000),
                    b"\r\n" * 10_000,
                ]
            ),
        ),
        max_size=5,
    ),
    cuts=CUTS,
)
@examples(100)
def test_no_request_of_a_stranger_leaves_anything_behind(content, cuts):
    seen = asyncio.run(told(FastPathProtocol, pieces_of(b"".join(content), cuts)))
    assert seen.waiting == 0
    assert b"Internal Server Error" not in seen.written
    assert b"An error of this server" not in seen.written


# ── intended differences ──────────────────────────────────────────────────────────────────────────────────────


def play(scene: Callable[[Connection], Coroutine[Any, Any, None]]) -> None:
    async def played() -> None:
        await scene(Connection(FastPathProtocol))

    asyncio.run(played())


def test_a_whole_webhook_is_admitted_without_the_application_and_answered_in_one_write():
    async def scene(connection: Connection) -> None:
        await connection.feed(request(body=b"whole"))
        assert (connection.application.admitted, connection.application.asked) == ([b"whole"], 0)
        assert connection.wire.written.startswith(b"HTTP/1.1 200 OK\r\n")

    play(scene)


@pytest.mark.parametrize(
    "pieces",
    [
        [request(b"Expect: 100-continue")],
        [request()[:-1], request()[-1:]],
        [request(target=b"/hooks/shop?a=1")],
        [request(body=b"x" * (LARGEST + 1))],
    ],
    ids=["expects a word first", "in pieces", "another address", "too large"],
)
def test_a_request_that_is_not_a_whole_webhook_is_left_to_the_application(pieces: list[bytes]):
    async def scene(connection: Connection) -> None:
        await connection.feed(*pieces)
        assert connection.application.asked == 1

    play(scene)


@pytest.mark.parametrize("cut", [None, -1], ids=["in one piece", "in two pieces"])
def test_a_sender_that_is_asked_to_come_back_can_use_its_connection_again(cut: int | None):
    async def scene(connection: Connection) -> None:
        for body in (b"stalled", b"{}"):
            whole = request(body=body)
            await connection.feed(*filter(None, (whole[:cut], whole[len(whole[:cut]) :])))
        statuses = [status for status, _ in answers(connection.wire.written)]
        assert statuses == [b"503", b"200"]
        assert b"connection: close" not in connection.wire.written

    play(scene)


@pytest.mark.parametrize("cut", [None, 60], ids=["in one piece", "in two pieces"])
def test_backpressure_leaves_the_connection_open(cut, monkeypatch):
    for module in (endpoint, fast_path):
        monkeypatch.setattr(module, "REFUSAL_PAUSE", 0.0)

    async def scene(connection: Connection) -> None:
        waiting = connection.application.endpoint.waiting
        waiting.hold(waiting.max_bytes)
        whole = request()
        await connection.feed(*filter(None, (whole[:cut], whole[len(whole[:cut]) :])))
        waiting.release(waiting.max_bytes)
        await connection.feed(request())
        assert [status for status, _ in answers(connection.wire.written)] == [b"503", b"200"]
        assert not connection.wire.closing
        assert waiting.bytes == 0
        assert connection.application.asked == (0 if cut is None else 1), (
            "the fast path refuses without the application"
        )

    play(scene)


def test_a_webhook_that_backpressure_refuses_is_answered_after_a_pause(monkeypatch):
    monkeypatch.setattr(fast_path, "REFUSAL_PAUSE", 3_600.0)

    async def scene(connection: Connection) -> None:
        waiting = connection.application.endpoint.waiting
        waiting.hold(waiting.max_bytes)
        await connection.feed(request())
        assert connection.wire.written == b""
        assert connection.application.admitted == []
        assert waiting.bytes == waiting.max_bytes

    play(scene)


def test_a_503_before_the_end_of_the_body_ends_the_connection():
    async def scene(connection: Connection) -> None:
        await connection.feed(request(body=b"x" * 1_000)[:-1])
        incoming = connection.application.incoming
        # As if the largest and slowest of too many incomplete bodies were ended.
        connection.application.connections.limits.max_incomplete_bytes = 1_000
        for _ in range(2):
            incoming.head(lambda _: None).grow(300)
        await settle()
        assert connection.wire.written.startswith(b"HTTP/1.1 503 ")
        assert b"connection: close" in connection.wire.written
        assert connection.wire.half_closed

    play(scene)


def test_a_sender_that_does_not_read_its_answers_gets_no_more_until_it_does():
    async def scene(connection: Connection) -> None:
        connection.protocol.pause_writing()
        await connection.feed(request())
        assert (connection.wire.written, connection.application.asked) == (b"", 1)
        connection.protocol.resume_writing()
        await settle()
        assert connection.wire.written.startswith(b"HTTP/1.1 200 OK")

    play(scene)


def test_an_answer_that_cannot_be_encoded_ends_its_connection_only():
    async def scene(connection: Connection) -> None:
        connection.protocol.data_received(request(body=b"unsayable"))
        webhook = connection.protocol.cycle
        webhook.set_exception(NotVerified("signature_wrong", "Half a pair: \ud800."))  # type: ignore[attr-defined]
        assert connection.wire.closing
        assert connection.application.endpoint.waiting.bytes == 0
        await settle()
        assert connection.wire.written == b""

    play(scene)


@pytest.mark.parametrize("cut", [None, -1], ids=["in one piece", "in two pieces"])
def test_an_error_in_taking_requests_answers_all_of_them_and_leaves_nothing_waiting(cut: int | None):
    async def scene(connection: Connection) -> None:
        shop = connection.application.endpoint
        other = asyncio.get_running_loop().create_future()
        shop.submit(Request(shop.sources["shop"], [], b"broken"), other)
        whole = request(body=b"{}")
        await connection.feed(*filter(None, (whole[:cut], whole[len(whole[:cut]) :])))
        assert isinstance(other.exception(), Unavailable)
        assert [status for status, _ in answers(connection.wire.written)] == ([b"503"] if cut is None else [b"200"])
        assert shop.waiting.bytes == 0
        await connection.feed(request())
        assert [status for status, _ in answers(connection.wire.written)][1:] == [b"200"]

    play(scene)


def test_a_webhook_that_cannot_be_submitted_is_answered_with_503_and_does_not_stay_counted(monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    async def scene(connection: Connection) -> None:
        shop = connection.application.endpoint
        monkeypatch.setattr(shop, "submit", fail)
        await connection.feed(request())
        assert [status for status, _ in answers(connection.wire.written)] == [b"503"]
        assert shop.waiting.bytes == 0

    play(scene)


def test_an_answer_to_a_closed_connection_is_neither_written_nor_counted():
    async def scene(connection: Connection) -> None:
        await connection.feed(request(body=b"undecided"))
        webhook = connection.protocol.cycle
        connection.wire.close()
        await settle()
        webhook.set_result(Accepted("accepted", 1))  # type: ignore[attr-defined]
        assert (connection.wire.written, connection.state.total_requests) == (b"", 0)
        assert connection.application.endpoint.waiting.bytes == 0

    play(scene)


def test_a_connection_with_http_1_0_is_closed_even_if_it_asks_for_keep_alive():
    async def scene(connection: Connection) -> None:
        await connection.feed(request(b"Connection: keep-alive", version=b"1.0"))
        assert b"connection: close" in connection.wire.written
        assert connection.wire.closing

    play(scene)


def test_a_closed_connection_is_freed():
    async def scene(connection: Connection) -> None:
        await connection.feed(request())
        protocol = weakref.ref(connection.protocol)
        connection.wire.close()
        await settle()
        del connection.protocol, connection.wire.protocol
        assert protocol() is None, "without the garbage collector, since it seldom comes by"

    gc.disable()
    try:
        play(scene)
    finally:
        gc.enable()


# ── counted memory ────────────────────────────────────────────────────────────────────────────────────────────────

LONG = b"X-Long: " + b"x" * 9_000


def counted(*pieces: bytes) -> tuple[int, int]:
    """Return the bytes that count as waiting and as incomplete after these pieces, and check that none stay."""

    async def count() -> tuple[int, int]:
        connection = Connection(FastPathProtocol)
        await connection.feed(*pieces)
        application = connection.application
        found = application.endpoint.waiting.bytes, application.incoming.bytes
        if hasattr(answer := connection.protocol._answering, "done") and not answer.done():
            answer.set_result(Accepted("accepted", 1))
        for task in list(connection.state.tasks):
            task.cancel()
        connection.wire.close()
        await settle()
        assert (application.endpoint.waiting.bytes, application.incoming.bytes) == (0, 0)
        return found

    return asyncio.run(count())


def test_the_usual_head_of_a_webhook_that_waits_for_its_commit_costs_nothing():
    assert counted(request(body=b"undecided")) == (9, 0)


def test_a_large_head_counts_while_its_webhook_waits_for_its_commit():
    waiting, incomplete = counted(request(LONG, body=b"undecided"))
    assert (waiting > 9_000, incomplete) == (True, 0)


def test_a_head_of_many_small_headers_is_large():
    waiting, _ = counted(request(*[b"a:"] * 100, body=b"undecided"))
    assert waiting > 100 * HEADER_MEMORY


def test_the_requests_behind_a_webhook_in_its_packet_do_not_count_with_it():
    webhook, next_one = request(body=b"undecided"), request(body=b"x" * LARGEST)
    packet = webhook + next_one * 8
    assert counted(packet)[0] == counted(webhook)[0]


@pytest.mark.parametrize("before", [b"", request()], ids=["alone", "behind a request"])
@pytest.mark.parametrize("offer", [[], [b"Connection: Upgrade", b"Upgrade: a"]], ids=["plain", "with an offer"])
def test_a_large_head_counts_while_its_body_is_incomplete_and_while_it_waits(before, offer):
    whole = request(*offer, LONG, body=b"undecided")
    waiting, incomplete = counted(before + whole[:-1])
    assert (waiting, incomplete > 9_000) == (0, True)
    waiting, incomplete = counted(before + whole[:-1], whole[-1:])
    assert (waiting > 9_000, incomplete) == (True, 0)


@pytest.mark.parametrize("before", [b"", request()], ids=["alone", "behind a request"])
def test_an_incomplete_head_counts_with_all_that_arrived_of_it(before):
    head = request(LONG).removesuffix(b"\r\n{}")
    assert counted(before + head[:-200])[1] > 8_800
    assert counted(before + head[:-200], head[-200:])[1] > 9_000


def test_the_headers_of_an_incomplete_head_count_with_their_objects():
    _, incomplete = counted(request(*[b"a:"] * 100).removesuffix(b"\r\n{}"))
    assert incomplete > 100 * HEADER_MEMORY


def test_unread_answers_count_until_they_are_read():
    async def check() -> None:
        connection = Connection(FastPathProtocol)
        incoming = connection.application.incoming
        await connection.feed(request())
        connection.protocol.pause_writing()
        assert incoming.bytes == len(connection.wire.written)
        connection.protocol.resume_writing()
        assert incoming.bytes == 0
        connection.protocol.pause_writing()
        connection.wire.close()
        await settle()
        assert incoming.bytes == 0

    asyncio.run(check())


def test_an_unread_answer_larger_than_the_bound_is_cut_only_if_others_need_the_room():
    async def check() -> None:
        connection = Connection(FastPathProtocol)
        incoming = connection.application.incoming
        bound = connection.application.connections.limits.max_incomplete_bytes
        connection.wire.written = b"x" * (bound + 1)
        connection.protocol.pause_writing()
        assert not connection.wire.closing
        others = [incoming.head(lambda _: pytest.fail("a smaller one is ended")) for _ in range(2)]
        for other in others:
            other.grow(bound // 4 + 1)
        assert connection.wire.closing
        for other in others:
            other.leave()
        await settle()
        assert incoming.bytes == 0

    asyncio.run(check())


def test_a_sender_that_reads_only_a_part_of_its_answers_in_the_time_for_them_is_cut():
    async def check() -> None:
        connection = Connection(FastPathProtocol)
        await connection.feed(request())
        protocol, now = connection.protocol, connection.protocol.loop.time()
        protocol.pause_writing()
        protocol.check_limits(now + UNREAD_SECONDS - 1)
        assert not connection.wire.closing
        connection.wire.written = connection.wire.written[:-1]
        protocol.check_limits(now + UNREAD_SECONDS + 1)
        assert connection.wire.closing

    asyncio.run(check())


def test_a_sender_that_reads_its_answers_in_time_is_not_cut():
    async def check() -> None:
        connection = Connection(FastPathProtocol)
        await connection.feed(request())
        protocol, now = connection.protocol, connection.protocol.loop.time()
        protocol.pause_writing()
        protocol.resume_writing()
        protocol.check_limits(now + UNREAD_SECONDS + 1)
        assert not connection.wire.closing

    asyncio.run(check())


# ── a stop of the server ──────────────────────────────────────────────────────────────────────────────────────────


class UnreadWire(Wire):
    """A connection whose other end reads nothing, so that only an abort ends it."""

    aborted = False

    def close(self) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True


def test_at_a_stop_a_sender_that_does_not_read_its_answers_is_cut_after_the_time_for_a_stop():
    async def check() -> None:
        connection = Connection(FastPathProtocol)
        await connection.feed(request(body=b"undecided"))
        protocol, now = connection.protocol, connection.protocol.loop.time()
        protocol.pause_writing()
        protocol.shutdown()
        protocol.check_limits(now + STOP_SECONDS - 1)
        assert not connection.wire.closing
        protocol.check_limits(now + STOP_SECONDS + 1)
        assert connection.wire.closing

    asyncio.run(check())


@pytest.mark.parametrize("ended_before", [True, False])
def test_at_a_stop_an_ended_connection_waits_for_its_reader_only_for_the_time_for_a_stop(ended_before: bool):
    async def check() -> None:
        connection = Connection(FastPathProtocol, wire=UnreadWire)
        await connection.feed(request())
        protocol, now = connection.protocol, connection.protocol.loop.time()
        if ended_before:
            protocol.end()
        protocol.shutdown()
        protocol.check_limits(now + STOP_SECONDS - 1)
        assert not connection.wire.aborted
        protocol.check_limits(now + STOP_SECONDS + 1)
        assert connection.wire.aborted

    asyncio.run(check())


@pytest.mark.parametrize("ended_before", [True, False])
def test_a_stop_counts_no_refusal_of_a_request_that_was_answered_before_its_end(ended_before: bool):
    async def check() -> None:
        connection = Connection(FastPathProtocol, wire=UnreadWire)
        refusals = metrics.REFUSED.labels("", "unavailable")._value
        before, protocol = refusals.get(), connection.protocol
        await connection.feed(request(body=b"x" * (LARGEST + 1))[:-1])
        assert [status for status, _ in answers(connection.wire.written)] == [b"413"]
        now = protocol.loop.time()
        if ended_before:
            protocol.end()
        protocol.shutdown()
        protocol.check_limits(now + STOP_SECONDS + 1)
        assert connection.wire.aborted
        assert [status for status, _ in answers(connection.wire.written)] == [b"413"]
        assert refusals.get() == before

    asyncio.run(check())


def test_at_a_stop_requests_in_a_queue_are_answered_for_the_time_for_a_stop_and_then_refused():
    async def check() -> None:
        connection = Connection(FastPathProtocol)
        await connection.feed(request(body=b"undecided") + request(body=b"waits") * 3)
        protocol, now = connection.protocol, connection.protocol.loop.time()
        protocol.shutdown()
        protocol.check_limits(now + STOP_SECONDS - 1)
        assert len(protocol.pipeline) == 3
        protocol.check_limits(now + STOP_SECONDS + 1)
        protocol.check_limits(now + STOP_SECONDS + 2)
        assert len(protocol.pipeline) == 0
        protocol._answering.set_result(Accepted("accepted", 1))
        await settle()
        assert [status for status, _ in answers(connection.wire.written)] == [b"200", b"503"]
        assert b"about to stop" in connection.wire.written
        assert connection.wire.closing
        assert connection.application.incoming.bytes == 0

    asyncio.run(check())
