"""Escapes text from outside, so that it cannot move, colour or hide text on a terminal or page."""

from __future__ import annotations

import re

#: Bytes per line of hexadecimal digits.
HEX_LINE = 16

_LINE_END = re.compile(r"\r\n?|\n")


def lines_of(text: str) -> list[str]:
    """Split a text at its line ends alone. `str.splitlines` also removes invisible characters such as U+2028."""
    lines = _LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def visible(text: str) -> str:
    """Write out every character that is not printable, as in Python's text literals: `\\x1b`, `\\n`, `\\u202e`.

    These are all control characters, line ends, direction marks, lone surrogates and unassigned characters.
    """
    return text if text.isprintable() else "".join(each if each.isprintable() else _written_out(each) for each in text)


def visible_lines(text: str) -> str:
    """Escape as `visible` does, but keep line ends, and indent each line, so that no line can imitate one of ours."""
    return "\n".join("    " + visible(line) for line in text.split("\n"))


def hex_lines(content: bytes) -> list[str]:
    """Format bytes as hexadecimal digits beside their printable ASCII characters."""
    lines = []
    for start in range(0, len(content), HEX_LINE):
        some = content[start : start + HEX_LINE]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in some)
        lines.append(f"{start:08x}  {some.hex(' '):<{HEX_LINE * 3 - 1}}  {text}")
    return lines


def text_of(value: object) -> str:
    """Escape the text of any object. If its `__str__` fails, return the name of its type."""
    try:
        return visible(str.__str__(str(value)))
    except BaseException:
        # The interpreter's own view of the type, because its metaclass may raise, too.
        return visible(f"({type.__dict__['__name__'].__get__(type(value))})")


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
