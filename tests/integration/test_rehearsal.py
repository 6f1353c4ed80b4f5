"""Rehearsal: new code over kept deliveries, in separate processes, with its differences."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from importlib import invalidate_caches
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest
from forked import Forked
from modules import dialect_module
from msgspec.structs import replace
from sqlalchemy import delete, text, update
from sqlalchemy.exc import CompileError, OperationalError
from systems import ON_BOTH, database_system  # noqa: F401
from telling import NOON

from handlers.catalog import Product
from receiver.commands import rehearse as command
from receiver.commands.closing import ending_a_command
from receiver.commands.rehearse import WHY_NOT_RUN
from receiver.database.sqlite import files
from receiver.dialects.sources import find_dialects
from receiver.errors import HookmirrorError, WiringError
from receiver.inbox.tables import BODIES, DELIVERIES
from receiver.mirror.rows import sql_table
from receiver.reconcile import date_back
from receiver.rehearsal import rehearsal, scratch
from receiver.rehearsal.differences import Differences, compare_ends, compare_rows
from receiver.rehearsal.kept import telling_of_scratch
from receiver.rehearsal.outcomes import (
    NOT_REACHED,
    NOT_REHEARSED,
    Job,
    RehearsedDelivery,
    RehearsedRow,
    RehearsedSide,
)
from receiver.rehearsal.rehearsal import NothingKept, rehearse
from receiver.server.runtime import Runtime
from receiver.settings.environment import CONFIG_VARIABLE
from receiver.testing import TEST_SECRET, Webhooks

SETTINGS = f"""
dialects = ["rehearsed_now"]
[sources.rehearsed]
secrets = ["{TEST_SECRET}"]
"""

NOW = "mirror.upsert(Product, event.entity_id, **event.data)"

#: Writes the text of a module; some fixtures replace it.
module_of = dialect_module


@pytest.fixture
def write(tmp_path):
    """Write a module with this handler beside the settings file."""

    def write(name: str, handler: str) -> str:
        (tmp_path / f"{name}.py").write_text(module_of("rehearsed", handler=handler), "utf-8")
        return name

    return write


@pytest.fixture
def new_kit(tmp_path, write, monkeypatch):
    """Make a source `rehearsed` with the code in force, on this database."""
    made = []

    def new_kit(url: str) -> Webhooks:
        (tmp_path / "hookmirror.toml").write_text(dedent(SETTINGS), "utf-8")
        monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "hookmirror.toml"))
        monkeypatch.syspath_prepend(str(tmp_path))
        write("rehearsed_now", NOW)
        _forget_modules()
        made.append(Webhooks(tmp_path, find_dialects(["rehearsed_now"]), database_url=url))
        return made[-1]

    yield new_kit
    for each in made:
        each.close()
    _forget_modules()


@pytest.fixture
def kit(new_kit, mirror_url):
    return new_kit(mirror_url)


@pytest.fixture
def told(kit, monkeypatch):
    """Process three products with the code in force; the sides of a rehearsal run in this process."""
    monkeypatch.setattr(rehearsal, "_run_process", do_job_here)
    return tell_three(kit)


@pytest.fixture
def told_in_a_file(new_kit, tmp_path, monkeypatch):
    """Do the same on SQLite, with each side in a process of its own, which is forked and need not import everything."""

    def fork(command, *, stderr, **_):
        assert (command[:3], stderr) == ([sys.executable, "-P", "-m"], subprocess.STDOUT)
        return Forked(command[2:], tmp_path, os.environ, python=True, one_pipe=True)

    monkeypatch.setattr(rehearsal, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": fork}))
    return tell_three(new_kit(f"sqlite:///{tmp_path / 'mirror.db'}"))


@pytest.fixture
def deleting(new_kit, mirror_url, monkeypatch):
    """Use code in force that deletes each product; the sides of a rehearsal run in this process."""
    monkeypatch.setattr(f"{__name__}.NOW", "mirror.deactivate(Product, event.entity_id)")
    monkeypatch.setattr(rehearsal, "_run_process", do_job_here)
    return new_kit(mirror_url)


def do_job_here(folder: Path, _: object) -> str:
    _forget_modules()
    scratch.do_job(folder)
    return ""


def tell_three(kit: Webhooks) -> Webhooks:
    for number in range(3):
        data = {"name": f"Lamp {number}", "price": f"{number}.50"}
        kit.send("rehearsed", "product.updated", id=f"A{number}", at=NOON + timedelta(seconds=number), data=data)
    kit.drain()
    return kit


@pytest.fixture
def headed(monkeypatch):
    """Let every dialect read its event type from a header that it trusts."""
    _edit_modules(
        monkeypatch,
        ('header="X-Webhook-Signature")', 'header="X-Webhook-Signature"), trusts_header="X-Topic"'),
        ("def read(body: Body)", "def read(body: Body, trusted: Any)"),
        ("event_type=body.type", "event_type=trusted or body.missing"),
    )


@pytest.fixture
def bundled(monkeypatch):
    """Let every body hold the same event three times."""
    _edit_modules(
        monkeypatch,
        ("-> Envelope:\n    return E", "-> list[Envelope]:\n    return 3 * [E"),
        ("=body.data)", "=body.data)]"),
    )


def _edit_modules(monkeypatch: pytest.MonkeyPatch, *edits: tuple[str, str]) -> None:
    def edited(name: str, *, handler: str) -> str:
        module = dialect_module(name, handler=handler)
        for old, new in edits:
            assert module.count(old) == 1
            module = module.replace(old, new)
        return module

    monkeypatch.setitem(globals(), "module_of", edited)


def _forget_modules() -> None:
    """Forget the imported modules, because a separate process would import them again."""
    for name in [name for name in sys.modules if name.startswith("rehearsed_")]:
        del sys.modules[name]
    invalidate_caches()


def sqlite_error(text: str, code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


def run(kit: Webhooks, reference: str | None = None, **options: Any) -> Differences:
    return rehearse(kit.database, "rehearsed", last=options.pop("last", 100), reference=reference, **options)


@ON_BOTH
def test_the_code_in_force_has_no_difference_to_the_recorded_changes(told):
    before = (told.deliveries(), told.rows(Product))
    found = run(told)
    assert (found.found, found.deliveries, found.rows, found.ends) == (False, 3, [], [])
    assert found.new_took is not None
    assert found.new_took.handlers == 3
    assert (told.deliveries(), told.rows(Product)) == before, "nothing is written"


@ON_BOTH
def test_the_differences_of_new_code_are_shown_by_column_and_nothing_else(told, write):
    new = write("rehearsed_new", 'mirror.upsert(Product, event.entity_id, **event.data | {"currency": "EUR"})')
    found = run(told, new)
    assert [(row.external_id, row.columns) for row in found.rows] == [
        (f"A{number}", {"currency": (None, "EUR")}) for number in range(3)
    ]
    assert (found.ends, found.new, found.old) == ([], "rehearsed_new", "the code in force")


@ON_BOTH
def test_only_the_last_deliveries_are_rehearsed(told, write):
    new = write("rehearsed_last", "mirror.deactivate(Product, event.entity_id)")
    assert {row.external_id for row in run(told, new, last=1).rows} == {"A2"}


def test_code_edited_in_place_is_compared_with_the_recorded_values(told, write):
    told.send("rehearsed", "product.updated", id="A0", at=NOON + timedelta(hours=1), data={"name": "Tent"})
    told.drain()
    write("rehearsed_now", 'mirror.upsert(Product, event.entity_id, name=event.data["name"].upper())')
    (row,) = [each for each in run(told).rows if each.external_id == "A0"]
    assert row.columns == {"name": ("Tent", "TENT"), "price": ("0.50", None)}


@ON_BOTH
def test_news_of_other_deliveries_is_not_a_difference(told):
    """An older delivery brought the price, and a reconcile brought the name."""
    told.send("rehearsed", "product.updated", id="A0", at=NOON + timedelta(hours=1), data={"name": "Tent"})
    told.drain()
    assert not run(told, last=1).found


def test_a_delivery_that_would_end_differently_is_shown_with_both_reasons(told, write):
    new = write("rehearsed_strict", f'if event.entity_id == "A1": raise ValueError("no")\n    {NOW}')
    (end,) = run(told, new).ends
    assert (end.entity, end.old) == ("product:A1", "processed")
    assert "ValueError: no" in end.new


def test_code_that_ends_the_process_is_reported_with_its_delivery(told_in_a_file, write):
    new = write("rehearsed_deadly", f'os._exit(3) if event.entity_id == "A1" else {NOW}')
    found = run(told_in_a_file, new)
    assert [(each.entity, each.new) for each in found.ends] == [("product:A1", f"dead: {scratch.ENDED_PROCESS}")]
    assert [(row.external_id, row.kind) for row in found.rows] == [("A1", "only old")]


def test_code_that_hangs_is_reported_and_the_other_deliveries_are_run(told_in_a_file, write, monkeypatch):
    monkeypatch.setattr(rehearsal, "REHEARSAL_HANG_SECONDS", 1.0)
    new = write("rehearsed_hanging", f'__import__("time").sleep(60) if event.entity_id == "A1" else {NOW}')
    found = run(told_in_a_file, new)
    assert [each.entity for each in found.ends] == ["product:A1"]
    assert "did not return" in found.ends[0].new
    assert [row.external_id for row in found.rows] == ["A1"]


def test_the_last_words_of_code_that_prints_much_are_told(told_in_a_file, tmp_path):
    text = "for _ in range(3_000): print('x' * 1_000)\nprint('the last words', flush=True)\nimport os; os._exit(3)"
    (tmp_path / "rehearsed_loud.py").write_text(text, "utf-8")
    with pytest.raises(WiringError, match=r"ended the process as it was loaded: the last words$"):
        run(told_in_a_file, "rehearsed_loud")


@pytest.fixture(params=[signal.SIGTERM, signal.SIGHUP])
def number(request):
    """A signal that this process does not ignore, even if it was started without a terminal."""
    before = signal.signal(request.param, signal.SIG_DFL)
    yield request.param
    signal.signal(request.param, before)


def test_a_rehearsal_that_a_signal_ends_leaves_no_bodies_behind(told_in_a_file, tmp_path, monkeypatch, number):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    # The kit's database has tables without migrations.
    monkeypatch.setattr(Runtime, "open_to_read", lambda _: None)
    monkeypatch.setenv("HOOKMIRROR_DATABASE_URL", f"sqlite:///{tmp_path / 'mirror.db'}")
    seen = []

    def run_process(folder: Path, _: object) -> None:
        seen.append((folder.parent / "kept.db").exists())
        signal.raise_signal(number)

    monkeypatch.setattr(rehearsal, "_run_process", run_process)
    opened = files._databases[str(tmp_path / "mirror.db")]
    before = opened.connections
    with pytest.raises(SystemExit) as ended, ending_a_command():
        command.rehearse(source="rehearsed")
    assert (seen, ended.value.code, list(temporary.iterdir())) == ([True], 128 + number, [])
    # The command has closed its connections itself, and has not left them to the garbage collection.
    assert opened.connections == before


def output_of(code, seconds=30.0):
    """What is kept of the output of a Python process."""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, bufsize=0, stdout=subprocess.PIPE) as process:
        try:
            return rehearsal.read_last_output(process, seconds)
        finally:
            process.kill()


def test_only_the_end_of_a_long_output_is_kept():
    kept = output_of("import sys; sys.stdout.write('x' * 3_000_000 + 'the end')")
    assert kept == b"x" * (rehearsal.LAST_OUTPUT - len(b"the end")) + b"the end"


def test_the_output_of_a_process_ends_with_it_though_one_that_it_started_prints_on():
    on = "import time\nwhile True: print('on', flush=True); time.sleep(0.01)"
    start = f"subprocess.Popen([sys.executable, '-c', {on!r}])"
    lines = output_of(f"import os, subprocess, sys; print({start}.pid, flush=True); os._exit(0)")
    os.kill(int(lines.split()[0]), signal.SIGKILL)


def test_a_process_that_has_closed_its_output_is_waited_for():
    with pytest.raises(subprocess.TimeoutExpired):
        output_of("import os, time; os.close(1); time.sleep(60)", seconds=0.5)


def test_a_delivery_that_makes_the_worker_fail_ends_so_and_the_others_are_run(told, monkeypatch):
    guilty = min(int(each["id"]) for each in told.deliveries())
    work_on = scratch._ScratchWorker._work_on

    def fail(worker, attempts):
        if any(each.delivery.id == guilty for each in attempts):
            raise TypeError("a fault of the worker")
        return work_on(worker, attempts)

    monkeypatch.setattr(scratch._ScratchWorker, "_work_on", fail)
    found = run(told)
    assert [(end.delivery, end.new) for end in found.ends] == [
        (guilty, "failing: The worker failed: TypeError: a fault of the worker")
    ]
    assert (found.skipped, found.deliveries) == ({}, 3)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OperationalError("INSERT", None, sqlite_error("disk is full", sqlite3.SQLITE_FULL)), "free some space there"),
        (TypeError("a fault of the worker"), "cannot go on: TypeError: a fault of the worker"),
    ],
    ids=["full disk", "fault"],
)
def test_a_worker_that_cannot_go_on_ends_the_rehearsal_with_its_error(told, monkeypatch, error, says):
    def claim(_):
        raise error

    monkeypatch.setattr(scratch._ScratchWorker, "_claim", claim)
    with pytest.raises(WiringError, match=says):
        run(told)


def test_a_table_that_the_scratch_database_cannot_have_is_not_blamed_on_the_disk():
    error = CompileError("(in table 'hosts', column 'address'): Compiler can't render element of type INET")
    says = r"^The rehearsal cannot go on: CompileError: \(in table 'hosts'"
    with pytest.raises(HookmirrorError, match=says), telling_of_scratch():
        raise error


@pytest.mark.parametrize(
    ("reference", "says"),
    [("nowhere_to_be_found", "there is no module"), ("rehearsed_now:nothing", "it has no `nothing`")],
)
def test_code_that_cannot_be_loaded_is_refused_with_advice(told, reference, says):
    with pytest.raises(WiringError, match=says):
        run(told, reference)


@ON_BOTH
@pytest.mark.usefixtures("headed")
def test_an_envelope_reads_the_kept_headers_as_in_a_worker(told, write):
    recorded = run(told)
    assert (recorded.deliveries, recorded.rows, recorded.ends) == (3, [], [])
    new = write("rehearsed_headed", 'mirror.upsert(Product, event.entity_id, **event.data | {"currency": "EUR"})')
    compared = run(told, new)
    assert ({row.external_id for row in compared.rows}, compared.ends) == ({"A0", "A1", "A2"}, [])


@pytest.mark.usefixtures("bundled")
def test_a_body_may_hold_as_many_events_as_the_settings_allow(told, tmp_path):
    assert not run(told).found
    (tmp_path / "hookmirror.toml").write_text("max_events_per_body = 2\n" + SETTINGS, "utf-8")
    found = run(told)
    assert found.ends
    assert all(end.new.startswith("dead: The body holds more than 2 events") for end in found.ends)


@ON_BOTH
def test_a_delivery_from_a_time_when_the_clock_was_ahead_is_run(told):
    with told.database.write() as connection:
        connection.execute(update(DELIVERIES).values(received_at=NOON.replace(year=2099)))
    assert run(told).deliveries == 3


def test_without_a_body_there_is_nothing_to_rehearse(told):
    with told.database.write() as connection:
        connection.execute(delete(BODIES))
    with pytest.raises(NothingKept, match=r"still has its body.*`hookmirror send rehearsed EVENT_TYPE` sends one"):
        run(told)


def fetching(answer: str) -> str:
    """The code of a dialect whose API answers by this transport."""
    connect = f"return httpx.Client(base_url=source.api_url, transport={answer})"
    fetch = "def fetch(event: Event[Any], api: httpx.Client) -> Any:\n    return api.get('/').json()"
    return (
        f"\n\nimport httpx\n@dialect.connect\ndef connect(source):\n    {connect}\n"
        f'@dialect.hydrate("product.*")\n{fetch}'
    )


def test_thin_events_are_counted_and_not_run(told, tmp_path, write):
    fetch = "def fetch(event: Event[Any], api: httpx.Client) -> Any:\n    ..."
    thin = f'\n\nimport httpx\n@dialect.hydrate("product.*")\n{fetch}'
    (tmp_path / "hookmirror.toml").write_text(SETTINGS + 'api_url = "http://127.0.0.1:9"\n', "utf-8")
    found = run(told, write("rehearsed_thin", NOW + thin))
    assert found.skipped == {"thin": 3}


def test_thin_events_are_fetched_on_request(told, tmp_path, write):
    answer = 'httpx.MockTransport(lambda _: httpx.Response(200, json={"name": "as the API has it"}))'
    (tmp_path / "hookmirror.toml").write_text(SETTINGS + 'api_url = "http://127.0.0.1:9"\n', "utf-8")
    new = write("rehearsed_fetching", "mirror.upsert(Product, event.entity_id, **event.hydrated)" + fetching(answer))
    found = run(told, new, hydrate=True)
    assert (found.skipped, {row.columns["name"][1] for row in found.rows}) == ({}, {"as the API has it"})


def test_the_api_is_asked_with_the_dialect_s_own_settings(told, tmp_path, write):
    answer = 'httpx.MockTransport(lambda _: httpx.Response(200, json={"name": source.own.language}))'
    thin = fetching(answer)
    own = "class Own(BaseModel):\n    language: str\n\ndialect.settings_model = Own"
    text = f'{SETTINGS}api_url = "http://127.0.0.1:9"\nsettings = {{ language = "nl" }}\n'
    (tmp_path / "hookmirror.toml").write_text(text, "utf-8")
    new = write("rehearsed_own", f"mirror.upsert(Product, event.entity_id, **event.hydrated){thin}\n\n{own}")
    found = run(told, new, hydrate=True)
    assert {row.columns["name"][1] for row in found.rows} == {"nl"}


def test_a_handler_that_takes_the_session_is_not_run_and_counted(told, write):
    taking = 'mirror.session.execute(text("SELECT * FROM a_table_of_the_user")); ' + NOW
    found = run(told, write("rehearsed_session", f"from sqlalchemy import text; {taking}"))
    assert (found.skipped, found.deliveries) == ({"session": 3}, 0)
    assert {each.new for each in found.ends} == {f"session: {scratch._SESSION_REASON}"}
    write("rehearsed_now", f"from sqlalchemy import text; {taking}")
    recorded = run(told)
    assert (recorded.skipped, recorded.found) == ({"session": 3}, False)


@pytest.mark.parametrize("side", ["new", "old", "both"])
def test_deliveries_that_a_side_does_not_reach_are_no_differences(told, write, monkeypatch, side):
    """The time of the side ends after its first delivery."""
    second, third = sorted(int(each["id"]) for each in told.deliveries())[1:]
    run_side = rehearsal._run_side

    def run_in_part(folder: Path, job: Job) -> RehearsedSide:
        cut = {"old": (folder.name == "old"), "new": (folder.name == "new"), "both": True}[side]
        result = run_side(folder, replace(job, without=[*job.without, second, third]) if cut else job)
        missed = [each for each in (second, third) if cut and each not in job.without]
        ends = [RehearsedDelivery(each, NOT_REACHED, None, "product.updated", None, None) for each in missed]
        return replace(result, deliveries=[*result.deliveries, *ends])

    monkeypatch.setattr(rehearsal, "_run_side", run_in_part)
    found = run(told, write("rehearsed_slow", NOW))
    assert (found.rows, found.ends, found.skipped) == ([], [], {NOT_REACHED: 2})
    assert found.deliveries == 1


def test_each_reason_for_which_a_delivery_was_not_run_has_words():
    assert set(WHY_NOT_RUN) == set(NOT_REHEARSED)


@ON_BOTH
@pytest.mark.parametrize(
    ("lacking", "statement", "expected"),
    [
        ("a column", "ALTER TABLE products DROP COLUMN currency", {"currency": (None, "EUR")}),
        ("the table", "DROP TABLE products", {"name": (None, "Lamp 0"), "currency": (None, "EUR")}),
    ],
)
def test_new_code_may_have_what_the_database_lacks(told, write, lacking, statement, expected):
    with told.database.write() as connection:
        connection.execute(text(statement))
    write("rehearsed_now", 'mirror.upsert(Product, event.entity_id, **event.data | {"currency": "EUR"})')
    found = run(told)
    columns = next(row.columns for row in found.rows if row.external_id == "A0")
    assert columns.items() >= expected.items(), lacking


def tell_ahead_and_date_back(kit: Webhooks, external_id: str, data: dict[str, Any]) -> None:
    """Process an event that is dated ten days ahead of this machine's clock, and date its news back."""
    kit.send("rehearsed", "product.updated", id=external_id, at=datetime.now(UTC) + timedelta(days=10), data=data)
    kit.drain()
    assert date_back(kit.database, kit.source("rehearsed")).misdated == 1


