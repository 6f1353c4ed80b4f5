"""The commands `simulate` and `demo`, which `hookmirror` mounts (entry-point group `hookmirror.commands`)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import httpx
import typer
from rich.console import Console

from receiver import codec
from receiver.http_urls import host_in_url
from simulator.answers import is_url
from simulator.clock import Clock, RunningClock
from simulator.connection import NoAnswerError
from simulator.demo import api_client, compared, run_demo, settled
from simulator.faults import parse
from simulator.load import send_load
from simulator.progress import progress
from simulator.receiver_process import ReceiverFailedError
from simulator.report import SourceReport, show
from simulator.run import build, couriers, hook_url, live, play, prepare
from simulator.scenario import NUMBERS, Scenario, ScenarioError, load
from simulator.server import api_url, serving
from simulator.settings import settings_text
from simulator.systems import SYSTEMS
from simulator.systems.base import System
from simulator.systems.iimmpact.system import Iimmpact

T = TypeVar("T")

#: The exit code of a run that Ctrl-C ended, as in shells.
INTERRUPTED = 130

#: Characters in a line of a report that goes into a file or a pipe, enough for the largest numbers.
PIPE_WIDTH = 200

#: Scenarios that the demo suggests at its end.
NEXT = ("hostile", "flaky-network", "rotation", "outage")


def _number(name: str, words: str) -> Any:
    """Make an option with the bounds that the number of this name has in scenario files."""
    least, most = NUMBERS[name]
    return typer.Option(min=least, max=most, help=words)


Sources = Annotated[list[str] | None, typer.Option("--source", help="Only this system; repeat for several.")]
ScenarioName = Annotated[str, typer.Option("--scenario", help="A scenario's name, or the path of a .toml file.")]
Seed = Annotated[int, typer.Option(help="The same seed makes the same history.")]
Events = Annotated[int | None, _number("events", "The number of events over all systems; there may be a few more.")]
Rate = Annotated[float | None, _number("rate", "Events a second over all systems; 0 for full speed.")]
Speed = Annotated[
    float | None,
    _number("speed", "Simulated seconds in a second. With 60, a retry due in 300 s comes after 5 s."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
Fault = Annotated[
    list[str] | None, typer.Option("--fault", help="NAME=VALUE, in addition to the scenario's; repeatable.")
]
To = Annotated[str | None, typer.Option(help="Send to this URL. The source replaces {source} in it, or is appended.")]
Serve = Annotated[bool, typer.Option("--serve", help="Serve the systems' APIs; without --to, until Ctrl-C.")]
Host = Annotated[str, typer.Option(help="The address at which to serve the APIs.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port on which to serve the APIs; 0 for any.")]
Loopback = Annotated[
    bool, typer.Option("--allow-loopback-http", help="Let IIMMPACT also accept http URLs of this machine.")
]
Check = Annotated[str | None, typer.Option(help="Compare with the mirror of the Hookmirror at this URL.")]
Token = Annotated[str, typer.Option(envvar="HOOKMIRROR_TOKEN", help="A token for --check.")]
PrintSettings = Annotated[
    bool, typer.Option("--print-settings", help="Print the receiver's settings for this seed, and exit.")
]
Prepared = Annotated[
    int | None, typer.Option(min=1, help="Make all messages first, then send at full speed over this many connections.")
]


def demo(
    *,
    scenario: ScenarioName = "monday-import",
    seed: Seed = 1,
    events: Events = None,
    rate: Rate = None,
    speed: Speed = None,
    fault: Fault = None,
    as_json: Json = False,
) -> None:
    """Start a receiver, play a scenario against it over real HTTP, and check that its mirror is right."""
    console = Console(stderr=True)
    chosen = load_scenario(console, scenario, fault, events=events, rate=rate, speed=speed)
    # In scripts and in CI, no person looks at the receiver afterwards.
    stay = not as_json and Console().is_terminal and not os.environ.get("CI")

    def on_reports(reports: Sequence[SourceReport]) -> None:
        print_reports(reports, chosen, seed=seed, as_json=as_json)
        if not as_json:
            Console().print(what_next(chosen), markup=False, highlight=False, soft_wrap=True)

    if not as_json:
        told = f"Scenario {chosen.name}: {chosen.title}. {chosen.events} events, seed {seed}."
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    good = run(console, run_demo(chosen, seed=seed, console=console, stay=stay, on_reports=on_reports))
    raise typer.Exit(0 if good else 1)


def what_next(seen: Scenario) -> str:
    first, *others = [name for name in NEXT if name != seen.name]
    # `make demo PYTHON=…` makes an environment of another name.
    environment = Path(sys.prefix).name if Path(sys.prefix).name.startswith(".venv") else ".venv"
    return (
        f"Try next: hookmirror demo --scenario {first}, or {', '.join(others)} (from a clone, the command is "
        f'{environment}/bin/hookmirror); then a receiver of your own, "Install and run in two minutes" in README.md.'
    )


def simulate(
    *,
    to: To = None,
    serve: Serve = False,
    host: Host = "127.0.0.1",
    port: Port = 9000,
    sources: Sources = None,
    scenario: ScenarioName = "calm",
    seed: Seed = 1,
    events: Events = None,
    rate: Rate = None,
    speed: Speed = None,
    fault: Fault = None,
    prepared: Prepared = None,
    allow_loopback_http: Loopback = False,
    check: Check = None,
    token: Token = "",
    print_settings: PrintSettings = False,
    as_json: Json = False,
) -> None:
    """Simulate the four systems: serve their APIs, send their webhooks to any receiver, and report the results.

    For example, to a receiver with the settings that the first of these commands prints:

    hookmirror simulate --print-settings --serve --seed 1

    hookmirror simulate --to http://127.0.0.1:8000/hooks --serve --seed 1
    """
    console = Console(stderr=True)
    chosen = load_scenario(console, scenario, fault, events=events, rate=rate, speed=speed)
    clock = RunningClock(speed=chosen.speed)
    systems = chosen_systems(console, sources, seed=seed, clock=clock)
    if to or print_settings:
        subscribe(console, systems, chosen, to=to or "http://127.0.0.1:8000/hooks")
    if print_settings:
        typer.echo(settings_text(systems, api=f"http://{host_in_url(host)}:{port}" if serve else None), nl=False)
        return
    # A file that `hookmirror token` was written to ends in a line break.
    token = token.strip()
    if check and not token:
        stop(console, "--check wants a token: give --token what `hookmirror token` prints, or set HOOKMIRROR_TOKEN.")
    if check and prepared:
        stop(console, "--prepared only measures, and compares no mirror: leave out --check, or --prepared.")
    if to is None and not serve:
        stop(console, "Nothing to do: send with --to URL, or serve the APIs with --serve.")
    for system in systems:
        if isinstance(system, Iimmpact):
            system.allow_loopback_http = allow_loopback_http
    if to is None:
        run(console, serve_only(systems, chosen, seed=seed, host=host, port=port, clock=clock, console=console))
        return
    if prepared:
        playing = send_load(systems, chosen, connections=prepared)
    else:
        playing = send(systems, chosen, seed=seed, clock=clock, console=console, check=check, token=token)
    reports = run(console, with_api(playing, systems, host=host, port=port) if serve else playing)
    print_reports(reports, chosen, seed=seed, as_json=as_json)
    raise typer.Exit(0 if all(report.good for report in reports) else 1)


def chosen_systems(console: Console, sources: Sequence[str] | None, *, seed: int, clock: Clock) -> list[System]:
    names = list(dict.fromkeys(sources or SYSTEMS))
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown:
        stop(console, f"There is no system {unknown[0]!r}: choose from {', '.join(SYSTEMS)}.")
    return build(names, seed=seed, clock=clock)


def subscribe(console: Console, systems: Sequence[System], scenario: Scenario, *, to: str) -> None:
    for system in systems:
        try:
            url = hook_url(to, system.source)
        except ValueError as error:
            stop(console, f"--to: {error}")
        if not is_url(url):
            stop(console, f"--to: {url!r} is not an http or https URL in ASCII with a host that can exist.")
        system.subscribe(url)
    prepare(systems, scenario)


async def send(
    systems: Sequence[System],
    scenario: Scenario,
    *,
    seed: int,
    clock: Clock,
    console: Console,
    check: str | None,
    token: str,
) -> list[SourceReport]:
    """Play the scenario against the subscribed receiver. With `check`, compare the mirror of the Hookmirror there."""
    async with couriers(systems, scenario=scenario, seed=seed, clock=clock) as sending:
        began = time.monotonic()
        async with progress(console, sending, None):
            await play(systems, scenario=scenario, seed=seed, couriers=sending, clock=clock)
        seconds = time.monotonic() - began
        reports = [
            SourceReport(source=system.source, events=system.events, log=sending[system.source].log, seconds=seconds)
            for system in systems
        ]
    if check:
        try:
            await compare_all(systems, reports, check=check, token=token)
        except (ReceiverFailedError, httpx.HTTPError) as error:
            leave_unchecked(reports, told(error))
        except Exception as error:
            # An unknown receiver may answer anything, and the report has to be printed all the same.
            leave_unchecked(reports, f"the server at {check} is not a Hookmirror ({type(error).__name__}).")
    return reports


async def compare_all(systems: Sequence[System], reports: Sequence[SourceReport], *, check: str, token: str) -> None:
    """Wait until the Hookmirror at this URL has no pending delivery, and compare its mirror with the catalogs."""
    async with api_client(check, token) as client:
        await settled(None, client)
        for system, report in zip(systems, reports, strict=True):
            report.comparison = await compared(client, system, report.log)


def leave_unchecked(reports: Sequence[SourceReport], why: str) -> None:
    for report in reports:
        if report.comparison is None:
            report.unchecked = why


def told(error: Exception) -> str:
    """Describe an error, with what to do if that is known."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        mend = ": give --token what `hookmirror token` prints there" if status == 401 else ""
        return f"{error.request.url} answered {status}{mend}."
    return str(error) or type(error).__name__


