"""The errands of a process: it asks others to read their settings again, and sends a test event to its own address."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from receiver import codec
from receiver.api.errands import Errands, Reloaded, ReloadedProcess, SentTestEvent
from receiver.database.database import Database
from receiver.dialects.forks import ending_forks
from receiver.dialects.sources import Source
from receiver.errors import ConfigurationError, HookmirrorError, Unreadable
from receiver.http_urls import shown_url
from receiver.metrics.few_names import TEST_EVENT_TYPE
from receiver.runs.actions import By
from receiver.server import reloading, sending
from receiver.server.runtime import Runtime


def new_errands(runtime: Runtime) -> Errands:
    """The errands of a process with these settings."""
    database = runtime.database
    return Errands(database, lambda: runtime.sources, reload=lambda by: reload_all(database, by), send=send_test_event)


def reload_all(database: Database, by: By) -> Reloaded:
    """Ask every process of this machine. Raises `ConfigurationError` if none runs."""
    answers, says = reloading.reload_settings(database, by)
    return Reloaded([ReloadedProcess(**asdict(each)) for each in answers], says)


def send_test_event(source: Source) -> SentTestEvent:
    """Send a test event to the address to which the source's sender sends, and to no other.

    Raises `ConfigurationError` if the settings do not give that address, or the dialect cannot write the event.
    """
    address = source.settings.registered_url
    if address is None:
        raise ConfigurationError(
            f"The settings do not give the address at which senders reach this installation: set `public_url`, or run "
            f"`hookmirror send {source.name} {TEST_EVENT_TYPE} --to URL`."
        )
    with ending_forks():
        body = source.dialect.write(TEST_EVENT_TYPE, sending.USUAL_ID, at=datetime.now(UTC), data=None)
    shown = shown_url(address)
    try:
        sent = sending.send(source, body, address, source.dialect.usual_headers(TEST_EVENT_TYPE))
    except ConfigurationError:
        raise
    except HookmirrorError:
        says = f"No server answers at {shown}, the senders' address: check the DNS name, the proxy, and the server."
        return SentTestEvent(shown, TEST_EVENT_TYPE, None, None, says)
    delivery, code = _read(sent.answer)
    if sent.is_acked:
        says = f"A test event arrived through {shown}: address, signature and storage work."
    else:
        delivery = None
        says = f"{shown} answered a test event with {sent.status}{f', {code}' if code else ''}: senders get the same."
    return SentTestEvent(shown, TEST_EVENT_TYPE, sent.status, delivery, says)


def _read(answer: str) -> tuple[str | None, str]:
    """The delivery that an answer names, and the code of an error."""
    try:
        found = codec.decode(answer)
    except Unreadable:
        return None, ""
    match found:
        case {"delivery": str(delivery)} if delivery.isdigit():
            return delivery, ""
        case {"error": str(code)} if code.isidentifier():
            return None, code
    return None, ""
