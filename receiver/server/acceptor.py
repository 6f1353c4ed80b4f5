"""The program of the acceptor process: `python -m receiver.server.acceptor DESCRIPTOR`, started by `AcceptorProcess`.

It gets its settings from the process that started it, so that both always have the same ones.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import select
import signal
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path

import structlog

from receiver.dialects.sources import begin_fetching
from receiver.errors import HookmirrorError
from receiver.inbox.inbox import Inbox
from receiver.ingest.acceptor import Acceptor
from receiver.ingest.channel import READ_BYTES
from receiver.ingest.frames import Unframing, with_length
from receiver.ingest.group_commit import LOCK_TIMEOUT, Storing
from receiver.logs import logs
from receiver.server.interpreter import tune_interpreter
from receiver.server.runtime import Runtime
from receiver.settings.settings import Settings, SourceSettings


def main() -> None:
    """Serve the process at the other end of the socket until that process closes the socket."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A signal to the whole group must not end it before the process that it serves, whose requests need answers.
        signal.signal(number, signal.SIG_IGN)
    channel = _own(socket.socket(fileno=int(sys.argv[1])))
    lifeline = _hold_lifeline()
    try:
        runtime = _runtime(channel)
    except HookmirrorError as error:
        structlog.get_logger(__name__).error("the acceptor process cannot start", reason=str(error))
        sys.exit(1)
    begin_fetching(runtime.sources.values())
    tune_interpreter()
    inbox = Inbox(runtime.database.beside(connections=1, lock_seconds=LOCK_TIMEOUT))
    try:
        Acceptor(channel, runtime.sources, Storing(inbox)).serve()
    finally:
        with suppress(OSError):
            # Closing would not tell the other side while a process that a dialect's code has forked holds the socket.
            channel.shutdown(socket.SHUT_RDWR)
    runtime.database.close()
    os.close(lifeline)


def _own(channel: socket.socket) -> socket.socket:
    """Keep the socket from processes that a dialect's code starts: the other side sees only its last copy close."""
    channel.set_inheritable(False)
    os.register_at_fork(after_in_child=channel.close)
    return channel


def _hold_lifeline() -> int:
    """Let the system kill this process once the other end of its standard input is closed, as by a killed server.

    The socket alone cannot end it while a dialect's code runs, which may never return, nor let another thread run.
    """
    lifeline = os.dup(sys.stdin.fileno())
    with open(os.devnull, "rb") as nothing:
        # A dialect's code that reads its standard input must not wait for what never comes.
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    if stat.S_ISFIFO(os.fstat(lifeline).st_mode):
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
        if select.select([lifeline], [], [], 0)[0]:
            # It was closed before the system watched it.
            sys.exit(0)
    return lifeline


def _runtime(channel: socket.socket) -> Runtime:
    """Make the runtime from the settings that arrive. Raises `ConfigurationError`."""
    settings: Settings
    settings, beside = pickle.loads(_received(channel))  # noqa: S301 (from the process that started this one)
    logs.configure(settings.log_level, settings.log_format)
    runtime = Runtime(settings, beside=beside)
    runtime.prepare()
    return runtime


def settings_sent(settings: Settings, beside: Path | None) -> bytes:
    """Encode the settings for the process, as `main` reads them."""
    plain = {name: _without_own(source) for name, source in settings.sources.items()}
    return with_length(pickle.dumps((settings.keeping({"sources": plain}), beside)))


def _without_own(source: SourceSettings) -> SourceSettings:
    """A copy without the dialect's model, which the process makes itself, because not every class can be pickled."""
    copy = source.model_copy()
    copy._own = None
    return copy


def _received(channel: socket.socket) -> bytes:
    """The content of `settings_sent`. Nothing follows it before this process says that it is ready."""
    unframing = Unframing()
    while data := channel.recv(READ_BYTES):
        for content in unframing.feed(data):
            return content
    # The process that started this one is gone.
    sys.exit(0)


if __name__ == "__main__":
    main()