async def with_api(
    work: Coroutine[Any, Any, list[SourceReport]], systems: Sequence[System], *, host: str, port: int
) -> list[SourceReport]:
    async with serving(systems, host=host, port=port):
        return await work


async def serve_only(
    systems: Sequence[System],
    scenario: Scenario,
    *,
    seed: int,
    host: str,
    port: int,
    clock: Clock,
    console: Console,
) -> None:
    """Serve the APIs and edit the catalogs. Webhooks that are registered over the APIs get the events."""
    async with serving(systems, host=host, port=port) as url:
        console.print(f"Serving the systems' APIs until Ctrl-C, with an edit every {1 / (scenario.rate or 1):.2g} s:")
        for system in systems:
            access = ", ".join(f"{name}: {value}" for name, value in system.access().items())
            told = f"{api_url(url, system)}  {access}"
            console.print(told, markup=False, highlight=False, soft_wrap=True)
        async with couriers(systems, scenario=scenario, seed=seed, clock=clock, endless=True) as sending:
            await live(systems, scenario=scenario, seed=seed, couriers=sending, clock=clock)


def run(console: Console, work: Coroutine[Any, Any, T]) -> T:
    """Run until the work or Ctrl-C ends it. An expected error becomes a line and exit code 1."""
    try:
        return asyncio.run(until_terminated(work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(INTERRUPTED) from None
    except (ReceiverFailedError, NoAnswerError, httpx.HTTPError, OSError) as error:
        stop(console, told(error))


async def until_terminated(work: Coroutine[Any, Any, T]) -> T:
    """Do the work, and let SIGTERM end it as Ctrl-C does, so that its processes end too."""
    task = asyncio.current_task()
    assert task is not None
    with contextlib.suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # A shell lets a command that it starts with `&` ignore SIGINT. Otherwise asyncio's own handler is better,
            # with which a second Ctrl-C ends the process at once.
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    return await work


def load_scenario(console: Console, name: str, faults: Sequence[str] | None, **settings: Any) -> Scenario:
    try:
        return load(name).changed(faults=parse(faults or ()), **settings)
    except ScenarioError as error:
        stop(console, str(error))
    except ValueError as error:
        stop(console, f"--fault: {error}")


def print_reports(reports: Sequence[SourceReport], scenario: Scenario, *, seed: int, as_json: bool) -> None:
    if not as_json:
        console = Console()
        show(console if console.is_terminal else Console(width=PIPE_WIDTH), reports)
        return
    good = all(report.good for report in reports)
    document = {"scenario": scenario.name, "seed": seed, "good": good, "sources": [r.as_json() for r in reports]}
    typer.echo(codec.encode(document).decode())


def stop(console: Console, message: str) -> NoReturn:
    console.print(f"hookmirror: {message}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1)
