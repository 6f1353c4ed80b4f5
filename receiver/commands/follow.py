"""`hookmirror follow`: hands the change feed on to an endpoint of the user's own."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from receiver.codec import encode
from receiver.commands.options import JsonFlag
from receiver.commands.tables import print_table
from receiver.database.database import Database
from receiver.errors import ConfigurationError, NotThisFeed
from receiver.following import dead_changes, repair
from receiver.following.following import Following, TargetGone
from receiver.following.lag import Lag, lags
from receiver.following.lease import NOW, START, FollowOptions
from receiver.following.target import Target, target_url
from receiver.logs.escapes import visible
from receiver.mirror.rows import mirror_tables, sql_table
from receiver.runs.actions import by_command
from receiver.search.arguments import is_id
from receiver.search.filters import ChangeFilter
from receiver.search.sources import is_source
from receiver.server import server
from receiver.server.health import vitals
from receiver.server.interpreter import tune_interpreter
from receiver.server.runtime import Runtime, install
from receiver.settings.account import lines_of_secrets
from receiver.settings.environment import VITALS_VARIABLE

log = structlog.get_logger(__name__)

#: What the process ends with where only a person helps: a supervisor need not start it again.
EXIT_NEEDS_A_PERSON = 4

#: Seconds without a sign of life, and two timeouts, after which another process takes over.
LEASE_GRACE = 15.0

#: Characters of a follower's name.
LONGEST_FOLLOWER_NAME = 100

#: Dead changes that are listed.
MOST_DEAD_LISTED = 1_000

FOLLOWER_COLUMNS = (
    *("name", "target", "table", "source", "seq", "behind", "behind_seconds", "dead", "waiting"),
    *("accepted_at", "process", "trouble", "trouble_since"),
)
DEAD_COLUMNS = ("follower", "seq", "table", "source", "external_id", "state", "attempts", "since", "reason")

TargetOption = Annotated[str | None, typer.Option("--to", metavar="URL", help="Where each change is posted.")]
NameOption = Annotated[str | None, typer.Option(help="The follower's name; without it, the host and path of --to.")]
TableOption = Annotated[str | None, typer.Option(help="Only changes of this table.")]
SourceOption = Annotated[str | None, typer.Option(help="Only changes of this source.")]
BeginOption = Annotated[
    str, typer.Option("--from", metavar="now|start|SEQ", help="Where a new follower begins: behind this change.")
]
MoveOption = Annotated[bool, typer.Option("--move", help="Move a follower that is there to --from, too.")]
AddressOption = Annotated[bool, typer.Option("--new-address", help="What the name in --to leads to now is meant.")]
SecretOption = Annotated[Path | None, typer.Option(help="Sign with the first line of this file.")]
TriesOption = Annotated[int, typer.Option(min=1, max=100, help="So many refusals make a change dead.")]
TimeoutOption = Annotated[float, typer.Option(min=0.1, max=60.0, help="Seconds that the target may take.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Never pass over a change: the others wait for it.")]
PortOption = Annotated[
    int | None,
    typer.Option(min=0, max=65535, envvar=VITALS_VARIABLE, help="Answer /healthz and /metrics on this port."),
]
HostOption = Annotated[str, typer.Option(help="And on this address.")]
ListOption = Annotated[bool, typer.Option("--list", help="Show all followers and their dead changes, and end.")]
RetryOption = Annotated[bool, typer.Option("--retry-dead", help="Have dead changes sent again, and end.")]
DropOption = Annotated[int | None, typer.Option(metavar="SEQ", help="Give this dead change up, and end.")]
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
    """Hand the change feed on: post each change to a URL, in order, until it is accepted."""
    repairs = {"show": show, "retry": retry_dead, "drop": drop_dead is not None, "forget": forget}
    if any(repairs.values()):
        _repair(repairs, _name(name, to, needed=not show), drop_dead, as_json)
        return
    if to is None:
        raise ConfigurationError("Say where: --to takes the URL that each change is posted to.")
    how: dict[str, Any] = {"move": move, "new_address": new_address, "tries": tries, "strict": strict}
    named = _name(name, to, needed=True)
    options = FollowOptions(name=named, wanted=ChangeFilter(table=table, source=source), begin=_begin(begin), **how)
    options = replace(options, lease=LEASE_GRACE + 2 * timeout)
    secret = None if secret_file is None else _secret(secret_file)
    _hand_on(options, Target(to, follower=named, secret=secret, timeout=timeout), metrics_port, metrics_host)


# ── what the options say ──────────────────────────────────────────────────────────────────────────────────────


def _name(name: str | None, to: str | None, *, needed: bool) -> str:
    """The follower's name: as given, or after the target. Raises `ConfigurationError` for what cannot be one."""
    if name is None:
        if to is None:
            if needed:
                raise ConfigurationError("Say which follower: --name takes one of those that --list shows.")
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
        "--from takes `now` (what comes from here on), `start` (all that was ever recorded), or the number of the last "
        f"change that is not wanted, and not {begin!r}."
    )


