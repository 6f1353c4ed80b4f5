"""Captures: requests of an unknown sender in files, one with the exact bytes of the body and one with the headers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from receiver import codec
from receiver.dialects.forms import fields_of
from receiver.errors import ConfigurationError, Unreadable
from receiver.fixtures import HEADERS_BESIDE
from receiver.sniffing import is_gzip, is_zlib

#: The most bytes of a captured body.
LARGEST_CAPTURE = 1_048_576


@dataclass(frozen=True, slots=True)
class Capture:
    """A request of a sender whose dialect is to be drafted."""

    body: bytes
    #: The values of the headers by name, in lower case.
    headers: Mapping[str, str]
    #: The parsed body, as the dialect will get it.
    document: Any
    #: The `form` of the dialect: the field of a form that holds JSON, True for all fields, or False for a JSON body.
    form: bool | str = False


def read_capture(path: Path, headers: Mapping[str, str], given: Iterable[str] = ()) -> Capture:
    """Read a capture. `headers` are those of the file beside it; `given` are further headers, each NAME:VALUE.

    Raises `ConfigurationError` for a file or a header that cannot be used.
    """
    body = _bytes_of(path)
    known = {name.lower(): value for name, value in headers.items()}
    for each in given:
        name, colon, value = each.partition(":")
        if not colon or not name.strip() or not name.strip().isascii() or not value.isprintable():
            raise ConfigurationError(f"--header takes NAME:VALUE, such as 'X-Shop-Signature: sha256=…', not {each!r}.")
        known[name.strip().lower()] = value.strip()
    captured = capture_of(body, known, name=str(path))
    _refuse_whole_request(captured.document, path)
    return captured


def _refuse_whole_request(document: Any, path: Path) -> None:
    """Raise `ConfigurationError` for a file with a request that a tool exported: its headers and its body."""
    headers = document.get("headers") if isinstance(document, dict) else None
    if isinstance(headers, (dict, list)) and "body" in document and "content-type" in str(headers).lower():
        raise ConfigurationError(
            f"{path} holds a whole request: save its body alone, byte by byte, as the sender posts it, and its headers "
            f"as an object in {path.with_suffix(HEADERS_BESIDE)}."
        )


def capture_of(body: bytes, headers: Mapping[str, str], *, name: str) -> Capture:
    """Make a capture of a body. `name` is the name of the body in messages. Raises `ConfigurationError`."""
    if not body.strip():
        raise ConfigurationError(f"{name} is empty: capture a webhook with a body, or leave out --from.")
    if len(body) > LARGEST_CAPTURE:
        raise ConfigurationError(f"{name} has more than {LARGEST_CAPTURE:,} bytes: capture a smaller webhook.")
    if is_gzip(body) or is_zlib(body):
        raise ConfigurationError(f"{name} is compressed: decompress it, and write decompress=True in the dialect.")
    document, form = _document_of(body, headers, name)
    if not isinstance(document, (dict, list)) or not document:
        raise ConfigurationError(
            f"{name} holds {codec.shortened(document)}, and a webhook is an object or a list that is not empty: "
            "capture another one."
        )
    return Capture(body, headers, document, form)


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_CAPTURE + 1)
    except OSError as error:
        raise ConfigurationError(
            f"The capture {str(path)!r} cannot be read ({error.strerror}): correct the path after --from."
        ) from None


def _document_of(body: bytes, headers: Mapping[str, str], name: str) -> tuple[Any, bool | str]:
    """Parse a body. Returns the parsed body, and the `form` of the dialect."""
    try:
        return codec.decode(body), False
    except Unreadable as error:
        reason = str(error).replace("The body", "it", 1)
    if not _is_form(body, headers):
        raise ConfigurationError(
            f"{name} cannot be used, because {reason.rstrip('.')}: save the body alone, byte by byte, as the sender "
            "posts it."
        )
    try:
        fields = fields_of(body.strip())
    except Unreadable as error:
        raise ConfigurationError(f"{name} is a form that cannot be read: {error}") from None
    for field, values in fields.items():
        if len(values) == 1 and values[0].lstrip()[:1] in ("{", "["):
            try:
                return codec.decode(values[0]), field
            except Unreadable:
                continue
    return {field: values[0] if len(values) == 1 else values for field, values in fields.items()}, True


def _is_form(body: bytes, headers: Mapping[str, str]) -> bool:
    if "x-www-form-urlencoded" in headers.get("content-type", ""):
        return True
    return b"=" in body and body.isascii() and not any(each <= 32 for each in body.strip()) and body[:1] not in b"<{["
