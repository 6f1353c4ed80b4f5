"""Journeys of the person on call, with a source's API: a wrong value, silence, and a storm of imports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from commanding import SECRET_KEY, SETTINGS, Folder, post, product, wait_until
from ports import free_port
from sqlalchemy import insert
from waiting import wait_for_a_later_date

from receiver.database.database import Database
from receiver.findings.counting import RUNNING, WATCHED
from receiver.findings.tables import TALLIES

MINUTE = timedelta(minutes=1)


class OnCall:
    """A person with nothing but commands, which are counted."""

    def __init__(self, folder: Folder) -> None:
        self.folder, self.used = folder, 0

    def run(self, *arguments: str, code: int = 0) -> str:
        self.used += 1
        done = self.folder.run(*arguments)
        assert done.returncode == code, done.stdout + done.stderr
        return str(done.stdout)

    def ask(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code))

    def count(self, *filters: str) -> int:
        """Count the matching deliveries with `hookmirror deliveries`."""
        self.used += 1
        done = self.folder.run("deliveries", *filters, "--count", "--limit", "1", "--json")
        assert done.returncode == 0, done.stderr
        return int(json.loads(done.stderr)["matching"]["number"])


@pytest.fixture
def on_call(tmp_path) -> OnCall:
    return OnCall(Folder(tmp_path))


@contextmanager
def with_sigma(tmp_path, *, more: str = "") -> Iterator[tuple[OnCall, httpx.Client]]:
    """Run a receiver, and the API of a Sigma whose catalog it has reconciled, in two processes."""
    port = str(free_port())
    simulated = ("simulate", "--serve", "--source", "sigma", "--port", port, "--rate", "0.001")
    plain = Folder(tmp_path, f'secret_key = "{SECRET_KEY}"\n')
    sources = plain.run(*simulated, "--print-settings").stdout
    folder = Folder(tmp_path, f'secret_key = "{SECRET_KEY}"\n{sources}{more}')
    with folder.running(*simulated), folder.serving() as (_, client):
        wait_until(lambda: folder.run("reconcile", "sigma").returncode == 0, "the API of Sigma")
        assert folder.count(table="products")
        wait_for_a_later_date(f"http://127.0.0.1:{port}")
        yield OnCall(folder), client


def tell_tallies(folder: Folder, *, silent: timedelta, sources: tuple[str, ...]) -> None:
    """Write the tallies of two days: a webhook of each source every five minutes, and then silence."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    minutes = [now - number * MINUTE for number in range(2 * 24 * 60)]
    heard = [(source, "accepted", at) for source in sources for at in minutes[::5] if now - at >= silent]
    there = [("", kind, at) for kind in (RUNNING, WATCHED) for at in minutes if now - at < silent + 5 * MINUTE]
    rows = [
        {"at": at, "span": 60, "source": source, "kind": kind, "detail": "", "process": "p", "number": 1, "amount": 0.0}
        for source, kind, at in [*heard, *there]
    ]
    with closing(Database(folder.url)) as beside, beside.write() as connection:
        connection.execute(insert(TALLIES), rows)


# ── a wrong value ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_value_that_differs_from_its_source_is_repaired_by_the_fourth_command(tmp_path):
    with with_sigma(tmp_path) as (on_call, _):
        ((row, name),) = on_call.folder.query("SELECT external_id, name FROM products ORDER BY external_id LIMIT 1")
        # Change the row as if a webhook had been lost.
        on_call.folder.query(f"UPDATE products SET name = 'An old name' WHERE external_id = '{row}'")

        (hit,) = on_call.ask("search", row)["rows"]
        key = (hit["table"], hit["row"]["source"], hit["row"]["external_id"])
        assert "An old name" in on_call.run("row", *key)
        asked = on_call.ask("ask", *key, code=1)
        (differs,) = [each for each in asked["columns"] if not each["equal"]]
        assert (differs["name"], differs["here"], differs["there"]) == ("name", "An old name", name)
        repaired = on_call.ask("ask", *key, "--repair", "--reason", "the ERP showed an old name")
        assert [each["after"]["name"] for each in repaired["repaired"]] == [name]
        assert on_call.used == 4

        (change, *_) = [json.loads(line) for line in on_call.run("changes", "--json").splitlines()]
        assert (change["operation"], change["external_id"]) == ("update", row)
        action = on_call.ask("actions")[0]
        assert action["reason"] == "the ERP showed an old name"


