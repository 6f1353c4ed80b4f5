"""Bodies as people read them: text in lines, or bytes in hexadecimal digits; never markup, digits untouched."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import NamedTuple

import msgspec
from markupsafe import escape

from receiver.logs.escapes import hex_lines, visible

#: Bytes of a body that a page shows; a download has all.
MOST_BODY_SHOWN = 65_536


#: Characters of the page that a body takes at most, and how many one character may become there.
MOST_CHARACTERS_SHOWN, LONGEST_ESCAPE = 40_000, 5

#: Levels of JSON below which it is no longer put into lines.
DEEPEST_LAID_OUT = 50

_BRACKETS = re.compile(rb"[\[{]|[\]}]")


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


def shown_body(body: str, encoding: str | None, *, as_sent: bool = False) -> ShownBody:
    """The body in lines: JSON with each member on its own, unless `as_sent`; otherwise as it was written."""
    content = bytes_of(body, encoding)
    some = content[:MOST_BODY_SHOWN]
    is_hex = encoding == "base64"
    if is_hex:
        lines = hex_lines(some)
    else:
        text = _laid_out(content) if len(some) == len(content) and not as_sent else some.decode("utf-8", "ignore")
        # A line end is ours to make; what else cannot be seen is written out.
        lines = [visible(line.replace("\t", "    ")) for line in text.splitlines()]
    shown = _light(lines)
    return ShownBody(shown, is_hex, len(content), len(some) < len(content) or shown != lines)


def _light(lines: list[str]) -> list[str]:
    """As many of the lines as a page can carry: markup and invisible characters become several times as long there."""
    kept: list[str] = []
    left = MOST_CHARACTERS_SHOWN
    for line in lines:
        weight = len(escape(line)) + 1
        if weight > left:
            kept.append(line[: left // LONGEST_ESCAPE])
            break
        kept.append(line)
        left -= weight
    return kept


def _laid_out(content: bytes) -> str:
    """The text, its JSON in lines; as it is if it is no JSON, or so deep that the lines would be mostly blanks."""
    if _depth(content) > DEEPEST_LAID_OUT:
        return content.decode("utf-8", "replace")
    try:
        return msgspec.json.format(content, indent=2).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return content.decode("utf-8", "replace")


def _depth(content: bytes) -> int:
    """How deep brackets are nested; those in strings are counted, too."""
    depth = deepest = 0
    for found in _BRACKETS.finditer(content):
        depth += 1 if found[0] in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest
