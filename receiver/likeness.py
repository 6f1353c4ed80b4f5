"""Likeness: which known name an unknown one was most likely meant for."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache

#: Characters of an unknown name that are compared and repeated.
LONGEST_COMPARED = 64

#: From 0 to 1: how much a name must be like a known one to count as a misspelt one.
LIKE = 0.6

#: The same for event types, which share most of their letters: `product.created` is no slip for `product.updated`.
LIKE_EVENT_TYPE = 0.9


def nearest(name: str, known: Iterable[str], *, like: float = LIKE) -> str | None:
    """The known name most similar to this unknown one; None if no name is similar."""
    close = get_close_matches(name[:LONGEST_COMPARED], list(known), n=1, cutoff=like)
    return close[0] if close else None


@lru_cache(maxsize=1_024)
def likely_event_type(event_type: str, known: tuple[str, ...]) -> str | None:
    """The event type that was most likely meant; None if none is so similar that a slip explains the difference."""
    return nearest(event_type, known, like=LIKE_EVENT_TYPE)


def no_handler_takes(event_type: str, known: Iterable[str]) -> str:
    """Why a delivery of this event type is ignored, where these are the event types that handlers take."""
    likely = likely_event_type(event_type, tuple(known))
    return f"No handler takes {event_type}." + (f" Perhaps {likely} was meant." if likely is not None else "")


def choice_of(name: str, known: Iterable[str], *, named: str = "the settings name") -> str:
    """What an error message says of an unknown name: the likely one, and what may be chosen."""
    names = sorted(known)
    likely = nearest(name, names)
    perhaps = f"perhaps {likely!r} was meant; " if likely is not None else ""
    return f"{perhaps}{named} {', '.join(names) or 'none'}"
