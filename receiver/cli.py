"""The command `hookmirror`. An error is one line on standard error and exit code 1, or 2 for a command that is none."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from queue import SimpleQueue
from typing import Annotated, NoReturn

import structlog
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy.exc import SQLAlchemyError

from receiver.api.tokens import Scope, Tokens
from receiver.codec import encode
from receiver.copying.command import copy
from receiver.database.database import Database
from receiver.database.errors import explain
from receiver.dialects.sources import Source, build_sources, find_dialects
from receiver.errors import ConfigurationError, HookmirrorError
from receiver.inbox.retention import PAGES
from receiver.inbox.tables import ENDED, State
from receiver.ingest.connections import allow_open_files
from receiver.loading import foreign_code
from receiver.logs.escapes import visible
from receiver.options import hookmirror
from receiver.reconcile import date_back
from receiver.reconcile import reconcile as compare_and_repair
from receiver.search.filters import DeliveryFilter
from receiver.search.replayable import replayable_ids, unknown_ids
from receiver.search.sources import is_source
from receiver.server import reloading, sending, server
from receiver.server.app import App, install, schema_of_packages, tune_interpreter
from receiver.server.doctor import examine
from receiver.server.health import vitals
from receiver.server.registry import Kind
from receiver.server.renewal import Reloader, Renewal, Requests, stop_listening
from receiver.settings.environment import CONFIG_VARIABLE, VITALS_VARIABLE
from receiver.settings.settings import load, settings_folder
from receiver.worker.thread import WorkerThread

log = structlog.get_logger(__name__)

#: Where packages add commands of their own.
ENTRY_POINTS = "hookmirror.commands"

RECEIVER = "http://127.0.0.1:8000"

JsonFlag = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]

app = typer.Typer(
    name="hookmirror",
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.callback()(hookmirror)


def main() -> None:
    for point in entry_points(group=ENTRY_POINTS):
        app.command(name=point.name)(point.load())
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False))
    except typer.TyperException as error:
        _fail(_usage(error), error.exit_code)
    except HookmirrorError as error:
        _fail(str(error))
    except SQLAlchemyError as error:
        settings = load()
        _fail(explain(error, settings.database_url, setting=settings.place_of("database_url")))


def _fail(message: str, code: int = 1) -> NoReturn:
    shown = "\n".join(map(visible, message.split("\n")))
    sys.stderr.write(f"hookmirror: {shown}\n")
    sys.exit(code)


def _usage(error: typer.TyperException) -> str:
    """What is wrong with a command, without the words of pydantic, which checks the values."""
    said = error.format_message().replace("Value error, ", "").replace("Input should be", "it must be")
    said = said.partition(", unable to parse")[0]
    return f"{said if said.endswith(('.', '?')) else said + '.'} --help explains."


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    fd: Annotated[int | None, typer.Option(min=0, help="Instead of both: a socket left open by the starter.")] = None,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the socket.")] = 1,
    worker: Annotated[bool, typer.Option(help="Also run one worker; beside several processes, in its own.")] = True,
    root_path: Annotated[str, typer.Option(help="The path that a proxy serves this under, such as /pim.")] = "",
) -> None:
    """Run the endpoint and the API, and a worker beside them."""
    requests = Requests()
    # Before the settings are read, so that whoever changes them later is heard.
    requests.listen()
    runtime = install()
    listening = server.listen(host, port) if fd is None else server.inherit(fd)
    runtime.prepare()
    allow_open_files(runtime.settings.max_connections)
    # Made for several processes too, which would otherwise find out each by itself, and again and again, what is wrong.
    application = App(runtime, with_worker=worker and processes == 1, requests=requests)
    if processes == 1:
        tune_interpreter()
        server.run(application, listening, root_path=root_path.rstrip("/"))
    else:
        runtime.database.close()
        server.run_processes(listening, processes=processes, worker=worker, root_path=root_path)


@app.command()
def worker(
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, envvar=VITALS_VARIABLE, help="Answer /healthz and /metrics on this port."),
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="And on this address.")] = "127.0.0.1",
) -> None:
    """Run a worker alone: it drains the inbox of the same database into the mirror."""
    requests, ends = Requests(), SimpleQueue[int]()
    requests.listen()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: ends.put(number))
    runtime = install()
    listening = None if metrics_port is None else server.listen(metrics_host, metrics_port, option="--metrics-port")
    runtime.prepare()
    running = WorkerThread(runtime.worker, runtime.database)
    registration = runtime.registration(Kind.WORKER)

    def take(renewal: Renewal) -> None:
        runtime.take(renewal)
        registration.renew(renewal.sources)
        running.renew()

    reloader = Reloader(requests, read=runtime.read_anew, take=take, note=registration.note_settings)
    tune_interpreter()
    log.info("working", sources=", ".join(sorted(runtime.sources)))
    running.start()
    registration.start()
    reloader.start()
    with ExitStack() as shown:
        if listening is not None:
            shown.enter_context(vitals(listening, trouble=running.trouble, metrics=runtime.exposition.text))
        ends.get()
        reloader.stop()
        running.stop()
    registration.stop()
    runtime.database.close()
    log.info("stopped")
    stop_listening()


@app.command()
def reload(
    pid: Annotated[int | None, typer.Option(min=1, help="Only this process, such as systemd's $MAINPID.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Have the processes of this machine read their settings again; those that refuse them keep the old ones."""
    # What they would refuse is told here already.
    runtime = install()
    answers = reloading.ask_all(runtime.database, pid=pid)
    typer.echo(encode([asdict(each) for each in answers]) if as_json else "\n".join(reloading.lines(answers)))
    if any(each.taken is False for each in answers):
        raise typer.Exit(1)


