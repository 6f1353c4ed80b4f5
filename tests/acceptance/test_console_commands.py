"""The commands of the console: the console as a separate process, sign-in links, and sessions."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest
from commanding import SECRET_KEY, TIMEOUT, Folder, free_port, is_alive, wait_until
from visiting import SAME_ORIGIN, text_of


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.migrate()
    return made


def link_of(folder: Folder, *options: str) -> str:
    done = folder.run("console-link", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_separate_console_serves_pages_probes_and_metrics_only(folder: Folder) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        folder.running("console", "--port", str(port)) as process,
        httpx.Client(base_url=url, timeout=TIMEOUT) as client,
    ):
        wait_until(lambda: process.poll() is not None or is_alive(client), "the console")
        assert client.get("/readyz").json()["status"] == "ready"
        assert client.get("/metrics").status_code == 200
        assert client.get("/api/v1/stats").status_code == 404
        assert client.post("/hooks/iimmpact", content=b"{}").status_code == 404
        link = link_of(folder, "--role", "operator", "--name", "mia", "--url", url)
        assert link.startswith(f"{url}/console/sign-in?link=")
        assert "Sign in as mia" in text_of(client.get(link).text)
        form = {"link": link.partition("link=")[2]}
        assert client.post("/console/sign-in", data=form, headers=SAME_ORIGIN).status_code == 303
        assert "Nothing needs you." in text_of(client.get("/console/").text)
        # It reads its settings once. A signal to reload them must not end it.
        process.send_signal(signal.SIGHUP)
        (session,) = folder.ask("sessions")["items"]
        assert (session["name"], session["role"]) == ("mia", "operator")
        assert folder.run("sessions", "--end", session["id"]).returncode == 0
        assert client.get("/console/").status_code == 401
        process.terminate()
        assert process.wait(TIMEOUT) == 0


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


def test_processes_that_share_a_socket_all_have_the_console(folder: Folder) -> None:
    with folder.serving("--console", "--processes", "2") as (_, client):
        assert {client.get("/console/", headers={"Connection": "close"}).status_code for _ in range(10)} == {401}


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
        ('console_trusted_proxies = ["proxy"]', "console_trusted_proxies takes addresses and networks"),
        ('console_trusted_proxies = ["10.0.0.1"]', "console_trusted_proxies needs console_proxy_secret"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(folder: Folder, line: str, wrong: str) -> None:
    folder.settings = f"{line}\n{folder.settings}"
    done = folder.run("console-link")
    assert (done.returncode, wrong in done.stderr) == (1, True), done.stderr
    assert SECRET_KEY not in done.stderr
