"""The JSON documents of the inbox: their shapes, and what repairs a damaged one."""

from __future__ import annotations

from typing import Any, ClassVar, TypedDict

from receiver.database.columns import Document


class AttemptGroup(TypedDict):
    """Successful attempts of one settlement with the same handler, round and number."""

    #: The handler as `module.function`; None if no handler was reached.
    handler: str | None
    round: int
    number: int
    #: The ids of their deliveries; the lists of microseconds have the same order.
    deliveries: list[int]
    #: Microseconds; 0 for a step that did not run.
    hydrate_us: list[int]
    handle_us: list[int]


class KeptHeaders(Document):
    """The kept headers of a delivery."""

    shape: ClassVar[Any] = dict[str, str]
    mend = "The delivery needs them no more; only a backup of the database still has them."


class KeptAttempts(Document):
    """The groups of attempts of a settlement."""

    shape: ClassVar[Any] = list[AttemptGroup]
    mend = "Only this record of attempts is lost, and not their effects."
