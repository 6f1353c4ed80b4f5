"""Words for the arguments and results of actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from receiver import codec
from receiver.database.damage import DAMAGED

#: The most items of a list in an action that are written out, and the longest of its texts, in characters.
MOST_ITEMS_TOLD, LONGEST_WORDS = 5, 60


def argument_words(arguments: Mapping[str, Any]) -> list[str]:
    """Format the members of an action's request or answer as words, without those that are empty or off."""
    return [words for name, value in arguments.items() if (words := _words(name.replace("_", " "), value))]


def _words(name: str, value: Any) -> str:
    if value is None or value is False or value in ("", [], {}):
        return ""
    if name == DAMAGED:
        return f"{name}: {value}"
    if value is True:
        return name
    if isinstance(value, Mapping):
        return f"{name} ({', '.join(argument_words(value))})"
    if isinstance(value, list):
        some = [each if isinstance(each, str) else _as_json(each) for each in value[:MOST_ITEMS_TOLD]]
        more = f" and {len(value) - MOST_ITEMS_TOLD:,} more" if len(value) > MOST_ITEMS_TOLD else ""
        return f"{name} {_shortened(', '.join(some))}{more}"
    if isinstance(value, int):
        return f"{name} {value:,}"
    return f"{name} {_shortened(value if isinstance(value, str) else _as_json(value))}"


def _shortened(text: str) -> str:
    """Cut a text of an action for a line."""
    return text if len(text) <= LONGEST_WORDS else f"{text[:LONGEST_WORDS]}…"


def _as_json(value: Any) -> str:
    return codec.encode(value).decode()
