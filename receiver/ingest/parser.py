"""Parser: makes and feeds the parser of a connection, and makes the refusal when it stops."""

from __future__ import annotations

from typing import Any

import httptools
import structlog

from receiver.errors import MalformedRequest, Refused, Unavailable
from receiver.logs.repeats import Repeats
from receiver.verify.request import RawHeaders

log = Repeats(structlog.get_logger(__name__))

#: The errors with which the parser stops.
PARSER_STOPPED = (httptools.HttpParserError, httptools.HttpParserUpgrade)


#: The first bytes of a connection that begins with TLS, as for an address with `https`.
TLS = b"\x16\x03"


def new_parser(protocol: Any) -> httptools.HttpRequestParser:
    """Make a parser that calls this protocol."""
    parser = httptools.HttpRequestParser(protocol)
    # Like uvicorn, ignore bytes after a request that closes the connection.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def feed(parser: httptools.HttpRequestParser, data: bytes | memoryview) -> Exception | None:
    """Parse the data, and return the parser's error; raising it in an `except` block would lose its cause."""
    try:
        parser.feed_data(data)
    except PARSER_STOPPED as stopped:
        return stopped
    return None


def head_without_offer(parser: httptools.HttpRequestParser, url: bytes, headers: RawHeaders) -> bytes:
    """Write the parsed head again, without its offer to upgrade."""
    lines = [b"%b %b HTTP/%b" % (parser.get_method(), url, parser.get_http_version().encode())]
    lines += [b"%b: %b" % (name, value) for name, value in headers if name != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])


def reason_to_stop(cause: BaseException | None, data: bytes | memoryview = b"") -> Refused:
    """Make the refusal when the parser stopped in this data, perhaps because one of its callbacks raised an error."""
    if isinstance(cause, Refused):
        return cause
    if cause is None or isinstance(cause, (httptools.HttpParserError, AttributeError, UnicodeError)):
        if bytes(data[: len(TLS)]) == TLS:
            says = "This is TLS, and this port takes plain HTTP. Send to http://, or to a proxy with TLS."
            return MalformedRequest(says)
        return MalformedRequest("This is not a valid HTTP request. Compare it with RFC 9112.")
    log.exception("cannot receive a request", about={}, exc_info=cause)
    return Unavailable("An error of this server prevents receiving the request. Send it again later.")