@app.command()
def token(
    scope: Annotated[Scope, typer.Option(help="What the token allows; operate includes read.")] = Scope.READ,
    days: Annotated[float, typer.Option(min=0.001, max=3650, help="How long it is valid.")] = 30,
) -> None:
    """Print a token for the API, and nothing else."""
    keys = load().secret_keys
    typer.echo(Tokens(keys).issue(scope, now=datetime.now(UTC), lifetime=timedelta(days=days)))


@app.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Check settings, secrets, wiring and database, and say what to mend."""
    findings = list(examine(load, beside=settings_folder()))
    if as_json:
        typer.echo(encode([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            typer.echo(f"{finding.verdict:4} {finding.subject}: {finding.says}")
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)


@app.command()
def send(
    source: Annotated[str, typer.Argument(help="The source that it comes from, as in the settings.")],
    what: Annotated[str, typer.Argument(metavar="EVENT_TYPE|FILE", help="What happened, or a file with the body.")],
    to: Annotated[str, typer.Option(help="The receiver; without a path, its endpoint for the source.")] = RECEIVER,
    entity_id: Annotated[str, typer.Option("--id", help="The id of what it happened to.")] = sending.USUAL_ID,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="When, in ISO 8601; now unless given.")] = None,
    data: Annotated[str | None, typer.Option(help="The dialect's object, as JSON.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Send one webhook, signed or encrypted as its source does it."""
    settings = load()
    sources = build_sources(settings, find_dialects(settings.dialects, beside=settings_folder()))
    speaking = _source(sources, source)
    url = sending.address(to, source)
    moment = sending.moment(at) if at else datetime.now(UTC)
    sent = sending.send(speaking, sending.body_of(speaking, what, entity_id=entity_id, at=moment, data=data), url)
    typer.echo(encode(asdict(sent)) if as_json else f"{sent.status} {sent.answer}")
    if sent.status != 200:
        raise typer.Exit(1)


