"""The commands of the console: the console as a separate process, sign-in links, and sessions."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from commanding import SECRET_KEY, TIMEOUT, Folder, free_port, is_alive, wait_until
from visiting import SAME_ORIGIN, text_of

from receiver.commands.console import NICENESS


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.migrate()
    return made


def link_of(folder: Folder, *options: str) -> str:
    done = folder.run("console-link", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextmanager
def console_of(folder: Folder) -> Iterator[tuple[Any, httpx.Client]]:
    """A console in a process of its own, and a client of it."""
    port = free_port()
    with (
        folder.running("console", "--port", str(port)) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT) as client,
    ):
        wait_until(lambda: process.poll() is not None or is_alive(client), "the console")
        yield process, client


def sign_in(folder: Folder, client: httpx.Client) -> None:
    url = str(client.base_url)
    link = link_of(folder, "--role", "operator", "--name", "mia", "--url", url)
    assert link.startswith(f"{url}/console/sign-in?link=")
    assert "Sign in as mia" in text_of(client.get(link).text)
    form = {"link": link.partition("link=")[2]}
    assert client.post("/console/sign-in", data=form, headers=SAME_ORIGIN).status_code == 303


def test_a_link_leads_to_the_console_that_runs_on_this_machine_unless_the_settings_name_one(folder: Folder) -> None:
    assert link_of(folder).startswith("http://127.0.0.1:8000/console/sign-in?link=")
    assert "No console of this database runs on this machine: start" in folder.run("console-link").stderr
    with console_of(folder) as (_, client):
        url = str(client.base_url)
        wait_until(lambda: link_of(folder).startswith(f"{url}/console/sign-in?link="), "the console in the registry")
        folder.environment["HOOKMIRROR_CONSOLE_URL"] = "https://hooks.example.com"
        assert link_of(folder).startswith("https://hooks.example.com/console/sign-in?link=")
        assert folder.run("console-link").stderr == ""


def test_a_console_of_its_own_shows_pages_and_probes_and_nothing_else(folder: Folder) -> None:
    with console_of(folder) as (process, client):
        assert client.get("/readyz").json()["status"] == "ready"
        assert client.get("/metrics").status_code == 200
        lowest = 19
        expected = min(os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, lowest)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == expected
        assert client.get("/api/v1/stats").status_code == 404
        assert client.post("/hooks/iimmpact", content=b"{}").status_code == 404
        sign_in(folder, client)
        assert "Nothing needs you." in text_of(client.get("/console/").text)
        (session,) = folder.ask("sessions")["items"]
        assert (session["name"], session["role"]) == ("mia", "operator")
        assert folder.run("sessions", "--end", session["id"]).returncode == 0
        assert client.get("/console/").status_code == 401
        process.terminate()
        assert process.wait(TIMEOUT) == 0


def test_the_thread_that_copies_the_log_keeps_its_priority_in_a_console_of_its_own(folder: Folder) -> None:
    with console_of(folder) as (process, _):
        priorities = {}
        for path in Path(f"/proc/{process.pid}/task").iterdir():
            # A thread may end meanwhile.
            with suppress(ProcessLookupError):
                priorities[int(path.name)] = os.getpriority(os.PRIO_PROCESS, int(path.name))
        ours, lowest = os.getpriority(os.PRIO_PROCESS, 0), 19
        if ours == lowest:
            pytest.skip("no priority is lower than that of these tests")
        # It is the only thread that is started before the priority is lowered.
        assert [priority for priority in priorities.values() if priority == ours] == [ours], priorities


def test_a_console_of_its_own_is_among_the_processes_until_it_ends(folder: Folder) -> None:
    with console_of(folder) as (process, client):
        sign_in(folder, client)
        wait_until(lambda: folder.count(table="processes") == 1, "the registration")
        here = f"console {socket.gethostname()}:{process.pid} "
        assert here in folder.run("doctor").stdout
        page = text_of(client.get("/console/system").text)
        assert f":{process.pid} console alive" in page
        # It neither receives nor works: both are still missing.
        assert "worker MEND" in page
        assert "endpoint MEND" in page
        process.terminate()
        assert process.wait(TIMEOUT) == 0
        assert folder.count(table="processes") == 0


def test_a_console_of_its_own_takes_new_settings_when_it_is_told_to(folder: Folder) -> None:
    with console_of(folder) as (_, client):
        sign_in(folder, client)
        wait_until(lambda: folder.count("settings IS NOT NULL", table="processes") == 1, "the registration")
        folder.settings += '\n[sources.second]\ndialect = "sigma"\nsecrets = ["another secret of these tests"]\n'
        assert "second" not in text_of(client.get("/console/sources").text)
        done = folder.run("reload")
        assert (done.returncode, "has the present settings" in done.stdout) == (0, True), done.stderr
        assert "second" in text_of(client.get("/console/sources").text)


def test_the_console_reports_a_missing_database(tmp_path: Path) -> None:
    done = Folder(tmp_path).run("console", "--port", "0")
    assert (done.returncode, "There is no database at" in done.stderr) == (1, True)


def test_serve_has_the_console_only_if_an_option_or_setting_says_so(folder: Folder) -> None:
    with folder.serving() as (_, client):
        assert client.get("/console/").status_code == 404
    with folder.serving("--console") as (_, client):
        assert client.get("/console/").status_code == 401
    folder.settings = f"console = true\n{folder.settings}"
    with folder.serving("--no-console") as (_, client):
        assert client.get("/console/").status_code == 404


@pytest.mark.parametrize("name", [" x", "a\nb", "x" * 65])
def test_a_name_that_the_actions_could_not_show_gets_no_link(folder: Folder, name: str) -> None:
    done = folder.run("console-link", "--name", name)
    assert (done.returncode, "A name has 1 to 64 printable characters" in done.stderr) == (1, True)


def test_a_session_that_does_not_exist_cannot_be_ended(folder: Folder) -> None:
    done = folder.run("sessions", "--end", "none")
    assert (done.returncode, "There is no session 'none'" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('console_url = "hooks.example"', "console_url takes an address such as https://hooks.example.com"),
        ('console_hosts = ["https://hooks.example"]', "console_hosts takes names and addresses of hosts"),
        ('console_hosts = ["*.example"]', "console_hosts takes names and addresses of hosts"),
        ('console_hosts = [""]', "console_hosts takes names and addresses of hosts"),
        ('console_trusted_proxies = ["proxy"]', "console_trusted_proxies takes addresses and networks"),
        ('console_trusted_proxies = ["10.0.0.1"]', "console_trusted_proxies needs console_proxy_secret"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(folder: Folder, line: str, wrong: str) -> None:
    folder.settings = f"{line}\n{folder.settings}"
    done = folder.run("console-link")
    assert (done.returncode, wrong in done.stderr) == (1, True), done.stderr
    assert SECRET_KEY not in done.stderr
