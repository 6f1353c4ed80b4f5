"""`hookmirror follow`: posts the change feed to an endpoint of the user's own."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from concurrent.futures import wait
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from receiver.api.followers import MOST_DEAD_LISTED, FollowerList, show_dead, show_follower
from receiver.codec import encode
from receiver.commands.closing import closed_at_the_end
from receiver.commands.numbers import parse_number
from receiver.commands.options import JsonFlag
from receiver.commands.selection import once_source
from receiver.commands.tables import print_table
from receiver.daemon_threads import DaemonThreads
from receiver.database.database import Database
from receiver.errors import ConfigurationError, NotThisFeed
from receiver.following import dead_changes, followers, repair
from receiver.following.followers import FollowerForgotten
from receiver.following.following import Following, TargetGone
from receiver.following.lag import lags
from receiver.following.lease import NOW, START, FollowOptions
from receiver.following.target import Target, target_url
from receiver.interrupts import SIGNAL_POLL
from receiver.logs.escapes import visible
from receiver.logs.safe_text import quoted
from receiver.mirror.rows import tables_by_name
from receiver.runs.actions import by_command
from receiver.search.arguments import is_id
from receiver.search.filters import ChangeFilter
from receiver.server import sockets
from receiver.server.health import vitals
from receiver.server.interpreter import tune_interpreter
from receiver.server.runtime import Runtime, install
from receiver.settings import environment
from receiver.settings.account import lines_of_secrets
from receiver.settings.environment import FOLLOW_TO_VARIABLE, VITALS_VARIABLE

log = structlog.get_logger(__name__)

#: The exit code when a person is needed, so that a supervisor does not restart the process.
EXIT_NEEDS_A_PERSON = 4

#: Another process takes over after this many seconds, plus two timeouts, without a sign of life.
LEASE_GRACE = 15.0

#: Seconds between a signal to end and the end, if the database or the target does not answer. Supervisors wait longer.
END_TIMEOUT = 40.0

#: The longest name of a follower, in characters.
LONGEST_FOLLOWER_NAME = 100

FOLLOWER_COLUMNS = (
    *("name", "target", "table", "source", "seq", "behind", "behind_seconds", "dead", "waiting"),
    *("accepted_at", "process", "trouble", "trouble_since"),
)
#: The note at the end if no name was given, because the user may not know that the follower stays.
LASTS = (
    "The follower {name} keeps its place, and a finding opens when it falls behind. The same command continues; "
    "`hookmirror follow --forget --name {quoted}` removes it."
)

DEAD_COLUMNS = ("follower", "seq", "table", "source", "external_id", "state", "attempts", "since", "reason")

TargetOption = Annotated[
    str | None,
    typer.Option("--to", metavar="URL", help=f"The URL to post each change to; without it, {FOLLOW_TO_VARIABLE}."),
]
NameOption = Annotated[str | None, typer.Option(help="The follower's name; without it, the host and path of --to.")]
TableOption = Annotated[str | None, typer.Option(help="Only changes of this table.")]
SourceOption = Annotated[str | None, typer.Option(help="Only changes of this source.")]
BeginOption = Annotated[
    str, typer.Option("--from", metavar="now|start|SEQ", help="Where a new follower begins; SEQ: after this change.")
]
MoveOption = Annotated[bool, typer.Option("--move", help="Also move an existing follower to --from.")]
AddressOption = Annotated[bool, typer.Option("--new-address", help="Accept the new address of the host in --to.")]
SecretOption = Annotated[Path | None, typer.Option(help="Sign with the first line of this file.")]
TriesOption = Annotated[int, typer.Option(min=1, max=100, help="Refusals after which a change is dead.")]
TimeoutOption = Annotated[float, typer.Option(min=0.1, max=60.0, help="Timeout of the target in seconds.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Never skip a refused change: the others wait.")]
PortOption = Annotated[
    int | None,
    typer.Option(min=0, max=65535, envvar=VITALS_VARIABLE, help="Answer /healthz and /metrics on this port."),
]
HostOption = Annotated[str, typer.Option(help="The address for --metrics-port.")]
ListOption = Annotated[bool, typer.Option("--list", help="Show all followers and their dead changes, and end.")]
RetryOption = Annotated[bool, typer.Option("--retry-dead", help="Send dead changes again, and end.")]
DropOption = Annotated[
    int | None, typer.Option(metavar="SEQ", parser=parse_number, help="Drop this dead change, and end.")
]
ForgetOption = Annotated[bool, typer.Option("--forget", help="Remove the follower with its cursor, and end.")]


def follow(
    to: TargetOption = None,
    name: NameOption = None,
    table: TableOption = None,
    source: SourceOption = None,
    begin: BeginOption = NOW,
    move: MoveOption = False,
    secret_file: SecretOption = None,
    tries: TriesOption = 5,
    strict: StrictOption = False,
    timeout: TimeoutOption = 10.0,
    new_address: AddressOption = False,
    metrics_port: PortOption = None,
    metrics_host: HostOption = "127.0.0.1",
    show: ListOption = False,
    retry_dead: RetryOption = False,
    drop_dead: DropOption = None,
    forget: ForgetOption = False,
    as_json: JsonFlag = False,
) -> None:
    """Post each change of the feed to a URL, in order, until it is accepted."""
    repairs = {"show": show, "retry": retry_dead, "drop": drop_dead is not None, "forget": forget}
    if any(repairs.values()):
        _repair(repairs, _name(name, to, needed=not show), drop_dead, as_json)
        return
    to = environment.value(FOLLOW_TO_VARIABLE) if to is None else to
    if to is None:
        raise ConfigurationError(
            f"The target is missing: --to or {FOLLOW_TO_VARIABLE} takes the URL to post each change to."
        )
    how: dict[str, Any] = {"move": move, "new_address": new_address, "tries": tries, "strict": strict}
    named = _name(name, to, needed=True)
    options = FollowOptions(name=named, wanted=ChangeFilter(table=table, source=source), begin=_begin(begin), **how)
    options = replace(options, lease=LEASE_GRACE + 2 * timeout)
    secret = None if secret_file is None else _secret(secret_file)
    _hand_on(options, Target(to, follower=named, secret=secret, timeout=timeout), metrics_port, metrics_host)
    if name is None:
        typer.echo(visible(LASTS.format(name=named, quoted=shlex.quote(named))), err=True)


# ── options ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _name(name: str | None, to: str | None, *, needed: bool) -> str:
    """The given name, or one made of the target's host and path. Raises `ConfigurationError` for an invalid name."""
    if name is None:
        if to is None:
            if needed:
                raise ConfigurationError("The follower is missing: --name takes a name that --list shows.")
            return ""
        url = target_url(to)
        name = f"{url.netloc.decode('ascii')}{url.path}".rstrip("/")[:LONGEST_FOLLOWER_NAME]
    if not (0 < len(name) <= LONGEST_FOLLOWER_NAME and name.isascii() and name.isprintable() and " " not in name):
        raise ConfigurationError(
            f"--name takes up to {LONGEST_FOLLOWER_NAME} letters, digits and signs without blanks, such as erp."
        )
    return name


