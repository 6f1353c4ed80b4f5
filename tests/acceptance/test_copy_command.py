"""`hookmirror copy` as docs/copying.md describes it: to PostgreSQL and back, with a user's own tables."""

from __future__ import annotations

import json
import shutil
import signal
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from commanding import SETTINGS, TIMEOUT, Folder, Forks, lines, post, product, wait_until
from sqlalchemy import text

from receiver.database.database import Database

#: A dialect with a mirror table, and with a table of its own that refers to itself and to the mirror table.
SHELVING = """
from receiver import Dialect, HmacSha256, Envelope, MirrorRow
from decimal import Decimal
from pydantic import AwareDatetime, BaseModel
from sqlalchemy import ForeignKeyConstraint
from sqlmodel import Field, SQLModel
from receiver import price_field

class Shelf(MirrorRow, table=True):
    __tablename__ = "shelves"
    width: Decimal | None = price_field()

class Label(SQLModel, table=True):
    __tablename__ = "labels"
    __table_args__ = (ForeignKeyConstraint(["source", "shelf"], ["shelves.source", "shelves.external_id"]),)
    id: int | None = Field(default=None, primary_key=True)
    source: str
    shelf: str
    words: str

class Body(BaseModel):
    type: str
    id: str
    timestamp: AwareDatetime

shelving = Dialect("shelving", verify=HmacSha256(header="X-Signature"))

@shelving.envelope
def read(body: Body) -> Envelope:
    return Envelope(event_type=body.type, entity=("shelf", body.id), occurred_at=body.timestamp, data=None)
"""

SHELF = """
INSERT INTO shelves (source, external_id, active, changed_at, tie, versions, width)
VALUES ('shelving', 'S1', true, '2026-03-04T12:00:00.000000Z', false,
    '{"own": true, "at": [[1, 1, 1, "active"]]}', '80.50')
"""


@pytest.fixture(scope="module")
def forks():
    with Forks(2) as running:
        yield running


@pytest.fixture(scope="module")
def lived(forks, tmp_path_factory):
    """Make an installation on SQLite with some deliveries."""
    folder = tmp_path_factory.mktemp("lived")
    (folder / "shelving.py").write_text(SHELVING)
    settings = f'dialects = ["shelving:shelving"]\n{SETTINGS}\n[sources.shelving]\nsecrets = ["x"]\n'
    here = Folder(folder, settings)
    with forks.serving(here) as (_, client):
        for number in range(5):
            assert post(client, product(number, key="k", name=f"Lamp {number}")).status_code == 200
        wait_until(lambda: here.count("state = 'processed'") == 5, "the worker")
    here.query("DELETE FROM processes")
    here.query(SHELF)
    here.query("INSERT INTO labels (source, shelf, words) VALUES ('shelving', 'S1', 'fragile')")
    return here


@pytest.fixture
def moving(lived, tmp_path, postgresql_url):
    """Copy the installation into a folder of its own, and give a second one with an empty PostgreSQL database."""
    shutil.copytree(lived.path, tmp_path, dirs_exist_ok=True)
    here = replace(lived, path=tmp_path)
    return here, replace(here, database_url=postgresql_url)


