"""The channel between two processes: all bytes in order, however slowly the other side reads."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

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
