"""The command `hookmirror`: composes the commands, and says an error in one line on standard error.

The exit code is 1 on an error, 2 on wrong usage.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import entry_points
from typing import NoReturn

import typer
from sqlalchemy.exc import SQLAlchemyError
from typer.main import get_command_name
from typer.models import CommandInfo

from receiver.commands.actions import actions
from receiver.commands.ask import ask
from receiver.commands.capture import capture
from receiver.commands.changes import changes
from receiver.commands.console import console
from receiver.commands.console_link import console_link
from receiver.commands.copy import copy
from receiver.commands.deliveries import deliveries
from receiver.commands.doctor import doctor
from receiver.commands.faults import faults
from receiver.commands.findings import findings
from receiver.commands.follow import follow
from receiver.commands.migrate import migrate
from receiver.commands.new_dialect import new_dialect
from receiver.commands.options import hookmirror
from receiver.commands.prune import prune
from receiver.commands.reconcile import reconcile
from receiver.commands.refused import refused
from receiver.commands.rehearse import rehearse
from receiver.commands.reload import reload
from receiver.commands.replay import replay
from receiver.commands.retry import retry
from receiver.commands.row import row
from receiver.commands.rows import rows
from receiver.commands.runs import runs
from receiver.commands.search import search
from receiver.commands.send import send
from receiver.commands.serve import serve
from receiver.commands.sessions import sessions
from receiver.commands.show import show
from receiver.commands.sources import sources
from receiver.commands.tail import tail
from receiver.commands.token import token
from receiver.commands.top import top
from receiver.commands.wording import words_of
from receiver.commands.worker import worker
from receiver.database.errors import explain
from receiver.errors import HookmirrorError
from receiver.logs import logs
from receiver.logs.escapes import visible
from receiver.settings.settings import load

#: Where packages add commands of their own.
COMMAND_ENTRY_POINTS = "hookmirror.commands"

#: In the order in which the help shows them.
COMMANDS = (
    *(serve, worker, console, follow, reload, token, console_link, sessions, doctor, findings, faults, refused, send),
    *(capture, new_dialect, top, tail, sources, search, deliveries, show, rows, row, changes),
    *(replay, retry, reconcile, ask, rehearse, prune, runs, actions, migrate, copy),
)


def _without_commands() -> typer.Typer:
    made = typer.Typer(name="hookmirror", add_completion=False, pretty_exceptions_enable=False)
    made.callback()(hookmirror)
    return made


app = _without_commands()
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    # Standard output is for answers, before the settings are read, too.
    logs.configure("warning", "console")
    arguments = sys.argv[1:] or ["--help"]
    try:
        sys.exit(compose(arguments[0])(arguments, standalone_mode=False))
    except typer.TyperException as error:
        _fail(_usage(error), error.exit_code)
    except HookmirrorError as error:
        _fail(words_of(error))
    except SQLAlchemyError as error:
        settings = load()
        _fail(explain(error, settings.database_url, setting=settings.place_of("database_url")))


def compose(asked: str) -> typer.Typer:
    """Compose the command of this name, or all commands if none has it, such as for the help.

    Typer inspects every command that it is given, which takes longer than most commands run.
    """
    composed, points = _without_commands(), entry_points(group=COMMAND_ENTRY_POINTS)
    own = [info for info in app.registered_commands if _name_of(info) == asked]
    added = [point for point in points if point.name == asked]
    if not own and not added:
        own, added = app.registered_commands, list(points)
    composed.registered_commands = [*own]
    for point in added:
        composed.command(name=point.name)(point.load())
    return composed


def _name_of(info: CommandInfo) -> str:
    return info.name or get_command_name(info.callback.__name__ if info.callback else "")


def _fail(message: str, code: int = 1) -> NoReturn:
    shown = "\n".join(map(visible, message.split("\n")))
    sys.stderr.write(f"hookmirror: {shown}\n")
    sys.exit(code)


#: A quoted word of the user that is longer than a message can bear.
_LONG_QUOTE = re.compile(r"'([^']{64})[^']+'")


def _usage(error: typer.TyperException) -> str:
    """What is wrong with a command, without the words of pydantic, which checks the values."""
    said = error.format_message().replace("Value error, ", "").replace("Input should be", "it must be")
    said = _LONG_QUOTE.sub(r"'\1…'", said.partition(", unable to parse")[0])
    return f"{said if said.endswith(('.', '?')) else said + '.'} --help explains."
