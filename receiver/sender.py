"""`hookmirror send`: one webhook, signed or encrypted as its source does it, for trying things out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from receiver import codec
from receiver.errors import ConfigurationError, HookmirrorError, Unreadable
from receiver.sources import Source

#: Seconds that the receiver may take to answer.
PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What came back."""

    status: int
    answer: str


def body_of(source: Source, what: str, *, entity_id: str, at: datetime, data: str | None) -> bytes:
    """The body to send: the bytes of the file `what`, or a body for the event type `what`.

    Raises `ConfigurationError` if the data is not JSON or the dialect cannot compose such a body.
    """
    path = Path(what)
    if path.suffix == ".json" or path.exists():
        try:
            return path.read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"The fixture {what!r} cannot be read ({error.strerror}): correct the path."
            ) from None
    return source.dialect.write(what, entity_id, at=at, data=_json(data))


def send(source: Source, body: bytes, url: str) -> Sent:
    """Sign or encrypt the body and post it. Raises `HookmirrorError` if nobody answers."""
    verifier = source.dialect.verifier
    sealed, headers = verifier.sign(verifier.prepare(body, source.credentials), source.credentials)
    try:
        response = httpx.post(
            url, content=sealed, headers={"content-type": "application/json", **headers}, timeout=PATIENCE
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise HookmirrorError(
            f"Nobody answers at {url} ({type(error).__name__}: {error}): start `hookmirror serve`, or correct --to."
        ) from None
    return Sent(response.status_code, response.text)


def _json(data: str | None) -> Any:
    if data is None:
        return None
    try:
        return codec.decode(data)
    except Unreadable as error:
        raise ConfigurationError(f"--data takes JSON: {error}") from None
