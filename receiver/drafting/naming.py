"""Naming: makes Python names and literals from a sender's names."""

from __future__ import annotations

import keyword
import re

#: The most characters of a name that every database takes.
LONGEST_COLUMN = 60

#: The most characters of a line of code.
ROOM = 120

#: Types of members. A member of a class that had such a name would hide the type from the members after it.
TYPES = frozenset({"bool", "datetime", "dict", "int", "list", "str"})

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def words_in(name: str) -> list[str]:
    """Split a name in any spelling into words: `displayName`, `display_name`, `Display-Name`."""
    return [word.lower() for word in written_words_in(name)]


def written_words_in(name: str) -> list[str]:
    """Split a name as `words_in` does, and keep the capitals."""
    return _WORDS.findall(name)


def snake_case(name: str) -> str:
    """Make the name of a Python variable; empty if that is not possible."""
    found = "_".join(words_in(name))
    if not found or not name.isascii() or found[0].isdigit() or len(found) > LONGEST_COLUMN:
        return ""
    return f"{found}_" if keyword.iskeyword(found) or keyword.issoftkeyword(found) else found


def camel_case(name: str) -> str:
    """Make the name of a Python class."""
    return "".join(word.capitalize() for word in words_in(name))


def literal(text: str) -> str:
    """Write the text as a Python literal, in double quotes unless the text contains some."""
    if '"' in text:
        return repr(text)
    return '"' + repr("'" + text)[2:]


def model_field(start: str, given: list[str]) -> str:
    """Write a field of a model as `start = Field(given)`, on several lines if one would be too long."""
    line = f"{start} = Field({', '.join(given)})"
    if len(f"    {line}") <= ROOM:
        return line
    inside = f"        {', '.join(given)}"
    lines = [inside] if len(inside) <= ROOM else [f"        {each}," for each in given]
    return "\n".join([f"{start} = Field(", *lines, "    )"])


def plural(word: str) -> str:
    """Make the plural of an English noun, for the usual nouns."""
    if word.endswith(("s", "x", "ch", "sh")):
        return f"{word}es"
    return f"{word[:-1]}ies" if word.endswith("y") and word[-2:-1] not in "aeiou" else f"{word}s"
