"""The console of a process, made from its settings, its API and its reads."""

from __future__ import annotations

from datetime import timedelta

from receiver.api.routes import Api
from receiver.console.site import Console, ConsoleParts
from receiver.server.api_parts import ServedParts
from receiver.sessions.links import Links
from receiver.sessions.sessions import Sessions
from receiver.settings.settings import Settings


def new_console(settings: Settings, api: Api, served: ServedParts) -> Console:
    """Make the console from these settings. It shares the connections and the turns of the API's reads."""
    keys = settings.secret_keys
    sessions = Sessions(
        served.inbox.database,
        keys,
        lifetime=timedelta(hours=settings.console_session_hours),
        idle=timedelta(minutes=settings.console_idle_minutes),
    )
    return Console(
        ConsoleParts(
            operations={operation.name: operation for operation in api.operations},
            sources=list(settings.sources),
            reads=served.reads,
            sessions=sessions,
            links=Links(keys),
            incoming=served.incoming,
            settings=settings,
        )
    )
