"""A reverse proxy for tests: it reads `deploy/nginx.conf` and does what that file asks for."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from urllib.parse import urlsplit

from waiting import TIMEOUT

#: A directive: its words, and its block, which is empty for a simple directive.
Directive = tuple[list[str], "list[Directive]"]

#: The headers of an answer, in order.
Headers = Sequence[tuple[str, str]]

TOKEN = re.compile(r"""'[^']*'|"[^"]*"|[{};]|[^\s{};"']+""")


def parse(text: str) -> list[Directive]:
    """Parse a configuration file into its directives. Raises `ValueError` if its braces do not match."""
    tokens = iter(TOKEN.findall(re.sub(r"(?m)^\s*#.*$", "", text)))
    return list(_directives(tokens, nested=False))


def _directives(tokens: Iterator[str], *, nested: bool) -> Iterator[Directive]:
    words: list[str] = []
    for token in tokens:
        if token == "}":
            if not nested or words:
                raise ValueError("a brace too many, or a directive without its end")
            return
        if token in ";{":
            yield words, list(_directives(tokens, nested=True)) if token == "{" else []
            words = []
        else:
            words.append(token.strip("'\""))
    if nested or words:
        raise ValueError("the file ends inside a block")


def every(directives: Sequence[Directive], name: str) -> list[Directive]:
    return [directive for directive in directives if directive[0][0] == name]


def words(directives: Sequence[Directive], name: str) -> list[str]:
    """Return the words after the name of the only directive with this name."""
    ((found, _),) = every(directives, name)
    return found[1:]


def upstreams(text: str) -> dict[str, list[str]]:
    """Return the servers of each upstream, as host:port."""
    ((_, http),) = every(parse(text), "http")
    return {name[1]: [server[1] for server, _ in every(block, "server")] for name, block in every(http, "upstream")}


@dataclass(frozen=True, slots=True)
class _Site:
    """One `server` block."""

    address: tuple[str, int]
    largest_body: int
    #: By path prefix, exact path (with `=` in front) or pattern (`~`): an upstream, or status and text of an answer.
    locations: dict[str, str | tuple[int, str]]
    upstreams: dict[str, list[str]]

    def place(self, path: str) -> str | tuple[int, str]:
        if f"={path}" in self.locations:
            return self.locations[f"={path}"]
        patterns = [begin for begin in self.locations if begin.startswith("~") and re.search(begin[1:], path)]
        prefixes = [begin for begin in self.locations if path.startswith(begin)]
        return self.locations[patterns[0] if patterns else max(prefixes, key=len)]


def _sites(text: str) -> Iterator[_Site]:
    ((_, http),) = every(parse(text), "http")
    for _, server in every(http, "server"):
        locations: dict[str, str | tuple[int, str]] = {}
        for (_, *pattern), block in every(server, "location"):
            passed = every(block, "proxy_pass")
            if passed:
                locations["".join(pattern)] = urlsplit(passed[0][0][1]).netloc
            else:
                status, message = words(block, "return")
                locations["".join(pattern)] = int(status), message
        host, _, port = words(server, "listen")[0].rpartition(":")
        yield _Site((host, int(port)), int(words(http, "client_max_body_size")[0]), locations, upstreams(text))


@contextmanager
def proxying(text: str) -> Iterator[None]:
    """Serve every `server` block of the configuration during the block; each must name an address to listen on."""
    with ExitStack() as stack:
        for site in _sites(text):
            server = stack.enter_context(_Server(site))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
        yield


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, site: _Site) -> None:
        super().__init__(site.address, _Request)
        self.site = site
        self.turns = count()

    def order(self, upstream: str) -> list[str]:
        """List the servers of the upstream; each call begins with the next one."""
        servers = self.site.upstreams[upstream]
        first = next(self.turns) % len(servers)
        return servers[first:] + servers[:first]


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        length = int(self.headers.get("Content-Length") or 0)
        place = self.server.site.place(path)
        if length > self.server.site.largest_body:
            self.close_connection = True
            place = self.server.site.place("@too_large")
        if isinstance(place, tuple):
            self.answer(place[0], place[1].encode(), [("Content-Type", "application/json")])
            return
        body = self.rfile.read(length)
        for server in self.server.order(place):
            connection = HTTPConnection(server, timeout=TIMEOUT)
            try:
                connection.connect()
            except OSError:
                # Try the next server only if nothing was sent to this one.
                continue
            with connection.sock:
                connection.request(self.command, self.path, body, dict(self.headers))
                self.pass_on(connection.getresponse())
            return
        if "@away" not in self.server.site.locations:
            # As nginx answers if no server of the upstream is there.
            self.answer(502, b"Bad Gateway", [("Content-Type", "text/plain")])
            return
        status, message = self.server.site.place("@away")
        self.answer(status, message.encode(), [("Content-Type", "application/json"), ("Retry-After", "5")])

    def pass_on(self, answer: HTTPResponse) -> None:
        # As pairs, because an answer may have several Set-Cookie.
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in ("connection", "date")]
        if (answer.getheader("Content-Type") or "").startswith("text/event-stream"):
            self.stream(answer, kept)
        else:
            self.answer(answer.status, answer.read(), kept)

    def stream(self, answer: HTTPResponse, headers: Headers) -> None:
        """Pass on what comes at once, as nginx does without buffering. The end of the connection ends the stream."""
        self.close_connection = True
        self.send_response(answer.status)
        for name, value in headers:
            if name.lower() != "transfer-encoding":
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        with suppress(OSError):
            while content := answer.read1():
                self.wfile.write(content)
                self.wfile.flush()

    def answer(self, status: int, content: bytes, headers: Headers) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
