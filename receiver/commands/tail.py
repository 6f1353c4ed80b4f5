"""`hookmirror tail`: prints deliveries as they arrive and end, and can resume without a gap."""

from __future__ import annotations

import os
import signal
import sys
import threading
from datetime import UTC, datetime
from time import monotonic
from typing import Annotated, Any

import typer
from sqlalchemy.exc import SQLAlchemyError

from receiver.codec import encode
from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.client_protocol import Client, NoAnswer
from receiver.commands.options import time_option
from receiver.commands.pagination import JsonLines
from receiver.commands.tailing import Tail, TailEvent, TailPlace
from receiver.errors import ConfigurationError, Unavailable
from receiver.inbox.ids import first_id_at
from receiver.inbox.tables import State
from receiver.logs.escapes import visible
from receiver.logs.safe_text import told
from receiver.moments import time_text
from receiver.search.arguments import is_id, parse_moment

#: Seconds between polls, and the longest wait for a receiver that does not answer.
TAIL_POLL, LONGEST_TAIL_WAIT = 1.0, 15.0

#: Seconds between two lines about a lost connection.
STILL_LOST = 60.0


def tail(
    source: Annotated[str | None, typer.Option(help="Of this source.")] = None,
    state: Annotated[State | None, typer.Option(help="Only in this state.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Of this event type.")] = None,
    entity: Annotated[str | None, typer.Option(help="About this entity, as kind:id or id.")] = None,
    since: Annotated[str | None, time_option("Begin here, or at the delivery with this id.", metavar="TIME|ID")] = None,
    after: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Resume a tail, with the cursor it printed.")
    ] = None,
    to: ToOption = None,
    token: TokenOption = None,
    as_json: JsonLines = False,
) -> None:
    """Print deliveries as they arrive and end, until Ctrl-C; the last line has the cursor to resume."""
    if since is not None and after is not None:
        raise ConfigurationError("--since begins a new tail, and --after resumes one: give only one of them.")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    asked = client_of(to, token)
    filters = {"source": source, "event_type": event_type, "entity": entity}
    following = Tail(asked, filters, None if state is None else state.value, _place(asked, since, after))
    _run(following, _Lines(as_json), stopping)


def _place(asked: Client, since: str | None, after: str | None) -> TailPlace:
    """The place to begin at. Raises `ConfigurationError` for an invalid cursor, `BadRequest` for an invalid time."""
    if after is not None:
        return TailPlace.read(after)
    if since is None:
        return TailPlace(Tail.newest(asked))
    if is_id(since) and len(since) > 4:
        return TailPlace(int(since) - 1)
    return TailPlace(max(first_id_at(parse_moment("since", since, now=datetime.now(UTC))) - 1, 0))


def _run(following: Tail, lines: _Lines, stopping: threading.Event) -> None:
    """Print events until a signal, or until the reader of the output has gone."""
    lost = _Lost(lines)
    try:
        while not stopping.is_set():
            try:
                for event in following.poll():
                    _show(event, following, lines)
                    if stopping.is_set():
                        return
                lost.found()
                _tell_gaps(following, lines)
                # With more open deliveries than one poll covers, the next poll follows at once.
                stopping.wait(0.05 if following.is_behind else TAIL_POLL)
            except (NoAnswer, Unavailable, SQLAlchemyError) as error:
                stopping.wait(lost.wait(told(error)))
    except BrokenPipeError:
        # The rest of the buffer would raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        lines.end(following.place.text())


def _tell_gaps(following: Tail, lines: _Lines) -> None:
    """Report deliveries that the tail does not show."""
    if following.left:
        says = f"{following.left} unfinished deliveries are no longer watched: too many are open."
        lines.tell("left", says, deliveries=following.left)
        following.left = 0
    if following.future is not None and not lines.told_future:
        says = (
            f"The newest delivery is dated {time_text(following.future)}, which is in the future: this clock is "
            "behind, or the receiver's was set back. Until then, later arrivals may not be shown: "
            "`hookmirror deliveries --since 10m` lists them."
        )
        lines.tell("future", says, newest=following.future)
    lines.told_future = following.future is not None


def _show(event: TailEvent, following: Tail, lines: _Lines) -> None:
    try:
        lines.show(event)
    except OSError:
        following.take_back(event)
        raise


class _Lines:
    """Writes events to standard output, and messages about the tail to standard error."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        #: Whether the last message about a delivery from the future still holds.
        self.told_future = False

    def show(self, event: TailEvent) -> None:
        typer.echo(encode(event._asdict()) if self._as_json else visible(_line(event)))

    def tell(self, kind: str, words: str, **told: Any) -> None:
        """Write a message about the connection; in JSON to standard output, in order with the events."""
        if self._as_json:
            typer.echo(encode({"event": kind, **told}))
        sys.stderr.write(f"hookmirror: {visible(words)}\n")

    def end(self, cursor: str) -> None:
        if self._as_json:
            sys.stderr.write(encode({"after": cursor}).decode() + "\n")
        else:
            sys.stderr.write(f"To resume: --after {cursor}\n")


def _line(event: TailEvent) -> str:
    one = event.delivery
    end = " ".join(str(one[name]) for name in ("state", "outcome") if one[name]) if event.event == "ended" else ""
    at = one["ended_at"] if event.event == "ended" else one["received_at"]
    parts = (at, f"{event.event:<7}", one["id"], one["source"], one["event_type"], one["entity"], end, one["reason"])
    return "  ".join(str(part) for part in parts if part)


class _Lost:
    """Reports when the connection is lost and when it is back."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines
        self._since: datetime | None = None
        self._told_at = 0.0
        self._tries = 0

    def wait(self, reason: str) -> float:
        """Report a lost connection, at once and then once a minute. Returns the seconds to wait."""
        if self._since is None or monotonic() - self._told_at >= STILL_LOST:
            word = "lost" if self._since is None else "still lost"
            self._since = self._since or datetime.now(UTC)
            self._told_at = monotonic()
            says = f"The connection is {word} since {time_text(self._since)}: {reason}"
            self._lines.tell("lost", says, since=self._since, reason=reason)
        self._tries += 1
        return min(2.0 ** (self._tries - 1) / 2, LONGEST_TAIL_WAIT)

    def found(self) -> None:
        """Report that the connection is back, if it was lost."""
        if self._since is not None:
            says = f"The connection is back; it was lost since {time_text(self._since)}. Nothing was missed."
            self._lines.tell("back", says, since=self._since)
        self._since, self._tries = None, 0
