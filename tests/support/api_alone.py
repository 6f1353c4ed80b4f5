"""The API's operations and routes on their own, for tests that need no server."""

from __future__ import annotations

from receiver.api.exposition import Exposition
from receiver.api.probes import Probes
from receiver.api.readiness import Readiness
from receiver.api.reads import Reads
from receiver.api.resources import ApiParts
from receiver.api.routes import Api
from receiver.api.tokens import Tokens
from receiver.database.database import Database
from receiver.findings.gathering import Facts
from receiver.inbox.inbox import Inbox
from receiver.search.cursors import Cursors
from receiver.worker.processes import Wiring


def api_of(database: Database) -> Api:
    """Make an API on a database that the test never reads."""
    inbox = Inbox(database)
    parts = ApiParts(
        inbox=inbox,
        sources=[],
        cursors=Cursors(["key"]),
        page_bytes=1,
        probes=Probes(
            Readiness(inbox, [], max_backlog_seconds=1),
            Exposition(inbox, []),
            measuring=Reads(at_once=1, seconds=1),
            warnings=list,
        ),
        facts=Facts({}, max_body_bytes=1, max_backlog_seconds=1, running=lambda *_: ()),
        wake=lambda: None,
        wiring=Wiring(()),
    )
    return Api(Tokens(["key"]), Reads(at_once=1, seconds=1), parts.resources())