def _begin(begin: str) -> str:
    if begin in (NOW, START) or is_id(begin):
        return begin
    raise ConfigurationError(
        "--from takes `now` (only changes from here on), `start` (all recorded changes), or the number of the change "
        f"to begin after, not {quoted(begin)}."
    )


def _secret(file: Path) -> bytes:
    named = f"--secret-file names {str(file)!r}"
    return lines_of_secrets(file, named=named, setting="--secret-file")[0]


def _refuse_unknown(runtime: Runtime, wanted: ChangeFilter) -> None:
    """Raise `ConfigurationError` for an unknown table or source."""
    tables = sorted(tables_by_name())
    if wanted.table is not None and wanted.table not in tables:
        raise ConfigurationError(f"There is no table {quoted(wanted.table)}: --table takes one of {', '.join(tables)}.")
    once_source(runtime.database, runtime.sources, wanted.source)


# ── following ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _hand_on(options: FollowOptions, target: Target, port: int | None, host: str) -> None:
    """Post changes until a signal. Ends with `EXIT_NEEDS_A_PERSON` if only a person can resolve the failure."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    runtime = closed_at_the_end(install())
    listening = None if port is None else closed_at_the_end(sockets.listen(host, port, option="--metrics-port"))
    runtime.open_to_serve()
    tune_interpreter()
    with ExitStack() as ends:
        ends.enter_context(closing(target))
        _refuse_unknown(runtime, options.wanted)
        if listening is not None:
            ends.enter_context(vitals(listening, trouble=lambda: None, metrics=runtime.exposition.text))
        try:
            _run(Following(runtime.database, target, options, stopping=stopping), stopping)
        except (TargetGone, NotThisFeed, FollowerForgotten) as error:
            sys.stderr.write(f"hookmirror: {visible(str(error))}\n")
            raise typer.Exit(EXIT_NEEDS_A_PERSON) from None
        log.info("stopped", follower=options.name)


def _run(following: Following, stopping: threading.Event) -> None:
    """Post changes until `stopping` is set, and leave a call that has not returned `END_TIMEOUT` seconds later.

    A database that hangs answers no statement, and keeps the connection open. Raises what `following` raises.
    """
    run = DaemonThreads("follower").submit(following.run)
    while not run.done() and not stopping.is_set():
        wait([run], timeout=SIGNAL_POLL)
    if wait([run], timeout=END_TIMEOUT).done:
        run.result()
    else:
        log.warning("ending, although the database or the target has not answered", seconds=END_TIMEOUT)


# ── administration of followers ───────────────────────────────────────────────────────────────────────────────────


def _repair(wanted: dict[str, bool], name: str, seq: int | None, as_json: bool) -> None:
    if sum(wanted.values()) > 1:
        raise ConfigurationError("Give one of --list, --retry-dead, --drop-dead and --forget at a time.")
    runtime = closed_at_the_end(install(quiet=True))
    runtime.open()
    database = runtime.database
    if wanted["show"]:
        _show(database, as_json)
        return
    answer: dict[str, Any] = {"name": name}
    if wanted["retry"]:
        answer["retried"] = repair.retry_dead(database, name, by=by_command())
        says = f"Dead changes that {name} sends again: {answer['retried']}.{_waits(database, name, answer)}"
    elif wanted["drop"] and seq is not None:
        repair.drop_dead(database, name, seq, by=by_command())
        answer["dropped"] = seq
        says = f"{name} dropped the change {seq}; changes that waited for it are sent.{_waits(database, name, answer)}"
    else:
        repair.forget(database, name, by=by_command())
        answer["forgotten"] = True
        says = f"The follower {name} was removed."
    typer.echo(encode(answer) if as_json else visible(says))


def _waits(database: Database, name: str, answer: dict[str, Any]) -> str:
    """Note in the answer whether a process posts the follower's changes; a sentence if none does, otherwise empty."""
    with database.read() as connection:
        answer["served"] = name in followers.served(connection, datetime.now(UTC))
    return "" if answer["served"] else f" They wait until its `hookmirror follow` runs: no process serves {name} now."


def _show(database: Database, as_json: bool) -> None:
    now = datetime.now(UTC)
    with database.read() as connection:
        found = [show_follower(lag, now) for lag in lags(connection, now=now)]
        given_up = [show_dead(row) for row in dead_changes.listed(connection, limit=MOST_DEAD_LISTED)]
    if as_json:
        typer.echo(encode(FollowerList(found, given_up)))
        return
    if not found:
        typer.echo("There are no followers: `hookmirror follow --to URL` creates one.")
        return
    print_table(FOLLOWER_COLUMNS, [[getattr(each, name) for name in FOLLOWER_COLUMNS] for each in found])
    if given_up:
        typer.echo("")
        print_table(DEAD_COLUMNS, [[getattr(each, name) for name in DEAD_COLUMNS] for each in given_up])
