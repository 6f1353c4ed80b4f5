"""Processes that run beside each other: each registers itself, sees the others, and warns of differences."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import structlog
from serving import serving, wait_until
from shopping import new_shop
from sqlalchemy import Text, insert, text, type_coerce
from structlog.testing import capture_logs
from systems import ON_BOTH, database_system  # noqa: F401
from waiting import TIMEOUT

from receiver.commands.wiring import tell_other_workers
from receiver.database.database import Database
from receiver.database.schema import Schema
from receiver.dialects.sources import build_source
from receiver.runs.runs import Verbs
from receiver.server import doctor, registry
from receiver.server.app import App
from receiver.server.registry import Registration
from receiver.server.runtime import install
from receiver.server.signals import Requests
from receiver.settings.settings import SourceSettings
from receiver.worker.liveness import new_name
from receiver.worker.processes import PROCESSES, Kind, Wiring, running, unread_files
from receiver.worker.source_texts import source_digest

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def sources(*names, shop=None):
    """Make sources with these names and the dialect `shop`."""
    dialects = {"shop": shop or new_shop()}
    return {
        name: build_source(SourceSettings(name=name, dialect="shop", secrets=["secret"]), dialects) for name in names
    }


def shop_that_archives():
    """Make the dialect with one more handler."""
    shop = new_shop()
    shop.on("product.archived")(archive)
    return shop


def archive(event, mirror):
    """Handle an event type that the others do not know."""


@pytest.fixture
def database(mirror_url):
    opened = Database(mirror_url)
    Schema(opened).upgrade()
    yield opened
    opened.close()


class Clock:
    now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def process(database, clock):
    """Return a function that makes processes, which poll when told to."""

    def make(listening, kind=Kind.WORKER):
        return Registration(database, Schema(database), listening, kind=kind, clock=clock)

    return make


def registered(database):
    with database.read() as connection:
        return {row.name: row for row in connection.execute(text("SELECT * FROM processes"))}


def run(database, statement):
    with database.write() as connection:
        connection.execute(text(statement))


# ── the table `processes` ─────────────────────────────────────────────────────────────────────────────────────


@ON_BOTH
def test_a_process_is_registered_as_long_as_it_runs(database):
    registration = Registration(database, Schema(database), sources("shop"), kind=Kind.BOTH)
    registration.start()
    row = wait_until(lambda: registered(database).get(registration.name))
    assert (row.host, row.pid, row.kind) == (socket.gethostname(), os.getpid(), "endpoint and worker")
    assert (row.release, row.revision) == (registry.release(), Schema(database).release)
    assert "source shop speaks shop" in row.wiring
    registration.stop()
    assert registered(database) == {}


class StoppedBeforeItsClear(threading.Event):
    """A turn that is given by a stop at the last moment before it is cleared."""

    def __init__(self, stopping):
        super().__init__()
        self.stopping = stopping

    def clear(self):
        self.stopping.set()
        self.set()
        super().clear()


def test_a_stop_just_before_a_heartbeat_does_not_wait_for_the_next_one(process, database, monkeypatch):
    monkeypatch.setattr(registry, "HEARTBEAT", 10 * TIMEOUT)
    working = process(sources("shop"))
    working.heartbeat()
    monkeypatch.setattr(working, "_turn", StoppedBeforeItsClear(working._stopping))
    working.start()
    working._thread.join(TIMEOUT)
    assert registered(database) == {}


def test_each_poll_is_a_sign_of_life(process, clock, database):
    working = process(sources("shop"))
    for seconds in (0, 10):
        clock.now = NOON + timedelta(seconds=seconds)
        working.heartbeat()
        with database.read() as connection:
            (found,) = running(connection, clock.now)
        assert (found["started_at"], found["seen_at"]) == (NOON, clock.now)


@ON_BOTH
def test_a_process_that_others_deregistered_registers_again(process, database):
    working = process(sources("shop"))
    working.heartbeat()
    run(database, "DELETE FROM processes")
    working.heartbeat()
    assert list(registered(database)) == [working.name]


@ON_BOTH
def test_a_process_silent_for_a_minute_is_ignored_and_deregistered_by_the_next_start(process, clock, database):
    silent = process(sources("shop", "outlet"))
    silent.heartbeat()
    clock.now = NOON + timedelta(seconds=61)
    with database.read() as connection:
        assert running(connection, clock.now) == []
    starting = process(sources("shop"))
    starting.heartbeat()
    assert list(registered(database)) == [starting.name]
    assert starting.warnings == []


def test_a_process_from_before_the_clock_was_set_back_is_ignored_and_deregistered_by_the_next_start(
    process, clock, database
):
    clock.now = NOON + timedelta(days=1)
    process(sources("shop", "outlet")).heartbeat()
    clock.now = NOON
    with database.read() as connection:
        assert running(connection, clock.now) == []
    starting = process(sources("shop"))
    starting.heartbeat()
    assert list(registered(database)) == [starting.name]


def test_a_process_whose_clock_is_a_little_ahead_counts_as_running(process, clock, database):
    clock.now = NOON + timedelta(minutes=4)
    process(sources("shop")).heartbeat()
    with database.read() as connection:
        assert len(running(connection, NOON)) == 1


@ON_BOTH
def test_a_process_killed_on_this_machine_is_deregistered_at_once(process, database):
    dead = process(sources("shop", "outlet"))
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    dead.name = ":".join([*new_name().split(":")[:-3], str(ended.pid), "1", "00000000"])
    dead.heartbeat()
    starting = process(sources("shop"))
    starting.heartbeat()
    assert list(registered(database)) == [starting.name]
    assert starting.warnings == []


# ── differences ───────────────────────────────────────────────────────────────────────────────────────────────


def test_processes_with_the_same_wiring_have_no_warnings(process):
    for _ in range(3):
        working = process(sources("shop", "outlet"))
        working.heartbeat()
        assert working.warnings == []


@ON_BOTH
def test_a_difference_in_handlers_is_reported_by_both_processes_and_logged_once_if_it_lasts(process):
    first, second = process(sources("shop")), process(sources("shop", shop=shop_that_archives()), Kind.ENDPOINT)
    first.heartbeat()
    with capture_logs() as at_once:
        second.heartbeat()
        first.heartbeat()
    with capture_logs() as logs:
        for _ in range(2):
            second.heartbeat()
            first.heartbeat()
    here = f"{socket.gethostname()}:{os.getpid()} (hookmirror {registry.release()})"
    assert f"worker {here} lacks: shop gives product.archived to test_processes.archive" in second.warnings[0]
    assert f"endpoint {here} has besides: shop gives product.archived to test_processes.arch" in first.warnings[0]
    assert at_once == []
    assert [line["event"] for line in logs] == [*second.warnings, *first.warnings]


def test_the_doctor_names_a_process_that_has_loaded_another_text_of_an_edited_module(process, clock, database):
    clock.now, wiring = datetime.now(UTC), Wiring.of(sources("shop"))
    process(sources("shop"), Kind.BOTH).heartbeat()
    assert [each.verdict for each in doctor._processes(database, wiring)] == ["ok"]
    run(database, f"UPDATE processes SET wiring = replace(wiring, '{source_digest('shopping')}', '0123456789abcdef')")
    (told,) = (each for each in doctor._processes(database, wiring) if each.verdict == "LOOK")
    assert "has loaded another text of shopping than this process: restart it if the file was edited" in told.says


def test_a_difference_names_an_edited_module_without_the_hashes_of_its_texts():
    wiring = Wiring.of(sources("shop"))
    edited = [line.replace(source_digest("shopping"), "0123456789abcdef") for line in wiring.lines]
    assert wiring.difference(edited) == "has loaded another text of shopping"
    added = Wiring((*wiring.lines, f"module helpers has the source text {'0' * 16}"))
    assert added.difference(edited) == "lacks: module helpers; has loaded another text of shopping"


def test_a_difference_names_few_of_many_edited_modules():
    ours, theirs = ([f"module m{number:02} has the source text {digest}" for number in range(40)] for digest in "ab")
    assert Wiring(tuple(ours)).difference(theirs).endswith(" more")


def test_a_process_that_lacks_a_source_is_told_to_reload(process, clock, database):
    clock.now = datetime.now(UTC)
    process(sources("shop"), Kind.BOTH).heartbeat()
    told = " ".join(each.says for each in doctor._processes(database, Wiring.of(sources("shop", "outlet"))))
    assert "`hookmirror reload` gives a running process its sources, and a restart its dialects and handlers" in told


def test_the_doctor_doubts_processes_with_other_sources_than_its_settings(process, clock, database):
    clock.now = datetime.now(UTC)
    process(sources("shop", "outlet"), Kind.BOTH).heartbeat()
    (told,) = doctor._processes(database, Wiring.of(sources("shop")))
    assert told.verdict == "LOOK"
    assert "has besides: source outlet speaks shop" in told.says


def test_the_doctor_doubts_a_process_that_gives_no_sign_of_life(process, clock, database):
    clock.now, wiring = datetime.now(UTC), Wiring.of(sources("shop"))
    process(sources("shop"), Kind.BOTH).heartbeat()
    clock.now -= timedelta(minutes=2)
    process(sources("shop")).heartbeat()
    doubt, fine = doctor._processes(database, wiring)
    assert (doubt.verdict, fine.verdict) == ("LOOK", "ok")
    assert "has given no sign of life since" in doubt.says
    assert doubt.says.startswith("worker ")


def test_the_doctor_doubts_a_process_whose_last_sign_of_life_is_in_the_future(process, clock, database):
    clock.now = datetime.now(UTC) + timedelta(days=1)
    process(sources("shop")).heartbeat()
    (doubt,) = doctor._processes(database, Wiring.of(sources("shop")))
    assert doubt.verdict == "LOOK"
    assert ", in the future: it has ended if the clock was set back since" in doubt.says


def test_the_doctor_does_not_say_that_none_runs_yet_beside_a_process_that_gives_no_sign_of_life(
    process, clock, database
):
    (none,) = doctor._processes(database, Wiring.of(sources("shop")))
    assert none.says == "no endpoint and no worker runs on this database yet"
    clock.now = datetime.now(UTC) - timedelta(minutes=2)
    process(sources("shop")).heartbeat()
    (doubt,) = doctor._processes(database, Wiring.of(sources("shop")))
    assert doubt.verdict == "LOOK"


def test_the_doctor_compares_a_process_that_refused_its_settings_with_nothing(process, clock, database):
    clock.now = datetime.now(UTC)
    stale = process(sources("shop", "outlet"), Kind.BOTH)
    stale.note_settings(registry.Reading(read_at=clock.now, refused="The source outlet has an unknown dialect."))
    stale.heartbeat()
    compared, refused = doctor._processes(database, Wiring.of(sources("shop")))
    assert (compared.verdict, refused.verdict) == ("ok", "MEND")
    assert "restart" not in f"{compared.says} {refused.says}"


@pytest.fixture
def told(database, capsys):
    """Return a function that gives what a command with these sources tells about other workers."""

    def told(listening):
        tell_other_workers(SimpleNamespace(database=database, runs=Verbs(database, Wiring.of(listening))))
        return capsys.readouterr().err

    return told


def test_a_command_names_workers_that_have_loaded_another_text_of_its_modules(process, clock, database, told):
    clock.now, edited = datetime.now(UTC), f"'{source_digest('shopping')}', '0123456789abcdef'"
    process(sources("shop"), Kind.BOTH).heartbeat()
    assert told(sources("shop")) == ""
    run(database, f"UPDATE processes SET wiring = replace(wiring, {edited}), fingerprint = 'another'")
    here = f"endpoint and worker {socket.gethostname()}:{os.getpid()} (hookmirror {registry.release()})"
    assert f"The {here} has loaded another text of shopping than this command: restart it" in told(sources("shop"))


def test_a_command_names_workers_with_other_sources_and_no_endpoints(process, clock, told):
    clock.now = datetime.now(UTC)
    process(sources("shop"), Kind.ENDPOINT).heartbeat()
    assert told(sources("shop", "outlet")) == ""
    process(sources("shop"), Kind.WORKER).heartbeat()
    assert "or other handlers or sources, than this command" in told(sources("shop", "outlet"))


def test_a_source_that_other_processes_lack_is_named(process):
    process(sources("shop")).heartbeat()
    second = process(sources("shop", "outlet"))
    second.heartbeat()
    assert "lacks: source outlet speaks shop. Give all processes the same" in second.warnings[0]


def test_many_equal_differences_are_one_warning(process):
    for _ in range(3):
        process(sources("shop")).heartbeat()
    second = process(sources("shop", "outlet"))
    second.heartbeat()
    assert len(second.warnings) == 1
    assert " and 2 more lacks: " in second.warnings[0]


def test_a_warning_ends_with_its_cause(process, database):
    process(sources("shop")).heartbeat()
    second = process(sources("shop", "outlet"))
    second.heartbeat()
    run(database, f"DELETE FROM processes WHERE name <> '{second.name}'")
    second.heartbeat()
    assert second.warnings == []


def test_the_wiring_does_not_depend_on_the_order_of_declarations():
    there, back = Wiring.of(sources("shop", "outlet")), Wiring.of(sources("outlet", "shop"))
    assert there == back
    assert there.difference(back.lines) == ""


@ON_BOTH
def test_a_process_beside_the_schema_of_a_later_release_warns_once_and_goes_on(process, database):
    working = process(sources("shop"))
    working.heartbeat()
    run(database, "UPDATE alembic_version_receiver SET version_num = '9999'")
    with capture_logs() as logs:
        working.heartbeat()
        working.heartbeat()
    assert working.warnings == [registry.NEWER_SCHEMA]
    assert [line["event"] for line in logs] == [registry.NEWER_SCHEMA]


# ── in a server ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def quickly(monkeypatch):
    """Let processes poll many times a second."""
    monkeypatch.setattr(registry, "HEARTBEAT", 0.05)


def test_readyz_shows_the_warnings_and_stays_200(database_url, quickly):
    with serving(database_url) as served, closing(Database(database_url)) as beside:
        assert served.client.get("/readyz").json() == {"status": "ready", "warnings": []}
        with registered_beside(beside, sources("elsewhere")):
            warned = wait_until(lambda: (answer := served.client.get("/readyz")).json()["warnings"] and answer)
            assert (warned.status_code, warned.json()["status"]) == (200, "ready")
            assert "has besides: source elsewhere speaks shop" in warned.json()["warnings"][0]
        wait_until(lambda: served.client.get("/readyz").json()["warnings"] == [])


@ON_BOTH
def test_a_server_goes_on_with_a_warning_after_a_later_release_migrated_the_database(database_url, quickly):
    with serving(database_url, with_worker=True) as served, closing(Database(database_url)) as beside:
        for number in range(6):
            assert served.ended(served.send("sigma", key=f"before {number}"))["state"] == "processed"
        with beside.write() as connection:
            for table in ("deliveries", "bodies", "dedup_keys", "changes", "products"):
                connection.execute(text(f"ALTER TABLE {table} ADD COLUMN added_later VARCHAR"))
            connection.execute(text("UPDATE alembic_version_receiver SET version_num = '9999'"))
        for number in range(3):
            assert served.ended(served.send("sigma", key=f"after {number}"))["state"] == "processed"
        warned = wait_until(lambda: (answer := served.client.get("/readyz")).json()["warnings"] and answer)
        assert (warned.status_code, warned.json()["warnings"]) == (200, [registry.NEWER_SCHEMA])


@contextmanager
def registered_beside(database, listening):
    registration = Registration(database, Schema(database), listening, kind=Kind.WORKER)
    registration.start()
    yield
    registration.stop()


@contextmanager
def logged_from(level):
    """Log lines of this level and above, whatever level other tests of this process have set."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    try:
        yield
    finally:
        structlog.configure(wrapper_class=before)


