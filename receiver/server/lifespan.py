"""The start and the end of an application's parts, which have threads of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from receiver.errors import HookmirrorError
from receiver.ingest.endpoint import Send
from receiver.system_limits import explain_limit

#: The exit code that tells uvicorn and gunicorn not to start another process, which would fail, too.
EXIT_CANNOT_START = 3


class RunningPart(Protocol):
    """A part of an application that runs beside it."""

    def start(self) -> None: ...

    def stop(self) -> object: ...


@contextmanager
def running(parts: Iterable[RunningPart | None]) -> Iterator[None]:
    """Start the parts in order, and stop those that were started, the last one first, even if one cannot start."""
    with ExitStack() as started:
        for part in parts:
            if part is not None:
                part.start()
                started.callback(part.stop)
        yield


def explained(send: Send) -> Send:
    """Send an application's messages to its server, but say of a failed start what to do instead of where it failed."""

    async def explain(message: dict[str, Any]) -> None:
        # The message is sent while the error is handled.
        error = sys.exc_info()[1]
        if message["type"] == "lifespan.startup.failed" and error is not None:
            said = str(error) if isinstance(error, HookmirrorError) else explain_limit(error)
            message = message if said is None else {**message, "message": said}
        await send(message)

    return explain
