"""The endpoint under strain: large, broken or slow bodies, simultaneous duplicates, and a failing database."""

from __future__ import annotations

import asyncio
import json
import logging
import select
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
from senders import HEADERS, SECRETS, SIGNED, SOURCES, body, digits, sent
from serving import TIMEOUT, Served, read_answer, request_head, serving, wait_until
from sqlalchemy import event
from sqlalchemy.pool import Pool
from trouble import another_writer, refusing

from receiver.ingest.group_commit import GroupCommit

MIB = 1_048_576

#: For behaviour of which the database knows nothing.
ON_ONE = pytest.mark.parametrize("database_system", ["sqlite"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def served(lend_database, tmp_path_factory):
    with lend_database(tmp_path_factory.mktemp("strain")) as url, serving(url) as running:
        yield running


@pytest.fixture
def impatient(mirror_url, monkeypatch):
    """Serve with short timeouts for other writers."""
    monkeypatch.setattr("receiver.database.sqlite.connections.BUSY_TIMEOUT", 20)
    monkeypatch.setattr("receiver.ingest.gathering.COMMIT_TIMEOUT", 1.0)
    with serving(mirror_url) as running:
        yield running


@pytest.fixture
def hurried(mirror_url):
    """Serve with a short timeout for bodies."""
    with serving(mirror_url, body_timeout=1.0, max_waiting_bytes=MIB) as running:
        yield running


def is_unavailable(answer: httpx.Response) -> bool:
    """Whether the answer is the contract's 503 with Retry-After."""
    if answer.status_code != 503:
        return False
    assert answer.json()["error"] == "unavailable"
    assert int(answer.headers["retry-after"]) >= 1
    return True


def chunks(size: int):
    whole, rest = divmod(size, 65_536)
    yield from [b" " * 65_536] * whole
    yield b" " * rest


# ── size ──────────────────────────────────────────────────────────────────────────────────────────────────────


def padded(source: str, size: int, **parts) -> bytes:
    content = body(source, **parts)
    return content + b" " * (size - len(content))


@pytest.mark.parametrize("source", SIGNED)
def test_a_body_of_exactly_one_mebibyte_is_kept(served: Served, source: str):
    content = padded(source, MIB, key="exactly")
    assert len(served.delivery(served.send(source, content))["body"]) == MIB


@ON_ONE
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("chunked", [False, True], ids=["fixed length", "chunked"])
def test_one_byte_more_is_too_large_in_every_form(served: Served, source: str, chunked: bool):
    content, headers = padded(source, MIB + 1), {}
    if source != "sticky":
        headers = sent(source, content)[1]
    answer = served.post(source, chunks(MIB + 1) if chunked else content, headers)
    assert (answer.status_code, answer.json()["error"]) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"


def test_a_length_beyond_the_bound_is_refused_before_the_body_is_sent(served: Served):
    with served.connect() as connection:
        connection.sendall(request_head("sigma", b"Content-Length: %d" % (MIB + 1)))
        status, content = read_answer(connection)
    assert (status, json.loads(content)["error"]) == (413, "body_too_large")


def test_a_length_of_thousands_of_digits_does_not_cause_a_500(served: Served):
    with served.connect() as connection:
        connection.sendall(request_head("sigma", b"Content-Length: " + b"9" * 5_000))
        assert 400 <= read_answer(connection)[0] < 500


def test_a_chunked_body_within_the_bound_is_kept_in_one_piece(served: Served):
    content = padded("sigma", 200_000, key="in chunks")
    parts = (content[start : start + 50_000] for start in range(0, len(content), 50_000))
    answer = served.post("sigma", parts, sent("sigma", content)[1])
    assert served.delivery(answer.json()["delivery"])["body"].encode() == content


# ── incomplete bodies ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_body_cut_off_by_a_closed_connection_leaves_nothing_behind(served: Served, caplog):
    content = body("sigma", key="cut off")
    before = served.count()
    with caplog.at_level(logging.WARNING):
        for kept in range(0, len(content), 40):
            with served.connect() as connection:
                signature = b"X-Sigma-Signature: sha256=" + digits("sigma", content).encode()
                head = request_head("sigma", signature, b"Content-Length: %d" % len(content))
                connection.sendall(head + content[:kept])
        served.send("sigma", key="after the cut")
    assert served.count() == before + 1
    assert not caplog.records


def test_a_body_cut_off_between_chunks_leaves_nothing_behind(served: Served):
    before = served.count()
    with served.connect() as connection:
        connection.sendall(request_head("sigma", b"Transfer-Encoding: chunked") + b"5\r\n{    \r\n")
    served.send("sigma", key="after the chunk")
    assert served.count() == before + 1


@ON_ONE
def test_a_body_that_stops_in_the_middle_is_answered_with_503(hurried: Served):
    with hurried.connect() as connection:
        connection.sendall(request_head("sigma", b"Content-Length: 100") + b"{")
        status, content = read_answer(connection)
    assert (status, json.loads(content)["error"]) == (503, "limited")


@ON_ONE
def test_the_bytes_of_stopped_bodies_are_freed(hurried: Served):
    with hurried.connect() as one, hurried.connect() as another:
        for connection in (one, another):
            connection.sendall(request_head("sigma", b"Content-Length: 600000") + b" " * 500_000)
        assert [read_answer(connection)[0] for connection in (one, another)] == [503, 503]
    large = sent("sigma", padded("sigma", MIB - 1))
    wait_until(lambda: hurried.post("sigma", *large).status_code == 200, "room for a large body")


# ── backpressure ──────────────────────────────────────────────────────────────────────────────────────────────


@ON_ONE
def test_beyond_the_bound_of_waiting_bytes_senders_get_503(mirror_url, gate):
    with serving(mirror_url, max_waiting_bytes=MIB) as served, ThreadPoolExecutor() as pool:
        large = pool.submit(served.send, "sigma", padded("sigma", 1_000_000, key="waits"))
        wait_until(lambda: served.app.endpoint.waiting.bytes)
        assert is_unavailable(served.post("sigma", *sent("sigma", padded("sigma", 100_000))))
        gate.set()
        assert served.delivery(large.result(TIMEOUT))["state"] == "pending"
        served.send("sigma", padded("sigma", 100_000))


@ON_ONE
def test_endless_bodies_keep_no_sender_from_being_acked(mirror_url):
    with serving(mirror_url, max_waiting_bytes=MIB, max_incomplete_bytes=MIB) as served, ExitStack() as stack:
        for _ in range(12):
            stranger = stack.enter_context(served.connect())
            stranger.sendall(request_head("sigma", b"Content-Length: 300000") + b" " * 299_999)
        wait_until(lambda: served.metric('hookmirror_limited_total{limit="max_incomplete_bytes"}'))
        for number in range(20):
            served.send("sigma", padded("sigma", 60_000, key=f"honest {number}"))
        assert served.count() == 20


@ON_ONE
def test_a_body_ended_to_make_room_gets_an_answer(mirror_url):
    with serving(mirror_url, max_waiting_bytes=MIB, max_incomplete_bytes=MIB) as served, ExitStack() as stack:
        strangers = [stack.enter_context(served.connect()) for _ in range(3)]
        for stranger in strangers:
            stranger.sendall(request_head("sigma", b"Content-Length: 1000000") + b" " * 600_000)
        ended, _, _ = select.select(strangers, [], [], TIMEOUT)
        status, content = read_answer(ended[0])
    assert (status, json.loads(content)["error"]) == (503, "limited")


# ── database failures ─────────────────────────────────────────────────────────────────────────────────────────


def test_while_the_database_is_locked_senders_get_503_and_are_served_afterwards(impatient: Served):
    with another_writer(impatient.beside):
        assert is_unavailable(impatient.post("sigma", *sent("sigma", body("sigma"))))
        assert impatient.client.get("/healthz").status_code == 200
    # On PostgreSQL the transaction may still commit later. The repeated webhook is a duplicate then.
    again = sent("sigma", body("sigma"))
    wait_until(lambda: impatient.post("sigma", *again).status_code == 200, "the sender to be served")
    assert impatient.count() == 1


def test_a_short_lock_is_waited_out(mirror_url, monkeypatch):
    monkeypatch.setattr("receiver.server.app.LOCK_TIMEOUT", TIMEOUT)
    with serving(mirror_url) as served, ThreadPoolExecutor() as pool:
        with another_writer(served.beside):
            sending = pool.submit(served.send, "sigma")
            wait_until(lambda: served.client.get("/healthz").status_code == 200)
            assert not sending.done()
        assert served.delivery(sending.result(TIMEOUT))["state"] == "pending"


def test_a_database_that_refuses_every_row_leads_to_503(served: Served, mirror_url):
    with serving(mirror_url) as ill:
        with refusing(ill.beside, "bodies", "ill"):
            assert is_unavailable(ill.post("sigma", *sent("sigma", body("sigma"))))
            assert (ill.count("deliveries"), ill.count("dedup_keys")) == (0, 0)
        ill.send("sigma")
        assert (ill.count("deliveries"), ill.count("bodies"), ill.count("dedup_keys")) == (1, 1, 1)


def test_a_full_disk_leads_to_503_until_there_is_room(tmp_path):
    room = {"pages": 1_000_000}

    def bound(connection: sqlite3.Connection, *_) -> None:
        connection.execute(f"PRAGMA max_page_count = {room['pages']}")

    event.listen(Pool, "checkout", bound)
    try:
        with serving(f"sqlite:///{tmp_path / 'full.db'}") as served:
            first = served.send("sigma", key="before")
            room["pages"] = 1
            answers = [served.post("sigma", *sent("sigma", padded("sigma", 100_000, key=f"{n}"))) for n in range(10)]
            assert is_unavailable(answers[-1])
            kept = {answer.json()["delivery"] for answer in answers if answer.status_code == 200}
            assert served.count() == served.count("bodies") == len({first, *kept})
            room["pages"] = 1_000_000
            served.send("sigma", padded("sigma", 100_000, key="9"))
    finally:
        event.remove(Pool, "checkout", bound)


# ── the ack follows the commit ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("source", SOURCES)
def test_the_row_is_in_the_file_when_the_answer_arrives(served: Served, source: str):
    for number in range(5):
        delivery_id = served.send(source, key=f"commit {number}")
        assert served.count("bodies", f"delivery_id = {delivery_id}") == 1
        assert served.count("deliveries", f"id = {delivery_id}") == 1


def test_each_of_many_simultaneous_senders_finds_its_row_in_the_file(served: Served):
    def send(number: int) -> int:
        delivery_id = served.send("sigma", key=f"at once {number}")
        return served.count("bodies", f"delivery_id = {delivery_id}")

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(send, range(80))) == [1] * 80


# ── duplicates ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("source", SOURCES)
def test_the_same_webhook_again_is_a_duplicate_of_the_first(served: Served, source: str):
    first = served.send(source, key="again")
    answer = served.post(source, *sent(source, body(source, key="again")))
    assert answer.json() == {"status": "duplicate", "delivery": first}
    assert served.delivery(first)["duplicates"] == 1


def test_of_fifty_identical_simultaneous_requests_exactly_one_is_accepted(served: Served):
    content, headers = sent("sigma", body("sigma", key="fifty"))

    async def post_all() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=50)
        url = f"http://127.0.0.1:{served.port}/hooks/sigma"
        async with httpx.AsyncClient(limits=limits, timeout=TIMEOUT) as client:
            return await asyncio.gather(*(client.post(url, content=content, headers=headers) for _ in range(50)))

    answers = [answer.json() for answer in asyncio.run(post_all())]
    assert sorted(answer["status"] for answer in answers) == ["accepted"] + ["duplicate"] * 49
    assert len({answer["delivery"] for answer in answers}) == 1
    assert served.delivery(answers[0]["delivery"])["duplicates"] == 49


