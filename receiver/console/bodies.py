"""Bodies as people read them: text in lines, or bytes in hexadecimal digits; never markup, digits untouched."""

from __future__ import annotations

from base64 import b64decode
from typing import NamedTuple

import msgspec

from receiver.logs.escapes import hex_lines, visible

#: Bytes of a body that a page shows; a download has all.
MOST_BODY_SHOWN = 65_536


class ShownBody(NamedTuple):
    """A body, or as much of it as a page shows."""

    lines: list[str]
    #: Whether these are bytes, and not text.
    is_hex: bool
    #: Bytes of the whole.
    size: int
    #: Whether there is more than is shown.
    is_cut: bool


def bytes_of(body: str, encoding: str | None) -> bytes:
    """The bytes that the API gives as text or as base64."""
    return b64decode(body) if encoding == "base64" else body.encode()


def shown_body(body: str, encoding: str | None) -> ShownBody:
    """The body in lines: JSON with each member on its own, as it was written otherwise."""
    content = bytes_of(body, encoding)
    some = content[:MOST_BODY_SHOWN]
    if encoding == "base64":
        return ShownBody(hex_lines(some), True, len(content), len(some) < len(content))
    text = _laid_out(content) if len(some) == len(content) else some.decode("utf-8", "ignore")
    cut = len(some) < len(content)
    # A line end is ours to make; what else cannot be seen is written out.
    return ShownBody([visible(line.replace("\t", "    ")) for line in text.splitlines()], False, len(content), cut)


def _laid_out(content: bytes) -> str:
    try:
        return msgspec.json.format(content, indent=2).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return content.decode("utf-8", "replace")