@ON_BOTH
def test_news_that_came_after_news_from_the_future_was_dated_back_is_not_a_difference(told):
    """The rehearsal dates nothing back, so there the news from the future stays the newest."""
    tell_ahead_and_date_back(told, "A0", {"name": "Ahead"})
    told.send("rehearsed", "product.updated", id="A0", at=datetime.now(UTC), data={"name": "Tent"})
    told.drain()
    found = run(told)
    assert (found.rows, found.deliveries) == ([], 5)


@ON_BOTH
def test_a_delete_from_the_future_that_was_dated_back_is_not_a_difference(deleting):
    """Its time is that of the range tombstone for the children, too."""
    tell_ahead_and_date_back(deleting, "A0", {})
    found = run(deleting)
    assert (found.rows, found.deliveries) == ([], 1)


@ON_BOTH
def test_another_value_of_news_from_the_future_that_was_dated_back_is_a_difference(told, write):
    tell_ahead_and_date_back(told, "A0", {"name": "Ahead"})
    write("rehearsed_now", f'event.data["name"] += "!"\n    {NOW}')
    assert ("A0", {"name": ("Ahead", "Ahead!")}) in [(row.external_id, row.columns) for row in run(told).rows]


@ON_BOTH
def test_a_row_changed_by_hand_differs_from_the_recorded_changes(told):
    with told.database.write() as connection:
        table = sql_table(Product)
        connection.execute(update(table).where(table.c.external_id == "A1").values(name="Tent"))
    assert [(row.external_id, row.columns) for row in run(told).rows] == [("A1", {"name": ("Tent", "Lamp 1")})]


