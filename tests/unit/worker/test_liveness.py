"""Which workers are alive, judged by their names and by their signs of life."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from receiver.worker import liveness
from receiver.worker.liveness import POLLS_PER_LEASE, Pulse, Watch, dead, deregister, new_name


@pytest.fixture
def name():
    name = new_name()
    yield name
    deregister(name)


@pytest.fixture
def other():
    """Start another process of this machine, which waits until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def elsewhere(name: str, **parts: object) -> str:
    """Return the name with other parts, like that of a worker on another machine or in another process."""
    host, namespace, pid, began, token = name.split(":")
    told = {"host": host, "namespace": namespace, "pid": pid, "began": began, "token": token} | parts
    return ":".join(str(told[part]) for part in ("host", "namespace", "pid", "began", "token"))


def beginning(pid: int) -> int:
    return liveness._stat(pid)[1]


def test_names_differ_within_a_process(name):
    another = new_name()
    deregister(another)
    assert another != name
    assert another.rpartition(":")[0] == name.rpartition(":")[0]


def test_a_worker_of_this_process_is_alive_until_it_is_deregistered(name):
    assert dead([name]) == []
    deregister(name)
    assert dead([name]) == [name]


def test_a_worker_with_this_process_s_number_from_before_a_restart_is_dead(name):
    before = elsewhere(name, began=1, token="before")
    assert dead([before]) == [before]


def test_a_worker_of_another_running_process_is_alive(name, other):
    assert dead([elsewhere(name, pid=other.pid, began=beginning(other.pid))]) == []


def test_a_worker_of_a_killed_process_is_dead_even_before_the_process_is_reaped(name, other):
    worker = elsewhere(name, pid=other.pid, began=beginning(other.pid))
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert dead([worker]) == [worker]


def test_a_worker_whose_process_number_now_belongs_to_another_process_is_dead(name, other):
    worker = elsewhere(name, pid=other.pid, began=beginning(other.pid) - 1)
    assert dead([worker]) == [worker]


def test_a_worker_with_the_same_process_number_in_another_container_is_not_called_dead(name):
    # Two containers may have the same host name. Whether process 1 of the other one runs cannot be seen from here.
    assert dead([elsewhere(name, namespace="0123456789"), elsewhere(name, namespace="0123456789", pid=1)]) == []


def test_without_proc_the_process_number_alone_decides(name, other, monkeypatch):
    monkeypatch.setattr(liveness, "_stat", lambda _: ("", 0))
    worker = elsewhere(name, pid=other.pid, began=beginning(other.pid))
    assert dead([worker]) == []
    other.kill()
    other.wait()
    assert dead([worker]) == [worker]


@pytest.mark.parametrize("form", ["", "host", "host:1:hangs", "host:space:one:two:three", "a:b:c"])
def test_a_name_of_another_form_is_not_called_dead(form):
    assert dead([form]) == []


# ── signs of life ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pulse_without_a_delivery_never_hangs():
    watch = Watch(Pulse())
    assert [watch.poll() for _ in range(3 * POLLS_PER_LEASE)] == [[]] * 3 * POLLS_PER_LEASE


def test_a_handler_without_a_sign_of_life_for_the_lease_is_reported_with_its_line():
    pulse, gate = Pulse(), threading.Event()

    def hang_here() -> None:
        begun = pulse.begin(7, "shop.upsert")
        gate.wait()
        pulse.end(begun)

    watch = Watch(pulse)
    thread = threading.Thread(target=hang_here)
    thread.start()
    try:
        while not pulse.at_hand:
            pass
        polls = [watch.poll() for _ in range(POLLS_PER_LEASE + 2)]
    finally:
        (at_hand,) = pulse.at_hand
        stack = at_hand.stack
        gate.set()
        thread.join()
    assert polls[:-1] == [[]] * (POLLS_PER_LEASE + 1)
    assert polls[-1] == [at_hand]
    assert (at_hand.delivery, at_hand.code) == (7, "shop.upsert")
    assert "in hang_here" in stack
    assert at_hand.stack == ""


def test_a_call_on_an_ended_thread_has_no_stack_although_a_later_thread_got_its_number():
    pulse, gate = Pulse(), threading.Event()
    ended = threading.Thread(target=pulse.begin, args=(7, "shop.upsert"))
    ended.start()
    ended.join()
    later = [threading.Thread(target=gate.wait) for _ in range(50)]
    try:
        for thread in later:
            thread.start()
        if ended.ident not in [thread.ident for thread in later]:
            pytest.skip("this system gave the number to no later thread")
        assert [each.stack for each in pulse.at_hand] == [""]
    finally:
        gate.set()
        for thread in later:
            thread.join()


def test_a_handler_that_moves_between_two_polls_does_not_hang():
    pulse = Pulse()
    pulse.begin(7, "shop.fetch")
    watch = Watch(pulse)
    for _ in range(3 * POLLS_PER_LEASE):
        pulse.beat()
        assert watch.poll() == []


def test_the_time_counts_anew_for_the_next_handler():
    pulse = Pulse()
    watch = Watch(pulse)
    begun = pulse.begin(1, "shop.upsert")
    for _ in range(POLLS_PER_LEASE):
        watch.poll()
    pulse.end(begun)
    pulse.begin(2, "shop.upsert")
    assert [watch.poll() for _ in range(POLLS_PER_LEASE)] == [[]] * POLLS_PER_LEASE
