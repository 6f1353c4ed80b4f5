"""The request that a verifier judges: one value, with everything that a signature may cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from functools import lru_cache
from urllib.parse import urlsplit

from receiver.errors import NotVerified
from receiver.moments import EPOCH

#: Header names in lower case with their values as sent, one pair per header line: the shape ASGI gives.
RawHeaders = Sequence[tuple[bytes, bytes]]

#: The path of every source's address, before its name.
HOOKS_PATH = "/hooks/"


@dataclass(slots=True)
class WebhookRequest:
    """A webhook as it came, not verified yet; or, for `sign`, as it is about to be sent."""

    #: The exact bytes.
    body: bytes
    #: One pair for each header line: the name in lower case, and the value without blanks around it.
    headers: RawHeaders = ()
    _: KW_ONLY
    method: str = "POST"
    #: Path and query as they stand in the request, behind a proxy maybe cut by it. A sender signs `url` instead.
    target: bytes = b""
    #: The address of the source as its sender knows it, without a query; empty if no setting says it.
    public_url: str = ""
    #: When it arrived (for `sign`: when it is sent), in UTC.
    at: datetime = EPOCH

    @property
    def query(self) -> str:
        """The query as it stands in the request, without its question mark; empty if there is none."""
        return self.target.partition(b"?")[2].decode("latin-1")

    @property
    def url(self) -> str:
        """The complete URL that the sender called: `public_url` of the settings, and the query as it came.

        Never made of `Host` or `X-Forwarded-…`, which anybody can send. Empty without `public_url`.
        """
        if b"?" not in self.target and not self.target.endswith(b"/"):
            return self.public_url
        path, mark, query = self.target.partition(b"?")
        # A slash at the end leads to the same source, and the sender signs what it calls.
        if not self.public_url:
            return ""
        slash = "/" if path.endswith(b"/") and not self.public_url.endswith("/") else ""
        return f"{self.public_url}{slash}{mark.decode()}{query.decode('latin-1')}"

    @property
    def path(self) -> str:
        """Path and query as the sender called them: those of `url`, or without `public_url` those that came."""
        if not self.public_url:
            return self.target.decode("latin-1")
        parts = urlsplit(self.public_url)
        return self.url[len(f"{parts.scheme}://{parts.netloc}") :]

    def header(self, name: str) -> bytes | None:
        """The value of a header that may stand in the request only once, because verification depends on it; or None.

        Raises `NotVerified` if it stands there more often.
        """
        return only_header(self.headers, name)


def only_header(headers: RawHeaders, name: str) -> bytes | None:
    """The value of a header that may stand there only once. Raises `NotVerified` for a repeated one."""
    wanted = wire_name(name)
    found = None
    for key, value in headers:
        if key == wanted:
            if found is not None:
                raise repeated(name, sum(key == wanted for key, _ in headers))
            found = value
    return found


def repeated(name: str, times: int) -> NotVerified:
    """The refusal of a header that stands in the request several times."""
    return NotVerified("signature_repeated", f"{name} stands in the request {times} times. Send it once.")


@lru_cache(maxsize=1_024)
def wire_text(text: str) -> bytes:
    """The text of a dialect as bytes, remembered: each webhook compares with the same few."""
    return text.encode()


@lru_cache(maxsize=1_024)
def wire_name(header: str) -> bytes:
    """The name of a header as `RawHeaders` has it, remembered as well."""
    return header.lower().encode()