def test_a_database_failure_does_not_stop_the_registration(quickly, tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'absent' / 'hookmirror.db'}")
    registration = Registration(database, Schema(database), sources("shop"), kind=Kind.WORKER)
    with logged_from("debug"), capture_logs() as logs:
        registration.start()
        wait_until(lambda: len(logs) > 2)
        assert registration.warnings == []
        (tmp_path / "absent").mkdir()
        Schema(database).upgrade()
        wait_until(lambda: registration.name in registered(database))
        registration.stop()
    assert {line["log_level"] for line in logs} == {"debug"}
    database.close()


# ── releases beside each other ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def of_other_releases(lend_database, tmp_path):
    """Serve beside the rows that processes of an earlier and of a later release have written."""
    with lend_database(tmp_path) as url, serving(url) as served:
        row = {"host": "elsewhere", "pid": 7, "release": "0.0.1", "revision": "0002", "fingerprint": "of theirs"}
        rows = [
            {**row, "name": "elsewhere:cafe:7:1:ab", "kind": "worker", "settings": None},
            {**row, "name": "elsewhere:cafe:8:1:ab", "kind": "sorter", "pid": 8, "release": "9.0.0", "settings": "{}"},
        ]
        now = datetime.now(UTC)
        with served.beside.write() as connection:
            for each in rows:
                written = insert(PROCESSES).values(**each, started_at=now, seen_at=now, wiring=[])
                # The text as another release wrote it.
                connection.execute(written.values(settings=type_coerce(each["settings"], Text)))
        yield served


