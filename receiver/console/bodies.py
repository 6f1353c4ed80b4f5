"""Bodies as people read them: lines of text or hexadecimal bytes, never markup, with all digits unchanged."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import NamedTuple

import msgspec
from markupsafe import escape

from receiver.logs.escapes import hex_lines, lines_of, visible

#: Most bytes of a body that a page shows. A download has all of them.
MOST_BODY_SHOWN = 65_536


#: Most characters of HTML for one body, and most characters of HTML for one character of the body.
MOST_CHARACTERS_SHOWN, LONGEST_ESCAPE = 40_000, 5

#: Nesting depth beyond which a page does not lay JSON out in lines.
DEEPEST_LAID_OUT = 50

_BRACKETS = re.compile(rb"[\[{]|[\]}]")


class ShownBody(NamedTuple):
    """A body, or as much of it as a page shows."""

    lines: list[str]
    #: Whether the lines are hexadecimal bytes instead of text.
    is_hex: bool
    #: Bytes of the whole body.
    size: int
    #: Whether the body has more than these lines.
    is_cut: bool


def bytes_of(body: str, encoding: str | None) -> bytes:
    """Decode a body that the API gives as text, or as base64 if the encoding says so."""
    return b64decode(body) if encoding == "base64" else body.encode()


def shown_body(body: str, encoding: str | None, *, as_sent: bool = False) -> ShownBody:
    """Lay a body out in lines: JSON with one member in each line, unless `as_sent`; any other text as it was sent."""
    content = bytes_of(body, encoding)
    some = content[:MOST_BODY_SHOWN]
    is_hex = encoding == "base64"
    if is_hex:
        lines = hex_lines(some)
    else:
        text = _laid_out(content) if len(some) == len(content) and not as_sent else some.decode("utf-8", "ignore")
        # Line ends become lines of the page; every other invisible character is written out.
        lines = [visible(line.replace("\t", "    ")) for line in lines_of(text)]
    shown = _light(lines)
    return ShownBody(shown, is_hex, len(content), len(some) < len(content) or shown != lines)


def _light(lines: list[str]) -> list[str]:
    """The first lines that fit into a page, where markup and invisible characters take several times their length."""
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
    """The text with its JSON laid out. Other text stays as it is, and so does JSON of mostly blank lines."""
    if _depth(content) > DEEPEST_LAID_OUT:
        return content.decode("utf-8", "replace")
    try:
        return msgspec.json.format(content, indent=2).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return content.decode("utf-8", "replace")


def _depth(content: bytes) -> int:
    """The deepest nesting of brackets. Brackets in strings count, too."""
    depth = deepest = 0
    for found in _BRACKETS.finditer(content):
        depth += 1 if found[0] in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest
