"""Outcomes of one side of a rehearsal: what became of each delivery, and the rows that it made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

#: What became of a delivery, besides the states of the inbox: its attempt failed and would be made again; its event is
#: thin and was not fetched; a bound was reached before its turn.
STILL_FAILING, THIN, NOT_REACHED = "failing", "thin", "not reached"


class RehearsedDelivery(Struct):
    """What became of one delivery."""

    id: int
    state: str
    reason: str | None
    event_type: str | None
    entity: str | None
    #: Microseconds that the handler took, if it ran.
    handle_us: int | None


class RehearsedRow(Struct):
    """One row of the scratch mirror."""

    table: str
    external_id: str
    #: As the API shows it, `active` included.
    columns: dict[str, Any]
    #: As the mirror stores them.
    versions: str


class RehearsedSide(Struct):
    """What one side made of the deliveries."""

    #: What the code is called.
    name: str
    deliveries: Sequence[RehearsedDelivery] = ()
    rows: Sequence[RehearsedRow] = ()
    #: Why the side cannot be run; None if it was.
    refused: str | None = None


class Job(Struct):
    """What one side has to do."""

    source: str
    #: The file with the kept deliveries.
    kept: str
    #: "module:name"; None for the dialect of the settings.
    reference: str | None
    #: Whether the source's API is asked.
    hydrate: bool
    #: Seconds after which no other delivery is begun.
    seconds: float
    #: Seconds that the code may take for one delivery without a sign of life.
    hang_seconds: float
    #: How often the process of this side has ended before its time.
    restarts: int = 0
