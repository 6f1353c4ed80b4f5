"""`hookmirror tail` and `top`, as a person and a script use them, on the database and through the API."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from contextlib import contextmanager, suppress

import pytest
from commanding import RECLAIM_SOON, TIMEOUT, Folder, Forks, is_alive, post, product, wait_until
from cutting import cutting
from serving import token

from receiver.api.tokens import Scope
from receiver.commands.pace import Pace


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Serve with a worker, and add a token to the environment."""
    folder = Folder(tmp_path_factory.mktemp("served"))
    with folder.serving() as (_, client):
        folder.environment["HOOKMIRROR_TOKEN"] = token(Scope.READ)
        wait_until(lambda: folder.count(table="processes") == 1, "the registration")
        yield folder, client


@contextmanager
def tailing(folder, *options):
    """Run a tail; give the process and the events that it has written so far."""
    with folder.start("tail", "--json", *options) as process:
        events = []
        reading = threading.Thread(target=lambda: [events.append(json.loads(line)) for line in process.stdout])
        reading.start()
        try:
            yield process, events
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            reading.join(TIMEOUT)


def end(process):
    """Terminate the tail, and return the cursor that it prints at its end."""
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT) == 0
    return json.loads(process.stderr.read().splitlines()[-1])["after"]


def shown(events):
    """The events about deliveries; a server that is slow to answer causes others."""
    return [event for event in events if event["event"] in ("arrived", "ended")]


def was_lost(events):
    return any(event["event"] == "lost" for event in events)


def told(events):
    return [(event["event"], event["delivery"]["entity"]) for event in shown(events)]


@pytest.mark.parametrize("over", ["the database", "the API"])
def test_a_tail_continues_exactly_where_it_was_cut(served, over):
    folder, client = served
    to = ("--to", str(client.base_url)) if over == "the API" else ()
    first = post(client, product(1, key=f"first {over}", name="Lamp")).json()["delivery"]
    with tailing(folder, "--since", first, *to) as (process, events):
        wait_until(lambda: len(shown(events)) == 2 or process.poll() is not None, "the first")
        cursor = end(process)
    assert told(events) == [("arrived", "product:P1"), ("ended", "product:P1")]
    post(client, product(2, key=f"second {over}", name="Lamp"))
    with tailing(folder, "--after", cursor, *to) as (process, events):
        wait_until(lambda: len(shown(events)) == 2 or process.poll() is not None, "the second")
        post(client, product(3, key=f"third {over}", name="Lamp"))
        wait_until(lambda: len(shown(events)) == 4 or process.poll() is not None, "the third")
        end(process)
    assert sorted(told(events)) == sorted((event, f"product:P{n}") for n in (2, 3) for event in ("arrived", "ended"))
    assert shown(events)[-1]["delivery"]["outcome"] in ("applied", "unchanged", "stale", "tie")


def test_a_tail_reports_a_lost_connection_with_its_time_and_misses_nothing(tmp_path):
    folder = Folder(tmp_path)
    with folder.serving() as (serving, client):
        folder.environment["HOOKMIRROR_TOKEN"] = token(Scope.READ)
        first = post(client, product(1, key="1", name="Lamp")).json()["delivery"]
        port = str(client.base_url.port)
        with tailing(folder, "--since", first, "--to", str(client.base_url)) as (process, events):
            wait_until(lambda: len(shown(events)) == 2 or process.poll() is not None, "the first")
            serving.send_signal(signal.SIGTERM)
            serving.wait()
            wait_until(lambda: events[-1]["event"] == "lost" or process.poll() is not None, "the loss")
            assert events[-1]["since"]
            lost = len(events) - 1
            with folder.running("serve", "--port", port):
                wait_until(lambda: events[-1]["event"] == "back" or process.poll() is not None, "the way back")
                post(client, product(2, key="2", name="Lamp"))
                wait_until(lambda: len(shown(events)) == 4 or process.poll() is not None, "the second")
                end(process)
    assert told(events) == [(event, f"product:P{number}") for number in (1, 2) for event in ("arrived", "ended")]
    assert [event["event"] for event in events[lost : lost + 2]] == ["lost", "back"]


def test_a_tail_whose_answers_are_cut_and_whose_server_is_killed_shows_each_event_once(tmp_path):
    folder, numbers = Folder(tmp_path, environment=dict(RECLAIM_SOON)), iter(range(1_000))

    def send(client, count):
        return [
            post(client, product(number, key=str(number), name="Lamp")).json()["delivery"]
            for number, _ in zip(numbers, range(count), strict=False)
        ]

    with folder.serving() as (serving, client), cutting(client.base_url.port) as proxy:
        folder.environment["HOOKMIRROR_TOKEN"] = token(Scope.READ)
        sent = send(client, 20)
        with tailing(folder, "--since", sent[0], "--to", proxy.url) as (process, events):
            wait_until(lambda: events or process.poll() is not None, "the first")
            proxy.to_cut = 2
            sent += send(client, 20)
            wait_until(lambda: proxy.was_cut == 2 or process.poll() is not None, "the cuts")
            sent += send(client, 20)
            serving.kill()
            serving.wait()
            wait_until(lambda: was_lost(events) or process.poll() is not None, "the loss")
            with folder.running("serve", "--port", str(client.base_url.port)):
                wait_until(lambda: is_alive(client), "the second server")
                sent += send(client, 20)
                wait_until(lambda: len(shown(events)) >= 2 * len(sent) or process.poll() is not None, "all events")
                end(process)
    assert [event["delivery"]["id"] for event in events if event["event"] == "arrived"] == sent
    assert sorted(event["delivery"]["id"] for event in events if event["event"] == "ended") == sent
    assert was_lost(events)