@app.command()
def replay(
    ids: Annotated[list[int] | None, typer.Argument(help="Deliveries; none for all that the options name.")] = None,
    source: Annotated[str | None, typer.Option(help="Those of this source.")] = None,
    state: Annotated[
        State | None, typer.Option(help="Those in this state, which has to be done: processed, ignored, dead.")
    ] = None,
    event_type: Annotated[str | None, typer.Option(help="Those of this event type.")] = None,
    entity: Annotated[str | None, typer.Option(help="Those about this entity, as kind:id or id.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Send deliveries through again, as after a fix. Older news never overwrites newer, replayed or not."""
    wanted = DeliveryFilter(source=source, state=state, event_type=event_type, entity=entity)
    if bool(ids) == (wanted != DeliveryFilter()):
        raise ConfigurationError("Say which: ids, or at least one of --source, --state, --event-type and --entity.")
    if state not in (None, *ENDED):
        raise ConfigurationError(f"What is {state} is not done yet: --state takes one of {', '.join(ENDED)} here.")
    runtime = install()
    runtime.prepare()
    if ids:
        wanted = _named(runtime.database, ids)
    if source is not None and not is_source(runtime.database, source):
        _source(runtime.sources, source)
    found = 0
    for some in replayable_ids(runtime.database, wanted):
        found += len(some) if dry_run else runtime.inbox.replay(some, now=datetime.now(UTC))
    left = len(wanted.ids) - found if wanted.ids else 0
    answer = {"replayed": found, "left": left, "dry_run": dry_run}
    typer.echo(encode(answer) if as_json else _replayed(found, left, dry_run))


@app.command()
def reconcile(
    source: Annotated[str, typer.Argument(help="The source, as in the settings.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the difference and change nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Believe a list that lacks very many rows.")] = False,
    misdated: Annotated[
        bool, typer.Option("--misdated", help="Only date back what is from the future; that needs no list.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Compare the mirror with the source's own list, and repair what differs."""
    if misdated and force:
        raise ConfigurationError("--misdated compares with no list, so --force has no effect: leave one of them out.")
    runtime = install()
    runtime.prepare()
    listening = _source(runtime.sources, source)
    with _progress("rows listed") as seen:
        if misdated:
            report = date_back(runtime.database, listening, dry_run=dry_run)
        else:
            with foreign_code(f"The list of {source}"):
                report = compare_and_repair(
                    runtime.database, listening, dry_run=dry_run, force=force, progress=lambda rows: seen(rows)
                )
    repaired = [change._asdict() for change in report.repaired]
    typer.echo(encode({**asdict(report), "repaired": repaired}) if as_json else "\n".join(report.lines()))
    if report.braked:
        raise typer.Exit(1)


@app.command()
def prune(as_json: JsonFlag = False) -> None:
    """Drop expired bodies and dedup keys now; a worker does it by and by."""
    runtime = install()
    runtime.prepare()
    dropped = 0
    with _progress("deliveries pruned") as seen:
        while some := runtime.retention.prune(runtime.database, now=datetime.now(UTC)):
            dropped += some
            seen(dropped)
        while runtime.database.shrink(PAGES):
            seen(dropped)
    typer.echo(encode({"pruned": dropped}) if as_json else f"Deliveries pruned: {dropped}.")


@app.command()
def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Bring the database to the schema of this release."""
    schema = schema_of_packages()
    done = schema.plan() if dry_run else schema.upgrade()
    typer.echo(encode(asdict(done) | {"dry_run": dry_run}) if as_json else "\n".join(done.lines(dry_run=dry_run)))


app.command()(copy)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int], None]]:
    """A progress line on standard error while something long runs, if somebody is looking."""
    columns = (SpinnerColumn(), TextColumn("{task.completed} {task.description}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done: progress.update(task, completed=done)


def _named(database: Database, ids: Sequence[int]) -> DeliveryFilter:
    """Those with these ids. Raises `ConfigurationError` naming the ids that no delivery has."""
    unknown = unknown_ids(database, ids)
    if unknown:
        raise ConfigurationError(
            f"No delivery has the id {', '.join(map(str, unknown))}, so nothing is replayed: correct or leave out what "
            "is wrong. /api/v1/deliveries lists the ids."
        )
    return DeliveryFilter(ids=tuple(set(ids)))


def _replayed(found: int, left: int, dry_run: bool) -> str:
    not_replayed = f" {left} of those named cannot be replayed: not done yet, or the body has expired." if left else ""
    return f"Deliveries that {'would be' if dry_run else 'are'} pending again: {found}.{not_replayed}"


def _source(sources: Mapping[str, Source], name: str) -> Source:
    if not sources:
        raise ConfigurationError(
            f"There is no source in the settings: name a TOML file in {CONFIG_VARIABLE} with a table [sources.{name}]. "
            "docs/operations.md has an example."
        )
    if name not in sources:
        raise ConfigurationError(
            f"There is no source {name!r} in the settings: choose one of {', '.join(sorted(sources))}."
        )
    return sources[name]