def _secret(file: Path) -> bytes:
    named = f"--secret-file names {str(file)!r}"
    return lines_of_secrets(file, named=named, setting="--secret-file")[0]


def _refuse_unknown(runtime: Runtime, wanted: ChangeFilter) -> None:
    """Raises `ConfigurationError` for a table or a source of which no change can come."""
    tables = sorted(str(sql_table(each).name) for each in mirror_tables())
    if wanted.table is not None and wanted.table not in tables:
        raise ConfigurationError(f"There is no table {wanted.table!r}: --table takes one of {', '.join(tables)}.")
    source = wanted.source
    if source is not None and source not in runtime.sources and not is_source(runtime.database, source):
        known = ", ".join(sorted(runtime.sources)) or "none"
        raise ConfigurationError(f"There is no source {source!r}. In the settings: {known}.")


# ── handing on ────────────────────────────────────────────────────────────────────────────────────────────────


def _hand_on(options: FollowOptions, target: Target, port: int | None, host: str) -> None:
    """Hand on until a signal comes. Ends with `EXIT_NEEDS_A_PERSON` where going on would be wrong."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    runtime = install()
    listening = None if port is None else server.listen(host, port, option="--metrics-port")
    runtime.open()
    tune_interpreter()
    with ExitStack() as ends:
        ends.callback(runtime.database.close)
        ends.enter_context(closing(target))
        _refuse_unknown(runtime, options.wanted)
        if listening is not None:
            ends.enter_context(vitals(listening, trouble=lambda: None, metrics=runtime.exposition.text))
        try:
            Following(runtime.database, target, options, stopping=stopping).run()
        except (TargetGone, NotThisFeed) as error:
            sys.stderr.write(f"hookmirror: {visible(str(error))}\n")
            raise typer.Exit(EXIT_NEEDS_A_PERSON) from None
        log.info("stopped", follower=options.name)


# ── what is asked and done beside it ──────────────────────────────────────────────────────────────────────────


def _repair(wanted: dict[str, bool], name: str, seq: int | None, as_json: bool) -> None:
    if sum(wanted.values()) > 1:
        raise ConfigurationError("Give one of --list, --retry-dead, --drop-dead and --forget at a time.")
    runtime = install(quiet=True)
    runtime.open()
    with closing(runtime.database) as database:
        if wanted["show"]:
            _show(database, as_json)
            return
        answer: dict[str, Any] = {"name": name}
        if wanted["retry"]:
            answer["retried"] = repair.retry_dead(database, name, by=by_command())
            says = f"Dead changes that {name} sends again: {answer['retried']}."
        elif wanted["drop"] and seq is not None:
            repair.drop_dead(database, name, seq, by=by_command())
            answer["dropped"] = seq
            says = f"{name} never sends the change {seq}; what waited behind it is sent."
        else:
            repair.forget(database, name, by=by_command())
            answer["forgotten"] = True
            says = f"The follower {name} is forgotten."
    typer.echo(encode(answer) if as_json else visible(says))


def _show(database: Database, as_json: bool) -> None:
    with database.read() as connection:
        followers = [_row_of(lag) for lag in lags(connection, now=datetime.now(UTC))]
        dead = [dict(row) for row in dead_changes.listed(connection, limit=MOST_DEAD_LISTED)]
    if as_json:
        typer.echo(encode({"followers": followers, "dead": [{str(name): row[name] for name in row} for row in dead]}))
        return
    if not followers:
        typer.echo("There is no follower: `hookmirror follow --to URL` begins one.")
        return
    print_table(FOLLOWER_COLUMNS, [[row[name] for name in FOLLOWER_COLUMNS] for row in followers])
    if dead:
        typer.echo("")
        print_table(DEAD_COLUMNS, [[row[name] for name in DEAD_COLUMNS] for row in dead])


def _row_of(lag: Lag) -> dict[str, Any]:
    told = {"behind": lag.changes, "behind_seconds": round(lag.seconds, 1), "dead": lag.dead, "waiting": lag.waiting}
    names = ("name", "target", "table", "source", "seq", "accepted_at", "trouble", "trouble_since")
    return {**{name: lag.follower[name] for name in names}, **told, "process": lag.follower["holder"]}
