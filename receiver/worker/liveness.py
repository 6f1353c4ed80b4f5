"""Which workers are dead because their process has ended, and which hang although it runs.

A worker's name says where it runs, so that others on the same machine need not wait for its lease to end when its
process has. `Pulse` and `Watch` are for the opposite case: the process is there, and a handler of it never returns.
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

#: How many times within the lease a pulse is polled: a hang is noticed at most a fraction of the lease too late.
POLLS_PER_LEASE = 10

# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Place(NamedTuple):
    """Where a worker runs. Two processes that live at once never have the same."""

    #: A hash of the machine, its start, and the process namespace: where this is equal, a `pid` means one process.
    namespace: str
    pid: int
    #: When the process began, in ticks since the machine started: who came to bear the same number later has another.
    #: 0 where the system does not say.
    began: int


def new_name() -> str:
    """A name for a worker of this process: `host:namespace:pid:began:random`. It lives until it is deregistered."""
    name = ":".join([socket.gethostname(), *map(str, _here()), secrets.token_hex(4)])
    _LIVING.add(name)
    return name


def deregister(name: str) -> None:
    """Count this worker as dead, so that its deliveries may be reclaimed."""
    _LIVING.discard(name)


def dead(workers: Iterable[str]) -> list[str]:
    """The workers that are certainly dead: their deliveries can be reclaimed before their leases end.

    A worker of another machine or container is never among them, nor a name of another form: nothing is known of it.
    """
    return [worker for worker in workers if worker not in _LIVING and _is_dead(worker)]


def host_and_pid(worker: str) -> str:
    """A worker's name as people look for its process: `host:pid`."""
    place = _place(worker)
    return worker if place is None else f"{worker.rsplit(':', 4)[0]}:{place.pid}"


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
    # It holds on to the process, however soon the number is given to another.
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
        # Either of this process, and not among the living; or of one before a restart.
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
    # A killed process is still listed, as a zombie, until its parent has waited for it.
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
    """Containers may share their host's name and have the same process numbers for others."""
    parts = [socket.gethostname()]
    if sys.platform == "linux":
        try:
            parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
        except OSError:
            # Nothing can be said about any other process, so this one is alone in its namespace.
            return _ALONE
    return hashlib.blake2s(" ".join(parts).encode(), digest_size=5).hexdigest()


def _stat(pid: int) -> tuple[str, int]:
    """State and beginning of a process; empty and 0 where the system does not say."""
    try:
        # The second field is the program's name in brackets, which may hold blanks and brackets itself.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return "", 0


#: The workers of this process: what bears its process id but not one of these names is from before a restart.
_LIVING: set[str] = set()

_ALONE = secrets.token_hex(5)


# ── signs of life ─────────────────────────────────────────────────────────────────────────────────────────────────


class AtHand(NamedTuple):
    """Code of a dialect that is running: for which delivery, which code, and on which thread."""

    delivery: int
    code: str
    thread: int
    #: Whether it runs inside the settling transaction, and so holds locks while it hangs.
    in_transaction: bool = False
    #: Tells this run from earlier ones, and grows with each sign of life.
    beats: int = 0

    @property
    def stack(self) -> str:
        """Where it is now; empty if its thread has ended."""
        frame = sys._current_frames().get(self.thread)
        return "".join(traceback.format_stack(frame)) if frame is not None else ""


class Pulse:
    """The signs of life that a worker gives while it runs a dialect's code: one at every beginning and every end.

    The worker's own code is not watched, because its waits for the database have limits of their own.
    """

    def __init__(self) -> None:
        self._beats = count()
        #: By delivery, since several are hydrated at once.
        self._running: dict[int, AtHand] = {}

    def beat(self) -> None:
        """Show that the run on this thread moves; on an unknown thread, that all runs move."""
        here = threading.get_ident()
        known = list(self._running.items())
        for delivery, each in [item for item in known if item[1].thread == here] or known:
            if self._running.get(delivery) is each:
                self._running[delivery] = each._replace(beats=next(self._beats))

    def begin(self, delivery: int, code: str, *, in_transaction: bool = False) -> None:
        """A dialect's code is about to run for this delivery, on this thread."""
        self._running[delivery] = AtHand(delivery, code, threading.get_ident(), in_transaction, next(self._beats))

    def end(self, delivery: int) -> None:
        """Note that the run has ended, with or without an error."""
        running = self._running.get(delivery)
        # Another thread may run the same delivery by now, if this one was given up.
        if running is not None and running.thread == threading.get_ident():
            self._running.pop(delivery, None)

    @property
    def at_hand(self) -> list[AtHand]:
        """What runs now."""
        return list(self._running.values())


class Watch:
    """Polls a pulse, and names the runs that have stood still for too long, even while others move.

    It counts polls, not seconds: a process that was paused as a whole has not polled, and so finds nothing hanging.
    """

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        #: How often each was seen as it is now.
        self._still: dict[AtHand, int] = {}

    def poll(self) -> list[AtHand]:
        """The runs that have been hanging for `POLLS_PER_LEASE` polls; empty while all is well."""
        self._still = {each: self._still.get(each, -1) + 1 for each in self._pulse.at_hand}
        return [each for each, polls in self._still.items() if polls > POLLS_PER_LEASE]
