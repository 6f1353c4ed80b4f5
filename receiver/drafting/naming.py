"""Names and literals of Python for a sender's own names."""

from __future__ import annotations

import keyword
import re

#: Letters of a name that a database takes on every system.
LONGEST_COLUMN = 60

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def words_in(name: str) -> list[str]:
    """The words of a name, however it joins them: `displayName`, `display_name`, `Display-Name`."""
    return [word.lower() for word in _WORDS.findall(name)]


def snake_case(name: str) -> str:
    """The name as Python writes variables; empty if that leaves nothing of it, or nothing that Python takes."""
    found = "_".join(words_in(name))
    if not found or not name.isascii() or found[0].isdigit() or len(found) > LONGEST_COLUMN:
        return ""
    return f"{found}_" if keyword.iskeyword(found) or keyword.issoftkeyword(found) else found


def camel_case(name: str) -> str:
    """The name as Python writes classes."""
    return "".join(word.capitalize() for word in words_in(name))


def literal(text: str) -> str:
    """The text as a literal of Python, in double quotes where it has none itself."""
    if '"' in text:
        return repr(text)
    return '"' + repr("'" + text)[2:]


def plural(word: str) -> str:
    """The plural of an English noun, nearly always."""
    if word.endswith(("s", "x", "ch", "sh")):
        return f"{word}es"
    return f"{word[:-1]}ies" if word.endswith("y") and word[-2:-1] not in "aeiou" else f"{word}s"