@ON_BOTH
def test_processes_of_other_releases_are_listed_also_with_a_kind_that_this_one_does_not_know(of_other_releases):
    answer = of_other_releases.get("/api/v1/processes")
    assert answer.status_code == 200, answer.text
    kinds = {(each["pid"], each["release"]): each["kind"] for each in answer.json()["items"]}
    assert (kinds[7, "0.0.1"], kinds[8, "9.0.0"]) == ("worker", "other")


@ON_BOTH
@pytest.mark.parametrize("path", ["system", "findings", "runs", "sources", "stats"])
def test_processes_of_other_releases_hinder_no_answer(of_other_releases, path):
    answer = of_other_releases.get(f"/api/v1/{path}")
    assert answer.status_code == 200, answer.text


def test_an_unknown_kind_of_process_neither_works_nor_serves():
    assert (Kind("sorter"), Kind("sorter").works, Kind("sorter").serves) == (Kind.OTHER, False, False)


STARTING = """
secret_key = "secret-key-of-these-tests-only"
acceptor_process = true
[sources.sigma]
secrets_file = "secrets"
"""


@pytest.fixture
def starting(tmp_path, monkeypatch):
    """A process that has read its settings, and has registered before its acceptor process is ready."""
    (tmp_path / "hookmirror.toml").write_text(f'database_url = "sqlite:///{tmp_path}/s.db"{STARTING}')
    (tmp_path / "secrets").write_text("secret")
    monkeypatch.setenv("HOOKMIRROR_CONFIG", str(tmp_path / "hookmirror.toml"))
    runtime = install()
    runtime.prepare()

    def row():
        with runtime.database.read() as connection:
            [found] = running(connection, datetime.now(UTC))
        return found

    yield SimpleNamespace(runtime=runtime, row=row)
    runtime.database.close()