def test_top_shows_sources_processes_and_the_time(served):
    folder, client = served
    post(client, product(9, key="for top", name="Lamp"))
    wait_until(lambda: folder.states().keys() == {"processed"}, "all to be processed")
    with Forks(1) as forks:
        here = json.loads(forks.run(folder, "top", "--json").stdout)
        there = json.loads(forks.run(folder, "top", "--json", "--to", str(client.base_url)).stdout)
        for_people = forks.run(folder, "top", "--once").stdout
    for frame in (here, there):
        sources = {each["source"]: each for each in frame["sources"]}
        assert sources["iimmpact"]["last_delivery_at"]
        assert (sources["iimmpact"]["pending"], sources["sigma"]["last_delivery_at"]) == (0, None)
        assert [each["kind"] for each in frame["processes"]] == ["endpoint and worker"]
        assert frame["as_of"]
        assert set(Pace._fields) <= set(sources["iimmpact"])
    assert for_people.startswith("as of ")
    assert "DRAINS IN" in for_people
    assert "iimmpact" in for_people
    assert "endpoint and worker" in for_people


def test_top_refreshes_its_screen_in_a_terminal_until_it_is_interrupted(served):
    folder, _ = served
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    shown = bytearray()
    command = [sys.executable, "-m", "receiver", "top"]
    surroundings = {**folder.surroundings(), "TERM": "xterm-256color", "COLUMNS": "200", "LINES": "40"}
    with subprocess.Popen(command, cwd=folder.path, env=surroundings, stdin=theirs, stdout=theirs) as process:
        os.close(theirs)
        reading = threading.Thread(target=_read_all, args=(ours, shown))
        reading.start()
        try:
            wait_until(lambda: shown.count(b"as of ") >= 2 or process.poll() is not None, "a second frame")
            process.send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT) == 0
        finally:
            process.kill()
    reading.join(TIMEOUT)
    os.close(ours)
    assert b"iimmpact" in shown
    assert 0 <= shown.find(b"\x1b[?1049h") < shown.find(b"as of "), "a screen of its own"
    assert b"\x1b[?1049l" in shown, "the screen of before is back"


def _read_all(terminal: int, into: bytearray) -> None:
    # Reading a terminal without a writer is an error.
    with suppress(OSError):
        while some := os.read(terminal, 4096):
            into += some


def test_runs_are_planned_started_and_shown_through_the_api(served):
    folder, client = served
    post(client, product(21, key="for a run", name="Lamp"))
    wait_until(lambda: folder.states().keys() == {"processed"}, "all to be processed")
    operate = folder.run("token", "--scope", "operate", "--name", "ops-1").stdout.strip()
    there = ("--to", str(client.base_url), "--token", operate)
    with Forks(1) as forks:
        planned = json.loads(forks.run(folder, "runs", "plan", "--source", "iimmpact", *there, "--json").stdout)
        assert (planned["state"], planned["planned_by"], planned["worker"]) == ("planned", "ops-1", True)
        without = forks.run(folder, "runs", "start", planned["id"], *there)
        assert "A start needs a reason" in without.stderr
        unknown = forks.run(folder, "runs", "plan", planned["id"], *there)
        assert f"There is no delivery {planned['id']}, so nothing is planned: leave it out of ID." in unknown.stderr
        assert forks.run(folder, "runs", "start", planned["id"], *there, "--reason", "a test").returncode == 0

        def shown():
            return json.loads(forks.run(folder, "runs", "show", planned["id"], *there, "--json").stdout)

        wait_until(lambda: shown()["state"] == "done", "the run")
        listed = forks.run(folder, "runs", *there).stdout
    assert f"Run {planned['id']}: replay of iimmpact, done" in listed
    assert "by ops-1: a test" in listed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("tail", "--after", "x"), "copy all of it"),
        (("tail", "--after", "x", "--since", "2h"), "give only one of them"),
        (("tail", "--since", "yesterday"), "takes a time with its offset"),
        (("tail", "--source", "nosuch"), "There is no source 'nosuch'"),
        (("tail", "--entity", ""), "--entity is empty: give it a value, or leave it out"),
        (("tail", "--type", "x" * 10_000), "takes at most 512 characters"),
        (("tail", "--to", "http://127.0.0.1:9", "--token", "x"), "No server answers"),
        (("top", "--to", "http://127.0.0.1:9", "--token", "x"), "No server answers"),
    ],
)
def test_arguments_that_are_not_valid_are_refused(served, arguments, says):
    folder, _ = served
    done = folder.run(*arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
