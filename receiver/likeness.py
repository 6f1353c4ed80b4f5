"""Likeness: which known name an unknown one was most likely meant for."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

#: Characters of an unknown name that are compared and repeated.
LONGEST_COMPARED = 64

#: From 0 to 1: how much a name must be like a known one to count as a misspelt one.
LIKE = 0.6


def nearest(name: str, known: Iterable[str], *, like: float = LIKE) -> str | None:
    """The known name most similar to this unknown one; None if no name is similar."""
    close = get_close_matches(name[:LONGEST_COMPARED], list(known), n=1, cutoff=like)
    return close[0] if close else None


def choice_of(name: str, known: Iterable[str], *, named: str = "the settings name") -> str:
    """What an error message says of an unknown name: the likely one, and what may be chosen."""
    names = sorted(known)
    likely = nearest(name, names)
    perhaps = f"perhaps {likely!r} was meant; " if likely is not None else ""
    return f"{perhaps}{named} {', '.join(names) or 'none'}"
