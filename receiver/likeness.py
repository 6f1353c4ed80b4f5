"""Likeness: finds the known name that was probably meant by an unknown one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache

#: Characters of an unknown name that are compared and repeated.
LONGEST_COMPARED = 64

#: The likeness, from 0 to 1, from which an unknown name counts as a misspelt known one.
LIKE = 0.6

#: The same for event types, which have most letters in common: `product.created` is not a misspelt `product.updated`.
LIKE_EVENT_TYPE = 0.9


def nearest(name: str, known: Iterable[str], *, like: float = LIKE) -> str | None:
    """The known name most similar to this unknown one; None if no name is similar."""
    close = get_close_matches(name[:LONGEST_COMPARED], list(known), n=1, cutoff=like)
    return close[0] if close else None


@lru_cache(maxsize=1_024)
def likely_event_type(event_type: str, known: tuple[str, ...]) -> str | None:
    """The event type that was probably meant; None if no event type is similar enough for a misspelling."""
    return nearest(event_type, known, like=LIKE_EVENT_TYPE)


def no_handler_takes(event_type: str, known: Iterable[str]) -> str:
    """The reason why a delivery of this event type is ignored; `known` are the event types that handlers take."""
    likely = likely_event_type(event_type, tuple(known))
    return f"No handler takes {event_type}." + (f" Perhaps {likely} was meant." if likely is not None else "")


def choice_of(name: str, known: Iterable[str], *, named: str = "the settings name") -> str:
    """The end of an error message about an unknown name: the likely name, and all known names."""
    names = sorted(known)
    likely = nearest(name, names)
    perhaps = f"perhaps {likely!r} was meant; " if likely is not None else ""
    return f"{perhaps}{named} {', '.join(names) or 'none'}"
