"""`hookmirror worker`: runs a worker alone."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from functools import partial
from queue import Empty, SimpleQueue
from typing import Annotated

import structlog
import typer

from receiver.commands.closing import closed_at_the_end
from receiver.interrupts import SIGNAL_POLL
from receiver.runs.feeder import FeederThread
from receiver.server import sockets
from receiver.server.health import vitals
from receiver.server.interpreter import tune_interpreter
from receiver.server.renewal import Renewal
from receiver.server.runtime import install
from receiver.server.signals import Requests, stop_listening
from receiver.server.upkeep import watch
from receiver.settings.environment import VITALS_VARIABLE
from receiver.worker.processes import Kind
from receiver.worker.thread import WorkerThread

log = structlog.get_logger(__name__)


def worker(
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, envvar=VITALS_VARIABLE, help="Answer /healthz and /metrics on this port."),
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="The address for --metrics-port.")] = "127.0.0.1",
) -> None:
    """Run a worker alone: it drains the inbox of the same database into the mirror."""
    requests, ends = Requests(), _asked_to_end()
    requests.listen()
    runtime = closed_at_the_end(install())
    listening = None
    if metrics_port is not None:
        listening = closed_at_the_end(sockets.listen(metrics_host, metrics_port, option="--metrics-port"))
    runtime.prepare()
    running = WorkerThread(runtime.worker, runtime.database)
    reconciling = FeederThread(partial(runtime.reconciler, with_schedule=True), name="reconciler")
    feeding = FeederThread(partial(runtime.feeder, running.claims_of))
    registration = runtime.registration(Kind.WORKER, reloads=True)

    def adopt(renewal: Renewal) -> None:
        runtime.adopt(renewal)
        registration.renew(renewal.sources)
        for each in (running, feeding, reconciling):
            each.renew()

    reloader = runtime.reloader(requests, registration, adopt=adopt)
    tune_interpreter()
    log.info("working", sources=", ".join(sorted(runtime.sources)))
    for part in (running, feeding, reconciling, registration, reloader):
        part.start()
    with ExitStack() as shown:
        shown.enter_context(watch(runtime.database, registration.name, Kind.WORKER, runtime.facts))
        if listening is not None:
            shown.enter_context(vitals(listening, trouble=running.trouble, metrics=runtime.exposition.text))
        _wait_for(ends)
        for part in (reloader, reconciling, feeding, running, registration):
            part.stop()
    log.info("stopped")
    stop_listening()


def _asked_to_end() -> SimpleQueue[int]:
    """Handle the signals to end from now on; return the queue that receives them."""
    ends = SimpleQueue[int]()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: ends.put(number))
    return ends


def _wait_for(ends: SimpleQueue[int]) -> None:
    while True:
        try:
            ends.get(timeout=SIGNAL_POLL)
        except Empty:
            continue
        return