@pytest.mark.parametrize("name", ["hookmirror.toml", "secrets"])
def test_a_file_that_changes_while_its_process_starts_is_reported_as_unread(tmp_path, starting, name):
    file = tmp_path / name
    file.write_text(f"{file.read_text()}\n")
    app = App(starting.runtime, with_worker=False, requests=Requests())
    app._registration.heartbeat()
    assert unread_files(starting.row()) == [str(file)]


def test_a_process_takes_requests_to_reload_from_its_first_registration_on(tmp_path, starting):
    app = App(starting.runtime, with_worker=False, requests=Requests())
    app._registration.heartbeat()
    reading = registry.Reading.of(starting.row())
    assert reading is not None
    assert reading.stamps.keys() == {str(tmp_path / name) for name in ("hookmirror.toml", "secrets")}


def test_doctor_names_the_settings_with_which_a_process_was_not_started(tmp_path, starting):
    def said():
        app._registration.heartbeat()
        found = doctor.examine_running(starting.runtime.settings, starting.runtime.sources, starting.runtime.database)
        return [each for each in found if "has read new values" in each.says]

    app = App(starting.runtime, with_worker=False, requests=Requests())
    assert said() == []
    file = tmp_path / "hookmirror.toml"
    file.write_text(f"max_connections = 500\n{file.read_text()}")
    app._reloader.reload()
    [check] = said()
    assert check.says.endswith("has read new values of max_connections, and has the old ones: restart it")
    assert check.verdict == "LOOK"


@pytest.fixture
def refuse(starting):
    """Return a function that lets the process read its settings again and refuse them."""
    app = App(starting.runtime, with_worker=False, requests=Requests())

    def refuse():
        app._reloader.reload()
        app._registration.heartbeat()
        assert registry.Reading.of(starting.row()).refused

    return refuse


def test_a_changed_file_that_a_refused_reading_did_not_reach_is_reported_as_unread(tmp_path, starting, refuse):
    (tmp_path / "secrets").write_text("another secret")
    (tmp_path / "hookmirror.toml").write_text("[unfinished")
    refuse()
    assert unread_files(starting.row()) == [str(tmp_path / "secrets")]


def test_a_file_that_a_refused_reading_did_not_find_is_reported_as_unread_once_it_is_there(tmp_path, starting, refuse):
    (tmp_path / "secrets").rename(tmp_path / "kept")
    refuse()
    assert unread_files(starting.row()) == []
    (tmp_path / "kept").rename(tmp_path / "secrets")
    assert unread_files(starting.row()) == [str(tmp_path / "secrets")]
