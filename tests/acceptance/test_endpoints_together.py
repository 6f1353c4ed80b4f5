"""Several endpoint processes on one database: an event that is sent to two of them is stored once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from commanding import Folder, post, product, wait_until

ENDPOINTS, EVENTS, SENDERS = 3, 300, 12


def accepted(client, content: bytes) -> tuple[str, str]:
    """Post until the endpoint acknowledges, as a sender does; return the status and the delivery's id."""

    def answered():
        answer = post(client, content)
        assert answer.status_code in (200, 503)
        return answer.json() if answer.status_code == 200 else None

    answer = wait_until(answered, "an ack")
    return answer["status"], answer["delivery"]


def test_each_event_that_reaches_two_endpoints_at_once_is_accepted_by_one_and_applied_once(tmp_path, mirror_url):
    folder = Folder(tmp_path, database_url=mirror_url)
    with ExitStack() as stack:
        clients = [stack.enter_context(folder.serving("--no-worker"))[1] for _ in range(ENDPOINTS)]
        pool = stack.enter_context(ThreadPoolExecutor(SENDERS))
        answers = []
        for number in range(EVENTS):
            content = product(number % 40, key=f"{number}", name=f"{number}", at=at(number))
            two = clients[number % ENDPOINTS], clients[(number + 1) % ENDPOINTS]
            answers += [(number, pool.submit(accepted, client, content)) for client in two]
        told = [(number, *answer.result()) for number, answer in answers]
        with folder.running("worker"):
            wait_until(lambda: folder.states() == {"processed": EVENTS}, "the worker")

    by_event: dict[int, set[str]] = {}
    for number, _, delivery in told:
        by_event.setdefault(number, set()).add(delivery)
    assert all(len(deliveries) == 1 for deliveries in by_event.values())
    assert Counter(status for _, status, _ in told) == {"accepted": EVENTS, "duplicate": EVENTS}
    assert folder.query("SELECT sum(duplicates) FROM deliveries") == [(EVENTS,)]
    mirror = dict(folder.query("SELECT external_id, name FROM products"))
    assert mirror == {f"P{number % 40}": f"{number}" for number in range(EVENTS)}
    effects = folder.query("SELECT delivery_id FROM changes")
    assert len(effects) == len(set(effects))


def at(number: int) -> str:
    return f"2026-03-04T12:{number // 60:02}:{number % 60:02}Z"