# ── silence ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_silent_source_is_found_checked_and_reconciled_and_its_finding_closes(tmp_path):
    other = '[sources.iimmpact]\nsecrets = ["a secret of these tests"]\n'
    with with_sigma(tmp_path, more=other) as (on_call, client):
        tell_tallies(on_call.folder, silent=timedelta(hours=2), sources=("sigma",))
        on_call.folder.query("DELETE FROM products WHERE external_id IN (SELECT external_id FROM products LIMIT 1)")
        missing = on_call.folder.count(table="products")

        (found,) = on_call.ask("findings", code=1)["items"]
        assert (found["rule"], found["source"]) == ("source_silent", "sigma")
        assert found["evidence"]["usual_minutes"] == 5
        assert "`hookmirror reconcile sigma`" in found["mend"]
        assert "Nothing has come from sigma since" in on_call.run("doctor")
        assert on_call.run("send", "sigma", "moon.eclipsed", "--to", str(client.base_url)).startswith("200")
        assert "1 repaired" in on_call.run("reconcile", "sigma")
        assert on_call.folder.count(table="products") == missing + 1
        assert on_call.used == 4

        # The server writes its tallies once a minute. The test does not wait for that.
        tell_tallies_now(on_call.folder, "sigma")
        assert "source_silent" not in on_call.folder.run("findings").stdout


def test_silence_of_all_sources_is_one_finding(on_call: OnCall):
    on_call.folder.migrate()
    tell_tallies(on_call.folder, silent=timedelta(hours=1), sources=("sigma", "iimmpact"))
    (found,) = on_call.ask("findings", code=1)["items"]
    assert (found["rule"], found["source"]) == ("all_sources_silent", "")
    assert "`hookmirror send --to`" in found["mend"]
    with on_call.folder.serving("--no-worker") as (_, client):
        assert on_call.run("send", "sigma", "moon.eclipsed", "--to", str(client.base_url)).startswith("200")


def tell_tallies_now(folder: Folder, source: str) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    row = {"span": 60, "detail": "", "process": "q", "number": 1, "amount": 0.0}
    with closing(Database(folder.url)) as beside, beside.write() as connection:
        connection.execute(insert(TALLIES).values(at=now, source=source, kind="accepted", **row))


# ── a storm of imports ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_storm_of_imports_is_seen_in_what_waits_who_sent_it_and_what_changed_nothing(tmp_path):
    on_call = OnCall(Folder(tmp_path, SETTINGS))
    with on_call.folder.serving("--no-worker") as (_, client):
        for number in range(60):
            # Each product is sent three times, each time as a webhook of its own.
            content = json.loads(product(number % 20, key="k", name="Lamp", at=f"2026-03-04T12:{number:02}:00Z"))
            assert post(client, json.dumps(content).encode()).status_code == 200
        assert on_call.folder.run("send", "sticky", "product.updated", "--to", str(client.base_url)).returncode == 0
        # Make the deliveries look as if they had waited long while the processes ran, though all came just now.
        came = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        on_call.folder.query(f"UPDATE deliveries SET due_at = '2026-03-04T12:00:00.000000Z', received_at = '{came}'")
        tell_tallies(on_call.folder, silent=timedelta(minutes=5), sources=())

        overview = on_call.ask("top", "--once")
        storm = next(each for each in overview["sources"] if each["source"] == "iimmpact")
        assert (storm["per_minute"], storm["pending"], storm["dead"]) == ("60", 60, 0)
        assert storm["oldest_pending_seconds"] is not None
        (found,) = [each for each in on_call.ask("findings", code=1)["items"] if each["rule"] == "nobody_works"]
        # The text contains the seconds of waiting, which grow between the two commands.
        same = ("id", "rule", "source", "since", "says", "mend")
        assert [found[name] for name in same] in [[each[name] for name in same] for each in overview["findings"]]
        assert "no worker runs" in found["says"]
        assert "`hookmirror worker`" in found["mend"]
        # Count the deliveries that the storm delays, and those of the storm.
        assert on_call.count("--source", "sticky", "--state", "pending") == 1
        assert on_call.count("--source", "iimmpact", "--event-type", "product.updated") == 60
        with on_call.folder.running("worker"):
            wait_until(lambda: on_call.folder.count("ended_at IS NULL") == 0, "the worker")
        assert on_call.count("--source", "iimmpact", "--outcome", "unchanged") == 40
        assert on_call.used == 5
