"""Signals to end: the exit code after Ctrl-C, and the effect of signals while a command is still starting."""

from __future__ import annotations

# The imports of this module have no guard, so they are few and quick.
import os
import signal

#: The exit code that shells show for a command that Ctrl-C ended.
INTERRUPTED = 130

#: Seconds between two checks for a signal that did not interrupt the main thread. The system may deliver the signal to
#: any thread, for example if the process was stopped (Ctrl-Z) when it was sent, but only the main thread handles it.
SIGNAL_POLL = 1.0


class EndingAtOnce:
    """Lets Ctrl-C end the process inside the block, which must begin nothing that has to be finished or undone.

    Without it, Ctrl-C raises an exception inside an import, which is shown with all its frames, or is lost in code that
    ignores it.
    """

    def __enter__(self) -> None:
        # In the background, the shell has a command ignore Ctrl-C.
        self._is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._is_ours:
            signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))

    def __exit__(self, *_: object) -> None:
        if self._is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class EndingTidily:
    """Lets SIGTERM and SIGHUP raise `SystemExit` inside the block, so that it removes its files and ends its processes.

    Only for the main thread.
    """

    def __enter__(self) -> None:
        numbers = (signal.SIGTERM, signal.SIGHUP)
        # `nohup` has a command ignore the end of its terminal.
        self._before = {each: signal.getsignal(each) for each in numbers if signal.getsignal(each) != signal.SIG_IGN}
        for each in self._before:
            signal.signal(each, self._end)

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _end(self, number: int, _: object) -> None:
        # Shells, terminals and `timeout` may send two signals, and the second one would interrupt the tidying.
        for each in self._before:
            signal.signal(each, signal.SIG_IGN)
        # The exit code that shells show for a command that the signal ended.
        raise SystemExit(128 + number)


def end_at_sigterm() -> None:
    """Let SIGTERM end the first process of a container, which ignores signals that it does not handle.

    It ends without a failure, as soon as the interpreter runs. Any other process is ended by the system, at once.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
