"""Wording: formats numbers with their nouns, for all sentences for people."""

from __future__ import annotations


def grouped(number: int | str) -> str:
    """Format a number with separators. The text that answers have in place of a damaged number stays as it is."""
    return number if isinstance(number, str) else f"{number:,}"


def counted(number: int | str, noun: str, plural: str | None = None) -> str:
    """`1 delivery`, `31 deliveries`. `plural` is for irregular nouns, and for nouns with further words."""
    return f"{grouped(number)} {noun if number == 1 else plural or _plural(noun)}"


def named_secret(position: str) -> str:
    """Name the secret at a position of the API, which counts from zero: `secret 1, the newest`, `secret 2`."""
    if not position.isdigit():
        return {"removed": "removed secrets"}.get(position, position)
    return f"secret {int(position) + 1}{', the newest' if position == '0' else ''}"


def _plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"
