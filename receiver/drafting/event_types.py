"""Event types of a drafted dialect: which are handled, guessed from the one in the capture."""

from __future__ import annotations

import re
from dataclasses import dataclass

from receiver.drafting.members import VERB
from receiver.drafting.naming import snake_case, words_in

#: What is done to a thing at its end.
_ENDS = re.compile(r"(?:delet|remov|destroy)\w*", re.I)

_PARTS = re.compile(r"(?P<thing>.*?)(?P<verb>[A-Za-z]+)")

#: The delete that goes with a verb, by the verb's ending.
_DELETES = {"ed": "deleted", "ion": "deletion", "ing": "deleting"}


@dataclass(frozen=True, slots=True)
class EventTypes:
    """The event types that a drafted dialect handles."""

    #: The one in the capture, or one made up for a sender that does not say it.
    example: str
    #: What the event is about, as a name of Python: `product`.
    kind: str
    #: The pattern of those that upsert.
    upserts: str
    #: One that upserts.
    update: str
    #: The one that deactivates; None if that cannot be guessed.
    delete: str | None
    #: Whether the captured event is such a delete.
    is_delete: bool = False


def guess_event_types(example: str, *, kind: str) -> EventTypes:
    """The event types that go with this one. `kind` is what it is about if it does not say so itself."""
    found = _PARTS.fullmatch(example)
    if found is None or VERB.fullmatch(_verb_in(example)) is None:
        return EventTypes(example, singular(kind), example, example, None)
    verb = _verb_in(example)
    thing = example[: -len(verb)]
    words = words_in(thing)
    about = singular(words[-1] if words else kind)
    if _ENDS.fullmatch(verb):
        return EventTypes(example, about, f"{thing}*", thing + _like(verb, _update_for(verb)), example, is_delete=True)
    return EventTypes(example, about, f"{thing}*", example, thing + _like(verb, _delete_for(verb)))


def singular(word: str) -> str:
    """The noun for one of them, as a name of Python."""
    name = snake_case(word) or "record"
    if name.endswith("ies") and len(name) > 4:
        return f"{name[:-3]}y"
    return name[:-1] if name.endswith("s") and not name.endswith(("ss", "us", "is")) and len(name) > 3 else name


def _verb_in(text: str) -> str:
    """The last word of an event type as it is written there."""
    return re.split(r"[^A-Za-z]|(?<=[a-z])(?=[A-Z])", text)[-1]


def _delete_for(verb: str) -> str:
    return next((delete for ending, delete in _DELETES.items() if verb.lower().endswith(ending)), "delete")


def _update_for(verb: str) -> str:
    return {"deleted": "updated", "deletion": "update"}.get(_delete_for(verb), "update")


def _like(example: str, word: str) -> str:
    """The word in capitals or small letters, as the example is."""
    if example.isupper():
        return word.upper()
    return word.capitalize() if example[:1].isupper() else word
