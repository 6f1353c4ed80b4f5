"""Worker processes whose handlers record their begin and end in one file, so that a test sees all of them together."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from forked import Forked
from serving import TIMEOUT, wait_until

#: Each handler takes a moment, so that those of several processes overlap. SLOW… waits for the file `go`, and the data
#: of an event may set the seconds.
DIALECT = """
import os, time
from pathlib import Path
from pydantic import AwareDatetime, BaseModel
from handlers.catalog import Product
from receiver import Dialect, Envelope, Event, HmacSha256, Mirror

shop = Dialect("shop", verify=HmacSha256(header="X-Webhook-Signature"))
folder = Path(__file__).parent
record = os.open(folder / "record", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

class Body(BaseModel):
    type: str
    id: str
    timestamp: AwareDatetime
    data: dict | None = None

def note(what, event):
    words = (what, event.entity_id, event.delivery_id, os.getpid(), time.time_ns())
    os.write(record, (" ".join(map(str, words)) + "\\n").encode())

@shop.envelope
def read(body: Body) -> Envelope:
    return Envelope(event_type=body.type, entity=("product", body.id), occurred_at=body.timestamp, data=body.data)

@shop.on("product.updated")
def upsert(event: Event[dict], mirror: Mirror) -> None:
    note("begin", event)
    time.sleep(float(event.data.get("seconds", 0.002)))
    while event.entity_id.startswith("SLOW") and not (folder / "go").exists():
        time.sleep(0.01)
    mirror.upsert(Product, event.entity_id, name=event.data["name"])
    note("end", event)
"""

SETTINGS = """
secret_key = "secret-key-of-these-tests-only"
database_url = "{database_url}"
dialects = ["recorded:shop"]
batch_size = {batch_size}
lease_seconds = {lease_seconds}

[sources.shop]
secrets = ["TestSecretOf32CharactersForTests"]
"""


class Note(NamedTuple):
    """One line of the record."""

    what: str
    entity: str
    delivery: str
    process: int
    #: Nanoseconds since 1970.
    at: int


@dataclass
class Record:
    """The record of the worker processes of one folder, in the order of their acts."""

    folder: Path
    database_url: str
    batch_size: int = 7
    lease_seconds: float = 600
    #: Python code that each process runs first.
    before: str = ""

    def notes(self, what: str | None = None) -> list[Note]:
        try:
            lines = (self.folder / "record").read_text().splitlines()
        except FileNotFoundError:
            return []
        found = [Note(*words[:3], int(words[3]), int(words[4])) for words in map(str.split, lines)]
        return [note for note in found if what in (None, note.what)]

    def let_go(self) -> None:
        """Let the handlers of SLOW… return."""
        (self.folder / "go").touch()

    def overlaps(self) -> list[Note]:
        """List the handlers that began while another of the same entity was running."""
        at_work: set[str] = set()
        found = []
        for note in self.notes():
            if note.what == "begin":
                found += [note] if note.entity in at_work else []
                at_work.add(note.entity)
            else:
                at_work.discard(note.entity)
        return found

    @contextmanager
    def working(self) -> Iterator[Forked]:
        """Run `hookmirror worker` in a process of its own; kill it at the end of the block if it still runs."""
        (self.folder / "recorded.py").write_text(DIALECT)
        parts: dict[str, Any] = {"database_url": self.database_url, "batch_size": self.batch_size}
        settings = self.folder / "hookmirror.toml"
        settings.write_text(SETTINGS.format(**parts, lease_seconds=self.lease_seconds))
        environment = {**os.environ, "HOOKMIRROR_CONFIG": str(settings)}
        process = Forked(["worker"], self.folder, environment, before=self.before)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


def kill(process: Forked) -> None:
    process.kill()
    assert process.wait(TIMEOUT) == -signal.SIGKILL


def end(process: Forked) -> None:
    """Terminate the process as a supervisor does; it must exit with 0."""
    process.terminate()
    assert process.wait(TIMEOUT) == 0


def wait_for_begin(record: Record, entity: str, times: int = 1) -> Note:
    """Wait for the handler to begin, and return its note."""

    def found() -> list[Note]:
        begun = [note for note in record.notes("begin") if note.entity == entity]
        return begun if len(begun) >= times else []

    return wait_until(found, f"a handler of {entity}")[times - 1]
