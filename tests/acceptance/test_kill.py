"""`kill -9` in the middle of a stream, again and again: every acked event is stored once, and the mirror is right."""

from __future__ import annotations

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
from commanding import RECLAIM_SOON, Folder, Forks, post, product, wait_until

KILLS, EVENTS, PRODUCTS, SENDERS = 6, 300, 25, 4


@dataclass
class Sender:
    """The events that are still to be sent, and the ids in the acks of each event."""

    jitter: random.Random
    to_send: list[int] = field(default_factory=lambda: list(range(EVENTS)))
    acked: dict[int, list[str]] = field(default_factory=dict)

    def body(self, event: int) -> bytes:
        at = f"2026-03-04T12:{event // 60:02}:{event % 60:02}Z"
        return product(event % PRODUCTS, key=f"k{event}", name=f"name {event}", at=at)

    def send_until_it_dies(self, client: httpx.Client) -> None:
        """Send until the server dies. An event without an ack is sent again, as by a real sender."""
        while self.to_send:
            try:
                event = self.to_send.pop(self.jitter.randrange(len(self.to_send)))
            except (IndexError, ValueError):
                return  # another thread took the last event
            try:
                answer = post(client, self.body(event))
            except httpx.TransportError:
                self.to_send.append(event)
                return
            if answer.status_code == 200:
                self.acked.setdefault(event, []).append(answer.json()["delivery"])
            else:
                self.to_send.append(event)

    def resend_some(self) -> None:
        """Send some events again, like senders that did not see the ack."""
        self.to_send += self.jitter.sample(sorted(self.acked), min(10, len(self.acked)))


def suffer(folder: Folder, sender: Sender, forks: Forks) -> None:
    """Kill a server at random instants and start it again on the same file, until all events are processed."""
    for kills_left in reversed(range(KILLS + 1)):
        with forks.serving(folder) as (kill, client), ThreadPoolExecutor(SENDERS) as pool:
            streams = [pool.submit(sender.send_until_it_dies, client) for _ in range(SENDERS)]
            if kills_left:
                goal = len(sender.acked) + sender.jitter.randrange(EVENTS // KILLS)
                wait_until(lambda goal=goal: len(sender.acked) >= goal or not sender.to_send, "some acks")
                time.sleep(sender.jitter.random() * 0.05)  # a random instant, including one between two acks
                assert kill() == -signal.SIGKILL
            for stream in streams:
                stream.result()
            if not kills_left:
                # A connection that was idle for too long is cut, which a sender takes for the server's death.
                wait_until(lambda: sender.send_until_it_dies(client) or not sender.to_send, "all acks")
                wait_until(lambda: folder.states().keys() <= {"processed"}, "the worker")
        sender.resend_some()


def test_after_half_a_dozen_kills_each_acked_event_is_stored_once_and_the_mirror_equals_what_was_sent(
    tmp_path, mirror_url, database_system
):
    folder = Folder(tmp_path, database_url=mirror_url, environment=RECLAIM_SOON)
    sender = Sender(random.Random(20260304))
    with Forks(1) as forks:
        suffer(folder, sender, forks)

    assert sender.acked.keys() == set(range(EVENTS))
    assert all(len(set(ids)) == 1 for ids in sender.acked.values()), "a resent event is a duplicate of the first"
    stored = {str(number) for (number,) in folder.query("SELECT id FROM deliveries")}
    assert stored == {ids[0] for ids in sender.acked.values()}
    assert folder.states() == {"processed": EVENTS}

    mirror = dict(folder.query("SELECT external_id, name FROM products WHERE active"))
    last = {event % PRODUCTS: event for event in range(EVENTS)}
    assert mirror == {f"P{number}": f"name {event}" for number, event in last.items()}

    effects = folder.query("SELECT delivery_id FROM changes")
    assert len(effects) == len(set(effects)), "no delivery had its effect twice"
    if database_system == "sqlite":
        assert folder.query("PRAGMA integrity_check") == [("ok",)]
