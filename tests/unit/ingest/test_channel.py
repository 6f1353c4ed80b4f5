"""The channel between two processes: all bytes in order, however slowly the other side reads."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from receiver.ingest.channel import Channel

#: More than a socket takes without a reader.
MUCH = b"0123456789" * 500_000


def play(scene):
    """Run a scene with a channel, the other end of its socket, and what the channel tells."""

    async def played():
        ours, theirs = socket.socketpair()
        received, lost = bytearray(), asyncio.Event()
        channel = Channel(ours, asyncio.get_running_loop(), received=received.extend, lost=lost.set)
        theirs.settimeout(20)
        with theirs:
            await asyncio.wait_for(scene(channel, theirs, received, lost), 20)
        channel.close()

    asyncio.run(played())


def read_all(sock: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        found += sock.recv(65_536)
    return bytes(found)


def test_more_than_the_socket_takes_is_sent_in_order():
    async def scene(channel, theirs, *_):
        for part in (MUCH, b"the", b" end"):
            channel.send(part)
        assert await asyncio.to_thread(read_all, theirs, len(MUCH) + 7) == MUCH + b"the end"

    play(scene)


def test_the_loss_of_the_other_side_is_told_once_and_what_is_sent_later_is_dropped():
    async def scene(channel, theirs, received, lost):
        theirs.sendall(b"last words")
        theirs.close()
        await lost.wait()
        channel.close()
        assert received == b"last words"

    play(scene)


def test_finishing_sends_the_rest_and_passes_on_the_last_answers():
    async def scene(channel, theirs, received, lost):
        channel.send(MUCH)

        def answer():
            read_all(theirs, len(MUCH))
            assert theirs.recv(1) == b"", "nothing more is sent"
            theirs.sendall(b"answered")
            theirs.shutdown(socket.SHUT_WR)

        answering = threading.Thread(target=answer)
        answering.start()
        channel.finish(time.monotonic() + 20)
        answering.join()
        assert (received, lost.is_set()) == (b"answered", False)

    play(scene)


def test_finishing_reads_while_the_other_side_sends_before_it_reads():
    async def scene(channel, theirs, received, lost):
        channel.send(MUCH)

        def answer():
            theirs.sendall(MUCH)
            read_all(theirs, len(MUCH))
            theirs.shutdown(socket.SHUT_WR)

        answering = threading.Thread(target=answer)
        answering.start()
        channel.finish(time.monotonic() + 20)
        answering.join()
        assert (received == MUCH, lost.is_set()) == (True, False)

    play(scene)


def test_finishing_ends_at_once_if_the_other_side_is_gone():
    async def scene(channel, theirs, *_):
        channel.send(MUCH)
        theirs.close()
        began = time.monotonic()
        channel.finish(began + 20)
        assert time.monotonic() - began < 10

    play(scene)


def test_finishing_waits_no_longer_than_the_deadline():
    async def scene(channel, theirs, received, lost):
        channel.finish(time.monotonic() + 0.05)
        assert (received, lost.is_set()) == (b"", False)

    play(scene)


class WithoutMemory:
    """A socket for which the system has no memory left."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def send(self, _data: bytes) -> int:
        raise OSError(errno.ENOBUFS, "No buffer space available")


def test_bytes_that_the_system_does_not_take_are_an_error_of_their_sender():
    async def scene(channel, *_):
        channel._socket = WithoutMemory(channel._socket)
        with pytest.raises(OSError, match="No buffer space available"):
            channel.send(b"a frame")

    play(scene)


def test_a_rest_that_the_system_does_not_take_ends_the_channel():
    async def scene(channel, theirs, received, lost):
        channel.send(MUCH)
        channel._socket = WithoutMemory(channel._socket)
        arrived = await asyncio.to_thread(lambda: b"".join(iter(lambda: theirs.recv(65_536), b"")))
        assert MUCH.startswith(arrived)
        assert lost.is_set()

    play(scene)


def fail(_data: bytes) -> None:
    raise MemoryError


def test_what_cannot_be_passed_on_ends_the_channel():
    async def scene(channel, theirs, received, lost):
        channel._received = fail
        theirs.sendall(b"an answer")
        with capture_logs() as logs:
            await lost.wait()
        assert theirs.recv(1) == b"", "closed"
        assert [each["error"] for each in logs] == ["MemoryError"]

    play(scene)


def test_finishing_ends_at_what_cannot_be_passed_on():
    async def scene(channel, theirs, *_):
        channel._received = fail
        theirs.sendall(b"an answer")
        channel.finish(time.monotonic() + 20)
        assert theirs.recv(1) == b"", "closed"

    play(scene)
