"""`hookmirror send`: posts one webhook for a try, signed or encrypted as its source does it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from receiver import codec
from receiver.dialects.headers import is_header_name, repeatable_headers
from receiver.dialects.sources import Source
from receiver.errors import ConfigurationError, HookmirrorError, Unreadable
from receiver.fixtures import headers_beside
from receiver.header_values import NO_HEADERS, joined_headers
from receiver.http_calls import CALL_ERRORS, usable_environment
from receiver.http_urls import flaw_for_calls, shown_url
from receiver.ingest.paths import HOOKS_PATH
from receiver.loading import foreign_code
from receiver.logs.safe_text import quoted, told_with_type
from receiver.settings.files import read_bounded
from receiver.verify.request import WebhookRequest

#: Seconds that the receiver may take to answer.
SEND_TIMEOUT = 30.0

#: The entity id of an event without `--id`.
USUAL_ID = "TEST-1"


@dataclass(frozen=True, slots=True)
class Sent:
    """The answer of the receiver."""

    status: int
    answer: str

    @property
    def is_acked(self) -> bool:
        """Whether the receiver took the webhook, with any 2xx, because a dialect may choose its own."""
        return 200 <= self.status < 300

    @property
    def says(self) -> str | None:
        """A sentence that names the stored delivery and the command that shows it; None if the receiver refused it."""
        try:
            found = codec.decode(self.answer)
        except Unreadable:
            return None
        match found if self.is_acked else None:
            case {"status": str(status), "delivery": str(delivery)} if delivery.isdigit():
                stored = "Stored before" if status == "duplicate" else "Stored"
                return f"{stored} as delivery {delivery}: `hookmirror show {delivery}` shows its state."
        return None


def body_of(source: Source, what: str, *, entity_id: str, at: datetime, data: str | None) -> bytes:
    """The body to send: the bytes of the file `what`, or a body for the event type `what`.

    Raises `ConfigurationError` if the data is not JSON or the dialect cannot compose such a body.
    """
    if _is_file(what):
        try:
            return read_bounded(Path(what))
        except OSError as error:
            raise ConfigurationError(
                f"The file {quoted(what)} cannot be read ({error.strerror}): correct the path."
            ) from None
    content = _json(data)
    try:
        return source.dialect.write(what, entity_id, at=at, data=content)
    except ConfigurationError as error:
        if entity_id != USUAL_ID:
            raise
        raise ConfigurationError(f"{error} The id is {USUAL_ID} unless --id gives another.") from None


def address(to: str, source: str) -> str:
    """The URL to post to: `to`, with the source's path appended if it has none. Raises `ConfigurationError`."""
    flaw = flaw_for_calls(to)
    if flaw is not None:
        raise ConfigurationError(f"--to {flaw}: it takes the URL of a receiver, such as http://127.0.0.1:8000.")
    parts = urlsplit(to)
    return to if parts.path.strip("/") else parts._replace(path=f"{HOOKS_PATH}{source}").geturl()


def headers_of(source: Source, what: str, given: Iterable[str]) -> dict[str, str]:
    """The headers to send: those beside a fixture file or those usual for an event type, and those given as NAME:VALUE.

    Raises `ConfigurationError` for an invalid header.
    """
    headers = headers_beside(Path(what)) if _is_file(what) else source.dialect.usual_headers(what)
    for each in given:
        name, colon, value = each.partition(":")
        if not colon or not is_header_name(name.strip()) or not value.isprintable() or not value.isascii():
            raise ConfigurationError(f"--header takes NAME:VALUE in printable ASCII, not {quoted(each)}.")
        headers = joined_headers(headers, {name.strip(): value.strip()})
    return headers


def send(source: Source, body: bytes, url: str, headers: Mapping[str, str] = NO_HEADERS) -> Sent:
    """Sign or encrypt the body and post it with these headers.

    Raises `HookmirrorError` if there is no answer, and `ConfigurationError` if the environment allows no calls.
    """
    verifier = source.dialect.verifier
    sent = repeatable_headers(headers, verifier)
    with foreign_code(f"The verifier of {source.dialect.name}", holds_secrets=True):
        request = WebhookRequest(
            verifier.prepare(body, source.credentials),
            [(name.lower().encode(), value.encode()) for name, value in sent.items()],
            target=_target_of(url),
            public_url=source.credentials.public_url,
            at=datetime.now(UTC),
        )
        sealed, signature = verifier.sign(request, source.credentials)
    try:
        with usable_environment("The webhook cannot be sent"):
            response = httpx.post(
                url,
                content=sealed,
                headers=_on_the_wire(joined_headers({"content-type": "application/json"}, sent, signature)),
                timeout=SEND_TIMEOUT,
            )
    except CALL_ERRORS as error:
        raise HookmirrorError(
            f"No server answers at {shown_url(url)} ({told_with_type(error)}): start `hookmirror serve`, or name "
            "its address with --to."
        ) from None
    # Not `response.text`, which asks the answer for its encoding.
    return Sent(response.status_code, response.content.decode("utf-8", "replace"))


def _is_file(what: str) -> bool:
    # `Path.exists` raises an error for a text that is too long for a path.
    return what.endswith(".json") or os.path.exists(what)


def _on_the_wire(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _target_of(url: str) -> bytes:
    """Path and query of a URL, as in the request line."""
    return httpx.URL(url).raw_path


def _json(data: str | None) -> Any:
    if data is None:
        return None
    try:
        return codec.decode(data)
    except Unreadable as error:
        raise ConfigurationError(f"--data takes JSON: {error}") from None