def told(done):
    """Check that a copy succeeded, and return its JSON output."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_everything_is_copied_to_postgresql_served_there_and_copied_back(moving, forks, tmp_path):
    here, there = moving
    answer = told(forks.run(here, "copy", here.url, there.url, "--json"))
    copied = {table["table"]: (table["rows"], table["rows_copied_to"], table["same"]) for table in answer["tables"]}
    assert copied["deliveries"] == (5, 5, True)
    assert (copied["shelves"], copied["labels"]) == ((1, 1, True), (1, 1, True))
    assert "processes" not in copied
    assert (answer["same"], answer["resumed"], answer["differences"], answer["left_out"]) == (True, False, [], [])
    assert there.query("SELECT CAST(width AS text), words FROM shelves JOIN labels ON shelf = external_id") == [
        ("80.50", "fragile")
    ]
    done = forks.run(here, "copy", here.url, there.url, "--verify-only")
    assert (done.returncode, lines(done.stdout)[-1][:10]) == (0, "Compared: ")

    seq = here.query("SELECT max(seq) FROM changes")[0][0]
    with forks.serving(there) as (_, client):
        again = post(client, product(1, key="k", name="Lamp 1"))
        assert again.json()["status"] == "duplicate"
        post(client, product(1, key="late", name="Old lamp", at="2026-03-04T11:00:00Z"))
        post(client, product(2, key="new", name="New lamp", at="2026-03-04T13:00:00Z"))
        wait_until(lambda: there.count("state = 'processed'") == 7, "the worker")
    assert there.query("SELECT name FROM products WHERE external_id IN ('P1', 'P2') ORDER BY external_id") == [
        ("Lamp 1",),
        ("New lamp",),
    ]
    assert there.query(f"SELECT external_id FROM changes WHERE seq > {seq}") == [("P2",)]
    there.query("INSERT INTO labels (source, shelf, words) VALUES ('shelving', 'S1', 'numbered by itself')")
    assert there.query("SELECT max(id) FROM labels") == [(2,)]

    back = replace(here, database_url=f"sqlite:///{tmp_path}/back.db")
    done = forks.run(here, "copy", there.url, back.url)
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout)[-1].startswith("Copied ")
    assert back.query("SELECT width, words FROM shelves JOIN labels ON shelf = external_id ORDER BY id") == [
        ("80.50", "fragile"),
        ("80.50", "numbered by itself"),
    ]


def test_a_database_in_use_by_a_server_is_not_copied(moving, forks):
    here, there = moving
    with forks.serving(here):
        wait_until(lambda: here.count(table="processes"), "the server's sign of life")
        done = forks.run(here, "copy", here.url, there.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(lines(done.stderr)) == 1
    assert done.stderr.startswith("hookmirror: FROM is in use by endpoint and worker ")
    assert there.query("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'") == [(0,)]


def test_differences_are_named_and_end_with_exit_code_1(moving, forks):
    here, there = moving
    assert forks.run(here, "copy", here.url, there.url).returncode == 0
    there.query("UPDATE products SET name = 'Another' WHERE external_id = 'P3'")
    done = forks.run(here, "copy", here.url, there.url, "--verify-only")
    assert done.returncode == 1
    assert "products source=iimmpact, external_id=P3: different" in lines(done.stdout)


def test_ctrl_c_says_how_to_continue_and_an_unfinished_copy_is_not_served(moving, forks):
    here, there = moving
    assert forks.run(there, "migrate").returncode == 0
    with _held(there, "labels"), here.running("copy", here.url, there.url) as copying:
        waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'labels'::regclass AND NOT granted"
        wait_until(lambda: there.query(waiting) == [(1,)], "the copy to come to the table that is held")
        copying.send_signal(signal.SIGINT)
        _, said = copying.communicate(timeout=TIMEOUT)
    assert (copying.returncode, said) == (
        130,
        "hookmirror: Stopped. Run the same command again: it continues after the copied rows.\n",
    )
    refused = forks.run(there, "serve", "--port", "0")
    assert refused.returncode == 1
    assert "The database holds an unfinished copy of sqlite:///" in refused.stderr
    assert "MEND schema: The database holds an unfinished copy" in forks.run(there, "doctor").stdout
    compared = forks.run(here, "copy", here.url, there.url, "--verify-only")
    assert compared.returncode == 1
    assert "holds an unfinished copy of sqlite:///" in lines(compared.stdout)[-1]
    assert "so the two differ: run this without --verify-only to finish it" in lines(compared.stdout)[-1]
    answer = told(forks.run(here, "copy", here.url, there.url, "--json"))
    assert (answer["same"], answer["resumed"], answer["unfinished"]) == (True, True, None)


@contextmanager
def _held(folder, table):
    """Keep other connections from writing to this table until the end of the block."""
    with closing(Database(folder.url)) as database, database.write() as connection:
        connection.execute(text(f"LOCK TABLE {table} IN EXCLUSIVE MODE"))
        yield