@ON_BOTH
def test_a_number_for_a_boolean_written_by_hand_differs_from_the_recorded_changes(told):
    told.send("rehearsed", "product.updated", id="A9", at=NOON, data={"data": {"on": True}})
    told.drain()
    with told.database.write() as connection:
        table = sql_table(Product)
        connection.execute(update(table).where(table.c.external_id == "A9").values(data={"on": 1}))
    assert [(row.external_id, repr(row.columns)) for row in run(told).rows] == [("A9", repr({"data.on": (1, True)}))]


# ── comparison ────────────────────────────────────────────────────────────────────────────────────────────────


def row(external_id: str, **columns: Any) -> RehearsedRow:
    return RehearsedRow("products", external_id, columns, "")


def delivery(number: int, state: str = "processed", reason: str | None = None) -> RehearsedDelivery:
    return RehearsedDelivery(number, state, reason, "product.updated", None, None)


def test_equal_rows_are_not_shown():
    assert compare_rows([row("A", name="x")], [row("A", name="x")]) == []


def test_a_boolean_for_a_number_is_shown():
    (found,) = compare_rows([row("A", data={"on": 1})], [row("A", data={"on": True})])
    assert repr(found.columns) == repr({"data": ({"on": 1}, {"on": True})})


def test_rows_of_only_one_side_are_shown_as_such():
    found = compare_rows([row("A", name="x")], [row("B", name="y")])
    assert [(each.external_id, each.kind, each.columns) for each in found] == [
        ("A", "only old", {"name": ("x", None)}),
        ("B", "only new", {"name": (None, "y")}),
    ]


def test_a_new_reason_is_a_difference_and_an_old_one_is_not():
    old = [delivery(1), delivery(2, "dead", "no name")]
    new = [delivery(1, "ignored", "not mine"), delivery(2, "dead", "no name")]
    assert [(each.delivery, each.old, each.new) for each in compare_ends(old, new)] == [
        (1, "processed", "ignored: not mine")
    ]
