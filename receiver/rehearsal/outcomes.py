"""Results of one side of a rehearsal: the end of each delivery, and the rows of the scratch mirror."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

#: The end of a delivery whose attempt failed and would be retried, in addition to the states of the inbox.
STILL_FAILING = "failing"

#: The ends of deliveries that were not run: the event is thin and was not fetched; the handler takes `mirror.session`;
#: a bound of the side was reached before its turn, such as that of hanging deliveries.
NOT_REHEARSED = THIN, WITH_SESSION, NOT_REACHED = "thin", "session", "not reached"


class RehearsedDelivery(Struct):
    """The end of one delivery in a rehearsal."""

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
    #: The values as the API shows them, `active` included.
    columns: dict[str, Any]
    #: The registers as the mirror stores them.
    versions: str


class RehearsedSide(Struct):
    """The results of one side."""

    #: The name of the code.
    name: str
    deliveries: Sequence[RehearsedDelivery] = ()
    rows: Sequence[RehearsedRow] = ()
    #: The reason for which the side cannot be run; None if it was run.
    refused: str | None = None


class Job(Struct):
    """The task of one side."""

    source: str
    #: The file with the kept deliveries.
    kept: str
    #: "module:name"; None for the dialect of the settings.
    reference: str | None
    #: Whether thin events are fetched from the source's API.
    hydrate: bool
    #: Seconds after which no further delivery is begun.
    seconds: float
    #: Seconds that the code may take for one delivery without a sign of life.
    hang_seconds: float
    #: The ids of kept deliveries that are left out, because the other side did not run them.
    without: Sequence[int] = ()
    #: The number of crashes of this side's process so far.
    restarts: int = 0
