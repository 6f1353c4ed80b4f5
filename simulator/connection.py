"""A kept-alive HTTP/1.1 connection that sends prepared bytes, several times as fast as a general client."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import httptools

W = TypeVar("W", bound=asyncio.Protocol)

#: Seconds after which a sender stops waiting for an answer. IIMMPACT waits 30 s (docs/sources.md); the other systems
#: publish no number.
TIMEOUT = 30.0

#: Seconds after which an idle connection is not used again. Servers commonly close idle connections after 5 s, and a
#: request sent at that moment would be lost.
IDLE = 3.0

#: Pieces in which a slow sender sends a request.
PIECES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """The way in which a request is sent."""

    #: Real seconds over which the pieces of a slow request are sent; 0 sends the request at once.
    pause: float = 0.0
    #: The share of the request (0 to 1) after which the sender closes the connection; None to wait for the answer.
    cut: float | None = None
    #: Whether the sender closes the connection after the answer.
    cut_after: bool = False


USUAL = Manner()


class NoAnswerError(Exception):
    """The receiver could not be reached, or the connection ended before the answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int
    tls: bool

    @classmethod
    @lru_cache(maxsize=1024)
    def of(cls, url: str) -> Address:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an http or https URL")
        return cls(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), parts.scheme == "https")

    def context(self) -> ssl.SSLContext | None:
        return ssl.create_default_context() if self.tls else None


@lru_cache(maxsize=1024)
def request_start(url: str) -> str:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return f"POST {target} HTTP/1.1\r\nHost: {parts.netloc}"


def request_bytes(url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Write a whole POST request as it goes over the wire."""
    lines = [request_start(url), f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


async def connect(protocol: Callable[[], W], address: Address, *, timeout: float = TIMEOUT) -> W:
    """Connect to the first address of the host that answers. Raises `OSError`.

    Each address but the last one has a part of `timeout`, so that one that drops packets leaves time for the others.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"there can be no host {address.host!r}") from error
    hosts = list(dict.fromkeys(str(each[4][0]) for each in found))
    options: dict[str, Any] = {"ssl": address.context(), "server_hostname": address.host} if address.tls else {}
    for host in hosts[:-1]:
        with suppress(OSError):
            async with asyncio.timeout(timeout / (len(hosts) + 1)):
                _, wire = await loop.create_connection(protocol, host, address.port, **options)
                return wire
    _, wire = await loop.create_connection(protocol, hosts[-1], address.port, **options)
    return wire


class Connection:
    """A connection to one address, opened at the first request and again after it was lost."""

    def __init__(self, address: Address, *, timeout: float = TIMEOUT) -> None:
        self._address = address
        self._timeout = timeout
        self._wire: _Wire | None = None

    async def post(self, request: bytes, manner: Manner = USUAL) -> Answer:
        """Send a prepared request once, and return the answer. Raises `NoAnswerError`."""
        try:
            async with asyncio.timeout(self._timeout + manner.pause):
                wire = await self._open()
                if manner.cut is not None:
                    wire.send_and_leave(request[: max(1, int(len(request) * manner.cut))])
                    raise ConnectionError("cut before the answer")
                answer = await wire.exchange(request, manner.pause)
        except (OSError, TimeoutError) as error:
            self.close()
            raise NoAnswerError(str(error) or type(error).__name__) from error
        if manner.cut_after:
            self.close()
        return answer

    async def _open(self) -> _Wire:
        if self._wire is None or not self._wire.usable:
            self.close()
            self._wire = await connect(_Wire, self._address, timeout=self._timeout)
        return self._wire

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None


class _Wire(asyncio.Protocol):
    """The protocol of one connection: writes one request and reads one answer. The parser calls the `on_…` methods."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        #: Whether the head of the answer has come, and whether it tells where the body ends.
        self._has_head, self._has_end = False, False
        self._used = time.monotonic()

    @property
    def usable(self) -> bool:
        fresh = time.monotonic() - self._used < IDLE
        return fresh and self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes, pause: float = 0.0) -> Answer:
        self._waiter = asyncio.get_running_loop().create_future()
        if pause:
            await self._write_slowly(request, pause)
        else:
            self._writable().write(request)
        return await self._waiter

    def send_and_leave(self, request: bytes) -> None:
        """Send a part of a request, and close the connection without waiting for an answer."""
        transport = self._writable()
        transport.write(request)
        transport.close()
        self._transport = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _write_slowly(self, request: bytes, pause: float) -> None:
        step = -(-len(request) // PIECES)
        for start in range(0, len(request), step):
            if start:
                await asyncio.sleep(pause / PIECES)
            if self._waiter is not None and self._waiter.done():
                return  # the answer came before the end
            self._writable().write(request[start : start + step])

    def _writable(self) -> asyncio.Transport:
        if self._transport is None:
            raise ConnectionError("not connected")
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not instances of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"not an HTTP answer: {error}")
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if error is None and self._has_head and not self._has_end:
            # Without a length, as in many answers of HTTP/1.0, the body ends with the connection.
            self._answered()
        self._fail(str(error) if error else "the connection was closed before the answer")

    def on_header(self, name: bytes, _: bytes) -> None:
        self._has_end = self._has_end or name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        self._has_head = True

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            # Such as 103: the answer follows.
            self._has_head, self._has_end = False, False
            return
        keep = self._parser.should_keep_alive()
        self._answered()
        self._parser = httptools.HttpResponseParser(self)
        self._used = time.monotonic()
        if not keep and self._transport is not None:
            self._transport.close()

    def _answered(self) -> None:
        answer = Answer(self._parser.get_status_code(), bytes(self._body))
        self._body.clear()
        self._has_head, self._has_end = False, False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(answer)

    def _fail(self, reason: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionError(reason))
