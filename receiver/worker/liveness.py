"""Detects workers that are dead because their process has ended, and workers that hang in a running process.

A worker's name contains its machine and process, so that other workers on the machine detect its end before its lease
ends. `Pulse` and `Watch` detect the opposite case: a running process with a handler that never returns.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

#: Polls of a pulse per lease: a hang is detected at most one poll late.
POLLS_PER_LEASE = 10

# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Place(NamedTuple):
    """The machine and process of a worker. Two processes that run at the same time have different places."""

    #: A hash of the machine, its start, and the process namespace, within which a `pid` is unique.
    namespace: str
    pid: int
    #: The start of the process, in ticks since the machine's start; it differs for a later process with the same id.
    #: 0 if the system does not provide it.
    began: int


def new_name() -> str:
    """Register a new name of a worker in this process, `host:namespace:pid:began:random`, until it is deregistered."""
    name = ":".join([socket.gethostname(), *map(str, _here()), secrets.token_hex(4)])
    _LIVING.add(name)
    return name


def deregister(name: str) -> None:
    """Remove the name of a worker, which then counts as dead, so that its deliveries may be reclaimed."""
    _LIVING.discard(name)


def dead(workers: Iterable[str]) -> list[str]:
    """Select the workers that are certainly dead, whose deliveries can be reclaimed before their leases end.

    Workers of other machines or containers, and names of another form, are never among them.
    """
    return [worker for worker in workers if worker not in _LIVING and _is_dead(worker)]


def host_and_pid(worker: str) -> str:
    """A worker's name as people look for its process: `host:pid`."""
    place = _place(worker)
    return worker if place is None else f"{worker.rsplit(':', 4)[0]}:{place.pid}"


def short_name(worker: str) -> str:
    """The random end of a name, which distinguishes it from all others; what tallies have of a process's name."""
    return worker.rpartition(":")[2]


def are_of_one_process(name: str, other: str) -> bool:
    """Whether both names were made in the same process."""
    return name.rpartition(":")[0] == other.rpartition(":")[0]


def is_here(worker: str) -> bool:
    """Whether it runs on this machine and in this container, so that its process id means something here."""
    place = _place(worker)
    return place is not None and place.namespace == _namespace()


def signal_to(worker: str, number: signal.Signals) -> None:
    """Send a signal to its process, and never to a later one with the same number.

    Raises `ProcessLookupError` if it has ended, and `PermissionError` if it belongs to another user.
    """
    place = _place(worker)
    if place is None or not is_here(worker):
        raise ProcessLookupError(worker)
    if sys.platform != "linux":
        os.kill(place.pid, number)
        return
    # The descriptor refers to this process even if its id is reused.
    process = os.pidfd_open(place.pid)
    try:
        if not _is_running(place):
            raise ProcessLookupError(worker)
        signal.pidfd_send_signal(process, number)
    finally:
        os.close(process)


def _is_dead(worker: str) -> bool:
    place, here = _place(worker), _here()
    if place is None or place.namespace != here.namespace:
        return False
    if place.pid == here.pid:
        # Either a deregistered worker of this process, or one of a process before a restart.
        return True
    return not _is_running(place)


def _is_running(place: Place) -> bool:
    try:
        os.kill(place.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    state, began = _stat(place.pid)
    # A killed process stays listed as a zombie until its parent has waited for it.
    return state not in ("Z", "X") and (not place.began or not began or place.began == began)


def _place(worker: str) -> Place | None:
    try:
        namespace, pid, began, _ = worker.split(":")[-4:]
        return Place(namespace, int(pid), int(began))
    except ValueError:
        return None


def _here() -> Place:
    return Place(_namespace(), os.getpid(), _stat(os.getpid())[1])


def _namespace() -> str:
    """The namespace of process ids, because containers may share a host's name and process ids."""
    parts = [socket.gethostname()]
    if sys.platform == "linux":
        try:
            parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
        except OSError:
            # Other processes cannot be examined, so this one gets a namespace of its own.
            return _ALONE
    return hashlib.blake2s(" ".join(parts).encode(), digest_size=5).hexdigest()


def _stat(pid: int) -> tuple[str, int]:
    """The state and the beginning of a process; empty and 0 if the system does not provide them."""
    try:
        # The second field is the program's name in brackets, which may contain blanks and brackets itself.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return "", 0


#: The names of this process's workers; other names with its process id date from before a restart.
_LIVING: set[str] = set()

_ALONE = secrets.token_hex(5)


# ── signs of life ─────────────────────────────────────────────────────────────────────────────────────────────────


class AtHand(Struct, frozen=True):
    """A running call of a dialect's code: its delivery, its code, and its thread."""

    delivery: int
    code: str
    #: The thread itself, because the number of an ended thread is given to a later one.
    thread: threading.Thread
    #: Whether it runs inside the settling transaction, and so holds locks while it hangs.
    in_transaction: bool = False
    #: Grows with each sign of life, and distinguishes this call from earlier ones.
    beats: int = 0

    @property
    def stack(self) -> str:
        """The current stack of its thread; empty if the thread has ended."""
        frame = sys._current_frames().get(self.thread.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame is not None and self.thread.is_alive() else ""


class Pulse:
    """The signs of life that a worker gives while it runs a dialect's code: one at every beginning and every end.

    The worker's own code is not watched: it waits only for the database, while another session holds a lock, too.
    """

    def __init__(self) -> None:
        self._beats = count()
        #: By delivery, since several are hydrated at once.
        self._running: dict[int, AtHand] = {}

    def beat(self) -> None:
        """Give a sign of life for the call on this thread; on an unknown thread, for all calls."""
        here = threading.current_thread()
        known = list(self._running.items())
        for delivery, each in [item for item in known if item[1].thread is here] or known:
            if self._running.get(delivery) is each:
                self._running[delivery] = replace(each, beats=next(self._beats))

    def begin(self, delivery: int, code: str, *, in_transaction: bool = False) -> AtHand:
        """Note that a dialect's code begins for this delivery on this thread, and return the call, for `end`."""
        begun = AtHand(delivery, code, threading.current_thread(), in_transaction, next(self._beats))
        self._running[delivery] = begun
        return begun

    def end(self, begun: AtHand) -> None:
        """Note that the call has ended, with or without an error."""
        running = self._running.get(begun.delivery)
        # If this thread was given up, another thread may be processing the same delivery.
        if running is not None and running.thread is begun.thread:
            self._running.pop(begun.delivery, None)

    @property
    def at_hand(self) -> list[AtHand]:
        """List the running calls."""
        return list(self._running.values())


class Watch:
    """Polls a pulse, and detects calls without a sign of life for too long, even while others give some.

    It counts polls, not seconds: a process that was paused as a whole has not polled, and so finds nothing hanging.
    """

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        #: The number of polls that have found each call unchanged.
        self._still: dict[AtHand, int] = {}

    def poll(self) -> list[AtHand]:
        """Poll once, and return the calls that were unchanged for `POLLS_PER_LEASE` polls."""
        self._still = {each: self._still.get(each, -1) + 1 for each in self._pulse.at_hand}
        return [each for each, polls in self._still.items() if polls > POLLS_PER_LEASE]
