"""The states of a delivery."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    PROCESSED = "processed"
    IGNORED = "ignored"
    DEAD = "dead"

    #: As fast as that of text; an enum's own is a function in Python, and a worker puts each result into a dictionary.
    __hash__ = str.__hash__


#: The final states, left only by a replay, or by a duplicate of a dead delivery.
ENDED = (State.PROCESSED, State.IGNORED, State.DEAD)