@pytest.mark.parametrize("source", ["sigma", "sticky"])
def test_the_same_delivery_id_with_another_body_is_kept_and_flagged(served: Served, source: str):
    first = served.send(source, key="reused", id="first")
    second = served.send(source, key="reused", id="first", data={"name": "Another"})
    shown = [served.delivery(each) for each in (first, second)]
    assert [(each["conflict"], each["state"]) for each in shown] == [(False, "pending"), (True, "pending")]
    again = served.post(source, *sent(source, body(source, key="reused", id="first", data={"name": "Another"})))
    assert again.json() == {"status": "duplicate", "delivery": second}


def test_two_accounts_of_one_system_do_not_share_delivery_ids(mirror_url):
    account = {"dialect": "sigma", "secrets": [SECRETS["sigma"]]}
    with serving(mirror_url, sources={"sigma-us": account, "sigma-eu": account}) as served:
        content, headers = sent("sigma", body("sigma", key="shared"))
        answers = [served.post(source, content, headers).json()["status"] for source in ("sigma-us", "sigma-eu")]
    assert answers == ["accepted", "accepted"]


# ── rotation ──────────────────────────────────────────────────────────────────────────────────────────────────


@ON_ONE
def test_two_secrets_are_valid_at_once_and_counted_by_which_verified(mirror_url):
    rotated = {"dialect": "indexed", "secrets": ["the-newest", "the-older"]}
    source = "rotated"
    with serving(mirror_url, sources={source: rotated}) as served:
        for secret, key in (("the-newest", "a"), ("the-older", "b"), ("the-older", "c")):
            content = body("indexed", key=key)
            signature = {HEADERS["indexed"]: digits("indexed", content, secret)}
            assert served.post(source, content, signature).status_code == 200
        assert served.metric(f'hookmirror_verified_total{{secret="0",source="{source}"}}') == 1
        assert served.metric(f'hookmirror_verified_total{{secret="1",source="{source}"}}') == 2
    with serving(mirror_url, sources={source: rotated | {"secrets": ["the-newest"]}}) as served:
        content = body("indexed", key="d")
        answer = served.post(source, content, {HEADERS["indexed"]: digits("indexed", content, "the-older")})
        assert (answer.status_code, answer.json()["error"]) == (401, "signature_wrong")


