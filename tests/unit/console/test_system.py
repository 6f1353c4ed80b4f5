"""The page of the system: processes, checks, database, retention."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from serving import SECRET_KEY, Served
from sqlalchemy import insert
from visiting import Visitor, text_of, visiting
from waiting import wait_until

from receiver.findings.counting import KindCount, ProcessCounts, TallyKey
from receiver.findings.watching import FindingsWatch
from receiver.worker.processes import PROCESSES

#: Another machine, so that this one cannot tell whether the process has ended.
ELSEWHERE = "<b>far</b>:0000000000000000:{pid}:1:aabbcc{pid}"


def add_process(served: Served, pid: int, *, seen: timedelta = timedelta(), **columns: Any) -> str:
    """Register a process of another machine, and return its name."""
    now, name = datetime.now(UTC), ELSEWHERE.format(pid=pid)
    row = {"name": name, "host": "<b>far</b>", "pid": pid, "kind": "worker", "release": "0.0.9", "revision": "r"}
    row |= {
        "fingerprint": "f",
        "wiring": ["source other speaks <i>other</i>"],
        "started_at": now,
        "seen_at": now - seen,
    }
    with served.beside.write() as connection:
        connection.execute(insert(PROCESSES).values(**{"settings": None, **row, **columns}))
    return name


def tally_hung_worker(served: Served, process: str) -> None:
    """Write a tally of a hung worker, as the process of this name does."""
    seen: dict[TallyKey, KindCount] = {}
    counts, facts = ProcessCounts(lambda: dict(seen)), served.app._watch._facts
    seen[TallyKey("", "hung", "")] = KindCount(1)
    FindingsWatch(served.beside, process, facts, release=lambda: "0.0.9 f", serves=False, counts=counts).tally()


def test_the_installation_is_shown_with_its_processes_checks_database_and_retention(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", with_worker=True) as (served, visitor):
        wait_until(lambda: served.count("processes") == 1, "the registration")
        page = text_of(visitor.page("/system"))
        assert "Nothing must be mended." in page
        assert "endpoint and worker alive" in page
        assert "Kind SQLite" in page
        assert "bodies 30 –" in page
        assert "GET /api/v1/system" in page
        assert "hookmirror doctor" in page


def test_processes_are_shown_as_alive_hung_or_silent_with_their_differences(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", with_worker=True) as (served, visitor):
        wait_until(lambda: served.count("processes") == 1, "the registration")
        read = {"read_at": datetime.now(UTC).isoformat(), "refused": "the <u>file</u> is broken", "needs_restart": []}
        hung = add_process(served, 71)
        add_process(served, 72, seen=timedelta(minutes=5))
        add_process(served, 73, settings=read)
        tally_hung_worker(served, hung)
        found = {each["pid"]: each for each in served.get("/api/v1/system").json()["processes"]}
        assert [found[pid]["state"] for pid in (71, 72, 73)] == ["hung", "silent", "alive"]
        assert "source other speaks <i>other</i>" in found[73]["differs"]
        page = visitor.page("/system")
        assert "2 of 4 processes are not alive and well." in page
        assert "the &lt;u&gt;file&lt;/u&gt; is broken" in page
        assert "MEND" in page
        for markup in ("<b>far", "<i>other", "<u>file"):
            assert markup not in page


def test_the_page_contains_no_secret_and_no_address_of_the_database(shown: Served, operator: Visitor) -> None:
    page = operator.page("/system")
    assert SECRET_KEY not in page
    assert str(shown.beside.engine.url) not in page


def test_a_viewer_sees_the_system_without_buttons(viewer: Visitor) -> None:
    main = viewer.page("/system").partition("<main")[2].partition("</main>")[0]
    assert "Processes" in main
    assert "<button" not in main
