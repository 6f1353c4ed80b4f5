"""The request that a verifier checks, with everything that a signature may cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from functools import lru_cache
from urllib.parse import urlsplit

from receiver.errors import NotVerified
from receiver.moments import EPOCH

#: One pair per header line, as in ASGI: the name in lower case, and the value as sent.
RawHeaders = Sequence[tuple[bytes, bytes]]

#: The path before a source's name in its address.
HOOKS_PATH = "/hooks/"


@dataclass(slots=True)
class WebhookRequest:
    """A webhook as received, before verification; for `sign`, a webhook to be sent."""

    #: The exact bytes of the body.
    body: bytes
    #: One pair for each header line: the name in lower case, and the value without blanks around it.
    headers: RawHeaders = ()
    _: KW_ONLY
    method: str = "POST"
    #: Path and query of the request line, which a proxy may have shortened. A sender signs `url` instead.
    target: bytes = b""
    #: The address of the source as its sender knows it, without a query; empty if no setting gives it.
    public_url: str = ""
    #: The time of arrival in UTC; for `sign`, the time of sending.
    at: datetime = EPOCH

    @property
    def query(self) -> str:
        """The query of the request line without its question mark; empty if there is none."""
        return self.target.partition(b"?")[2].decode("latin-1")

    @property
    def url(self) -> str:
        """The complete URL that the sender called: `public_url` of the settings with the query of the request.

        `Host` and `X-Forwarded-…` are ignored, because any sender can set them. Empty without `public_url`.
        """
        if b"?" not in self.target and not self.target.endswith(b"/"):
            return self.public_url
        path, mark, query = self.target.partition(b"?")
        # An address with a slash at its end belongs to the same source, and the sender signs the URL with that slash.
        if not self.public_url:
            return ""
        slash = "/" if path.endswith(b"/") and not self.public_url.endswith("/") else ""
        return f"{self.public_url}{slash}{mark.decode()}{query.decode('latin-1')}"

    @property
    def path(self) -> str:
        """Path and query that the sender called: those of `url`, or without `public_url` those of the request line."""
        if not self.public_url:
            return self.target.decode("latin-1")
        parts = urlsplit(self.public_url)
        return self.url[len(f"{parts.scheme}://{parts.netloc}") :]

    def header(self, name: str) -> bytes | None:
        """The value of a header that verification depends on; None if the header is missing.

        Raises `NotVerified` if the request repeats the header.
        """
        return only_header(self.headers, name)


class NotingRequest(WebhookRequest):
    """A request that notes whether a verifier reads its path and query."""

    __slots__ = ("_target", "target_was_read")

    @property
    def target(self) -> bytes:
        self.target_was_read = True
        return self._target

    @target.setter
    def target(self, target: bytes) -> None:
        self._target, self.target_was_read = target, False


def only_header(headers: RawHeaders, name: str) -> bytes | None:
    """The value of a header; None if it is missing. Raises `NotVerified` if it is repeated."""
    wanted = wire_name(name)
    by_name = dict(headers)
    if len(by_name) < len(headers) and (times := sum(key == wanted for key, _ in headers)) > 1:
        raise repeated(name, times)
    return by_name.get(wanted)


def repeated(name: str, times: int) -> NotVerified:
    """Make the refusal of a request that repeats a header."""
    return NotVerified("signature_repeated", f"The request has {name} {times} times. Send it once.")


@lru_cache(maxsize=1_024)
def wire_text(text: str) -> bytes:
    """Encode a text of a dialect; cached, because each webhook is compared with the same few texts."""
    return text.encode()


@lru_cache(maxsize=1_024)
def wire_name(header: str) -> bytes:
    """Encode the name of a header as in `RawHeaders`; cached."""
    return header.lower().encode()
