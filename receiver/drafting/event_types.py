"""Event types: guesses the event types that a drafted dialect handles from the one in the capture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from receiver.drafting.naming import snake_case, words_in, written_words_in
from receiver.drafting.search import VERB

#: Verbs of event types that delete.
_ENDS = re.compile(r"(?:delet|remov|destroy)\w*", re.I)

_PARTS = re.compile(r"(?P<thing>.*?)(?P<verb>[A-Za-z]+)")

#: The form of "delete" for a verb, by the verb's ending.
_DELETES = {"ed": "deleted", "ion": "deletion", "ing": "deleting"}


@dataclass(frozen=True, slots=True)
class EventTypes:
    """The event types that a drafted dialect handles."""

    #: The event type in the capture, or an invented one if the capture names none.
    example: str
    #: The kind of the entity, as a Python name: `product`.
    kind: str
    #: The event type that upserts: the example, or a guess if the example deactivates.
    update: str
    #: The event type that deactivates; None if it cannot be guessed.
    delete: str | None
    #: Whether the captured event deactivates.
    is_delete: bool = False

    def may_be_deleted_by(self, other: str) -> bool:
        """Whether another event type, whose last word deletes, may be the delete of such an entity.

        It names the same kind, as `products.deleted` does beside `product.updated`; any kind if no delete is guessed.
        """
        verb = _verb_in(other)
        if _ENDS.fullmatch(verb) is None:
            return False
        words = words_in(other[: -len(verb)])
        return self.delete is None or (bool(words) and singular(words[-1]) == self.kind)


def guess_event_types(example: str, *, kind: str, others: Sequence[str] = ()) -> EventTypes:
    """Guess the event types from an example. `kind` is the kind of the entity if the example does not name one.

    `others` are the other event types of the capture: one about the same thing is taken before an invented one.
    """
    found = _PARTS.fullmatch(example)
    if found is None or VERB.fullmatch(_verb_in(example)) is None:
        return _with_verb_before_the_end(example, singular(kind))
    verb = _verb_in(example)
    thing = example[: -len(verb)]
    words = words_in(thing)
    about = singular(words[-1] if words else kind)
    if wider := [] if _ENDS.fullmatch(verb) else _wider(thing, others):
        # In `product.propertyChange` beside `product.deletion`, the thing is a product.
        about, thing = singular(words_in(wider[0])[-1]), wider[0]
    beside = [other for other in others if other[: -len(_verb_in(other))] == thing and VERB.fullmatch(_verb_in(other))]
    if _ENDS.fullmatch(verb):
        updates = [other for other in beside if not _ENDS.fullmatch(_verb_in(other))]
        update = next(iter(updates), thing + _like(verb, _update_for(verb)))
        return EventTypes(example, about, update, example, is_delete=True)
    deletes = [other for other in beside if _ENDS.fullmatch(_verb_in(other))]
    return EventTypes(example, about, example, next(iter(deletes), thing + _like(verb, _delete_for(verb))))


def _with_verb_before_the_end(example: str, kind: str) -> EventTypes:
    """Guess from an event type such as `DeletedEntry` or `product.deleted.v2`."""
    for word in written_words_in(example):
        if _ENDS.fullmatch(word):
            update = example.replace(word, _like(word, _update_for(word)), 1)
            return EventTypes(example, kind, update, example, is_delete=True)
    return EventTypes(example, kind, example, None)


def _wider(thing: str, others: Sequence[str]) -> list[str]:
    """List the things of other event types in one of whose parts this event type's changed: `product.`."""
    things = [other[: -len(_verb_in(other))] for other in others if VERB.fullmatch(_verb_in(other))]
    return [
        each for each in things if re.fullmatch(r".*\w[./:]", each) and re.fullmatch(r"\w+", thing.removeprefix(each))
    ]


def singular(word: str) -> str:
    """Make the singular of a noun, as a Python name."""
    name = snake_case(word) or "record"
    if name.endswith("ies") and len(name) > 4:
        return f"{name[:-3]}y"
    return name[:-1] if name.endswith("s") and not name.endswith(("ss", "us", "is")) and len(name) > 3 else name


def _verb_in(text: str) -> str:
    """The last word of an event type, unchanged."""
    return re.split(r"[^A-Za-z]|(?<=[a-z])(?=[A-Z])", text)[-1]


def _delete_for(verb: str) -> str:
    return next((delete for ending, delete in _DELETES.items() if verb.lower().endswith(ending)), "delete")


def _update_for(verb: str) -> str:
    return {"deleted": "updated", "deletion": "update"}.get(_delete_for(verb), "update")


def _like(example: str, word: str) -> str:
    """Write the word in capitals or small letters like the example."""
    if example.isupper():
        return word.upper()
    return word.capitalize() if example[:1].isupper() else word
