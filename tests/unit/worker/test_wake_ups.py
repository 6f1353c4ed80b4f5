"""What ends the pause of a worker that found nothing to do."""

from __future__ import annotations

import threading
from typing import Any, cast

from receiver.worker.wake_ups import SHORT_PAUSES, WakeUp

#: Seconds of a pause that nothing ended, and the most seconds for one that something ends.
LONG, SOON = 300.0, 60.0


class File:
    """A database of which only the log is seen."""

    is_postgresql = False
    log_stamp = (0, 0)

    def write(self) -> None:
        self.log_stamp = (self.log_stamp[0] + 1, 0)


def new_wake_up(file: File) -> WakeUp:
    return WakeUp(cast("Any", file))


def pause(wake_up: WakeUp) -> threading.Thread:
    """Begin a long pause."""
    pausing = threading.Thread(target=wake_up.wait, args=(LONG,), daemon=True)
    pausing.start()
    return pausing


def ends(pausing: threading.Thread) -> bool:
    pausing.join(SOON)
    return not pausing.is_alive()


def test_a_call_before_or_during_a_pause_ends_it():
    wake_up = new_wake_up(File())
    wake_up.set()
    assert ends(pause(wake_up))
    pausing = pause(wake_up)
    wake_up.set()
    assert ends(pausing)


def test_a_write_of_another_process_ends_the_pause():
    file = File()
    wake_up = new_wake_up(file)
    wake_up.look()
    pausing = pause(wake_up)
    file.write()
    assert ends(pausing)


def test_a_write_between_the_look_and_the_pause_ends_it():
    file = File()
    wake_up = new_wake_up(file)
    wake_up.look()
    file.write()
    assert ends(pause(wake_up))


def test_the_pauses_after_a_write_are_short_because_its_commit_may_show_later():
    file = File()
    wake_up = new_wake_up(file)
    file.write()
    for _ in range(SHORT_PAUSES):
        wake_up.look()
        assert ends(pause(wake_up))
    wake_up.look()
    long = pause(wake_up)
    long.join(0.1)
    assert long.is_alive()
    wake_up.set()
    assert ends(long)