@ON_ONE
def test_a_key_phrase_rotates_like_a_secret(mirror_url):
    phrases = ["NewestPhraseOf32Characters000001", "OlderPhraseOf32Characters0000002"]
    with serving(mirror_url, sources={"sticky": SOURCES["sticky"] | {"secrets": phrases}}) as served:
        ids = [served.send("sticky", key=phrase, secret=phrase) for phrase in phrases]
        assert [served.delivery(each)["secret"] for each in ids] == [0, 1]


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-sound"])
def test_nothing_is_acked_after_a_file_of_the_database_was_removed(tmp_path, suffix):
    file = tmp_path / "mirror.db"
    with serving(f"sqlite:///{file}") as running:
        running.send("iimmpact", body("iimmpact", key="before"))
        (tmp_path / f"mirror.db{suffix}").unlink()
        assert is_unavailable(running.post("iimmpact", *sent("iimmpact", body("iimmpact", key="after"))))
        assert running.client.get("/readyz").status_code == 503


# ── beside the worker ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_worker_beside_a_busy_endpoint_settles_in_turns(tmp_path, monkeypatch, settled):
    url = f"sqlite:///{tmp_path / 'mirror.db'}"
    with serving(url) as without_worker:
        ids = [without_worker.send("iimmpact", body("iimmpact", key=f"K{number}")) for number in range(30)]
    monkeypatch.setattr(GroupCommit, "is_busy", lambda _: True)
    with serving(url, with_worker=True) as working:
        assert {working.ended(each)["state"] for each in ids} == {"processed"}
    assert settled == [25, 5]
