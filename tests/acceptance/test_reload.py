"""New settings in a running program: adopted as a whole or refused, and no request is lost."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from commanding import SECRET_KEY, TIMEOUT, Folder, is_alive, lines, product, wait_until
from ports import free_port
from serving import token

from receiver.api.tokens import Scope
from receiver.runs.actions import by_command

OLD, NEW = "the-old-secret-of-the-source", "the-new-secret-of-the-source"

IN_FORCE, REFUSED = "the new settings are in force", "refused the new settings"


def settings(*secrets: str, more: str = "", key: str = SECRET_KEY) -> str:
    return f'secret_key = "{key}"\n{more}\n[sources.iimmpact]\nsecrets = {json.dumps(secrets)}\n'


class Running(Folder):
    """An installation whose log is written to a file that tests can read."""

    @property
    def log(self) -> str:
        return (self.path / "log").read_text()

    def write(self, text: str) -> None:
        self.settings = text
        (self.path / "hookmirror.toml").write_text(text)

    @contextmanager
    def running(self, *arguments: str):
        with super().running(*arguments) as process:
            # Read the pipe continuously, because it would fill up under a stream.
            reader = threading.Thread(target=self._keep, args=(process.stderr,), daemon=True)
            reader.start()
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
                # The pipe is closed after the block, and must not be read then.
                reader.join(TIMEOUT)

    def _keep(self, stream) -> None:
        with (self.path / "log").open("a", buffering=1) as log:
            for line in stream:
                log.write(line)

    def logged(self, text: str, times: int = 1) -> None:
        wait_until(lambda: self.log.count(text) >= times, f"{text!r} in the log, {times} times")


@pytest.fixture
def folder(tmp_path) -> Running:
    (tmp_path / "log").touch()
    return Running(tmp_path, settings(OLD))


def signed(secret: str, content: bytes) -> dict[str, str]:
    return {"X-Webhook-Signature": "sha256=" + hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()}


def post(client: httpx.Client, secret: str, number: int = 1, source: str = "iimmpact") -> int:
    content = product(number, key=f"{secret}", name="Lamp")
    return client.post(f"/hooks/{source}", content=content, headers=signed(secret, content)).status_code


@contextmanager
def stream(url: str, secret: str, senders: int = 3):
    """Post all the time during the block; give the answers, which are complete after the block."""
    ended, answers = threading.Event(), []

    def send(sender: int) -> None:
        with httpx.Client(base_url=url, timeout=TIMEOUT) as client:
            number = 0
            while not ended.is_set():
                number += 1
                content = product(number, key=f"{sender}", name="Lamp")
                answers.append(client.post("/hooks/iimmpact", content=content, headers=signed(secret, content)))
                # The processes that read settings need the cores.
                ended.wait(0.02)

    with ThreadPoolExecutor(senders) as pool:
        sending = [pool.submit(send, number) for number in range(senders)]
        try:
            wait_until(lambda: len(answers) > 10, "the stream")
            yield answers
        finally:
            ended.set()
        for each in sending:
            each.result()


@pytest.fixture(params=["thread", "process"])
def any_acceptor(folder, request) -> Running:
    """An installation that verifies and stores in the event loop and a thread, or in an acceptor process."""
    folder.environment["HOOKMIRROR_ACCEPTOR_PROCESS"] = str(request.param == "process").lower()
    return folder


def test_no_post_of_a_stream_fails_while_a_secret_is_rotated_and_settings_change_repeatedly(any_acceptor):
    folder = any_acceptor
    with folder.serving() as (process, client):
        with stream(str(client.base_url), OLD) as answers:
            for number in range(20):
                folder.write(settings(NEW, OLD, more=f"batch_size = {number + 1}"))
                process.send_signal(signal.SIGHUP)
                time.sleep(0.02)
            folder.logged("batch_size")
            wait_until(lambda: post(client, NEW) == 200, "the new secret")
        assert {answer.status_code for answer in answers} == {200}
        assert (post(client, OLD), post(client, NEW)) == (200, 200)
        folder.write(settings(NEW))
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: post(client, OLD) == 401, "the old secret to be forgotten")
        assert post(client, NEW) == 200
        wait_until(lambda: folder.states().keys() == {"processed"}, "the worker, which has other settings by now")
        process.terminate()
        assert process.wait(TIMEOUT) == 0
    assert "Traceback" not in folder.log
    assert OLD not in folder.log
    acked = {answer.json()["delivery"] for answer in answers}
    assert acked <= {str(row[0]) for row in folder.query("SELECT id FROM deliveries")}


WRONG = {
    "no TOML": ("sources = [", "is not TOML"),
    "a misspelt setting": (settings(NEW, more="batch_sise = 1"), "perhaps `batch_size`"),
    "a source without a secret": (settings(), "it has no secret"),
    "a dialect that is not there": (settings(NEW) + '[sources.x]\nsecrets = ["y"]', "has the unknown dialect"),
    "no source": (f'secret_key = "{SECRET_KEY}"', "The settings have no source left"),
    "no secret key": (settings(NEW, key=""), "HOOKMIRROR_SECRET_KEY is not set"),
    "a short secret key": (settings(NEW, key="short"), "less than 16 characters"),
    "a secrets_file that is not there": (settings(NEW) + 'secrets_file = "absent"', "which cannot be read"),
    "a new dialect and a source of it": (
        'dialects = ["x:y"]\n' + settings(NEW) + '[sources.y]\nsecrets = ["y"]',
        "`dialects` has changed, and only a start loads new code: restart the process.",
    ),
}


def test_bad_settings_are_refused_with_the_reason_and_the_old_ones_stay_in_force(folder):
    with folder.serving("--no-worker") as (process, client):
        for number, (wrong, reason) in enumerate(WRONG.values(), start=1):
            folder.write(wrong)
            process.send_signal(signal.SIGHUP)
            folder.logged(REFUSED, number)
            assert reason in [line for line in lines(folder.log) if REFUSED in line][-1]
            assert (post(client, OLD, number), post(client, NEW)) == (200, 401)
        (folder.path / "hookmirror.toml").unlink()
        process.send_signal(signal.SIGHUP)
        folder.logged(REFUSED, len(WRONG) + 1)
        folder.write(settings(NEW))
        process.send_signal(signal.SIGHUP)
        folder.logged(IN_FORCE)
        assert (post(client, OLD, 100), post(client, NEW)) == (401, 200)
    assert "Traceback" not in folder.log


def test_a_setting_that_needs_a_restart_is_reported_and_the_others_are_adopted(any_acceptor):
    folder = any_acceptor
    folder.environment["HOOKMIRROR_DATABASE_URL"] = None
    folder.settings = f'database_url = "{folder.url}"\n{folder.settings}'
    with folder.serving("--no-worker") as (process, client):
        folder.write('database_url = "sqlite:///another.db"\n' + settings(NEW))
        process.send_signal(signal.SIGHUP)
        folder.logged("some new settings need a restart")
        assert "settings=database_url" in folder.log
        assert post(client, NEW) == 200
        assert folder.count() == 1
        assert not (folder.path / "another.db").exists()


def test_sources_come_and_go_and_a_token_of_an_old_key_is_valid_as_long_as_the_key(folder):
    newer = "another-secret-key-of-these-tests"
    header = {"Authorization": f"Bearer {token(Scope.READ)}"}

    def allowed(client: httpx.Client) -> int:
        return client.get("/api/v1/stats", headers=header).status_code

    with folder.serving() as (process, client):
        assert (allowed(client), post(client, "y", source="second")) == (200, 404)
        second = '[sources.second]\ndialect = "iimmpact"\nsecrets = ["y"]\n'
        folder.write(settings(OLD, key=f"{newer} {SECRET_KEY}") + second)
        process.send_signal(signal.SIGHUP)
        folder.logged(IN_FORCE)
        assert (allowed(client), post(client, "y", source="second"), post(client, OLD)) == (200, 200, 200)
        wait_until(lambda: folder.count("source = 'second' AND state = 'processed'") == 1, "the worker of the second")
        folder.write(settings(OLD, key=newer).replace("iimmpact", "second") + 'dialect = "iimmpact"')
        process.send_signal(signal.SIGHUP)
        folder.logged(IN_FORCE, 2)
        assert (allowed(client), post(client, OLD), post(client, OLD, source="second")) == (401, 404, 200)


def test_settings_are_refused_as_a_whole_if_no_acceptor_process_starts_with_them(folder):
    folder.environment["HOOKMIRROR_ACCEPTOR_PROCESS"] = "true"
    (folder.path / "lamps.py").write_text(LAMPS)
    folder.settings = f'dialects = ["lamps:lamps"]\n{settings(OLD)}'
    with folder.serving("--no-worker") as (process, client):
        # Only a new process reads the module again.
        (folder.path / "lamps.py").write_text("1 / 0")
        folder.write(f'dialects = ["lamps:lamps"]\n{settings(NEW)}')
        process.send_signal(signal.SIGHUP)
        folder.logged(REFUSED)
        assert "The acceptor process ended at its start" in [line for line in lines(folder.log) if REFUSED in line][-1]
        assert (post(client, OLD), post(client, NEW)) == (200, 401)


LAMPS = """
from receiver import Dialect, HmacSha256

lamps = Dialect("lamps", verify=HmacSha256(header="X-Signature"))


@lamps.envelope
def envelope(body):
    raise NotImplementedError
"""


def test_the_acceptor_process_ends_with_a_server_that_is_killed(folder):
    folder.environment["HOOKMIRROR_ACCEPTOR_PROCESS"] = "true"
    with folder.serving("--no-worker") as (process, client):
        assert post(client, OLD) == 200
        (acceptor,) = (Path("/proc") / str(process.pid) / "task" / str(process.pid) / "children").read_text().split()
        process.kill()
        process.wait(TIMEOUT)
        wait_until(lambda: not _runs(int(acceptor)), "the end of the acceptor process")


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except OSError:
        return False


def test_a_secrets_file_is_read_again_although_the_settings_are_the_same(folder):
    (folder.path / "secrets").write_text(f"{OLD}\n")
    folder.settings = settings(NEW).replace(f'secrets = ["{NEW}"]', 'secrets_file = "secrets"')
    with folder.serving("--no-worker") as (process, client):
        assert (post(client, OLD), post(client, NEW)) == (200, 401)
        (folder.path / "secrets").write_text(f"{NEW}\n{OLD}\n")
        process.send_signal(signal.SIGHUP)
        folder.logged("changed=sources.iimmpact")
        assert (post(client, OLD), post(client, NEW)) == (200, 200)


def test_a_body_on_its_way_is_verified_with_the_settings_at_its_begin(folder):
    content, begin = product(1, key="slow", name="Lamp"), b"{"
    renewed = threading.Event()

    def pieces():
        yield begin
        assert renewed.wait(TIMEOUT)
        yield content.removeprefix(begin)

    with folder.serving("--no-worker") as (process, client), ThreadPoolExecutor(1) as pool:
        address = f"{client.base_url}/hooks/iimmpact"
        slow = pool.submit(httpx.post, address, content=pieces(), headers=signed(OLD, content), timeout=TIMEOUT)
        incomplete = f"\nhookmirror_incomplete_bytes {len(begin):.1f}\n"
        wait_until(lambda: incomplete in client.get("/metrics").text, "the first piece of the body")
        folder.write(settings(NEW))
        process.send_signal(signal.SIGHUP)
        folder.logged(IN_FORCE)
        assert post(client, NEW, 2) == 200
        renewed.set()
        assert slow.result(TIMEOUT).status_code == 200
        assert post(client, OLD, 3) == 401


def catches_hangups(pid: int) -> bool:
    caught = re.search(r"SigCgt:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(caught and int(caught[1], 16) & 1 << signal.SIGHUP - 1)


def hang_up_until(condition, process, *, pause: float) -> None:
    """Send SIGHUP at a steady pace until the condition is true."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end
        process.send_signal(signal.SIGHUP)
        time.sleep(pause)


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_hangup_signals_during_start_and_stop_do_no_harm(folder, command):
    folder.fresh = command == "serve"
    port = free_port()
    options = ["--port", str(port)] if command == "serve" else []
    with folder.running(command, *options) as process:
        wait_until(lambda: catches_hangups(process.pid), "the first moment")
        ready = "listening" if command == "serve" else "working"
        hang_up_until(lambda: ready in folder.log or process.poll() is not None, process, pause=0.005)
        folder.logged("no setting that can be adopted has changed")
        process.terminate()
        hang_up_until(lambda: process.poll() is not None, process, pause=0.001)
        assert process.returncode == 0
    assert "Traceback" not in folder.log


def test_settings_that_change_while_the_start_reads_them_are_read_again(folder):
    folder.fresh = True
    port = free_port()
    with (
        folder.running("serve", "--no-worker", "--port", str(port)) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT) as client,
    ):
        wait_until(lambda: catches_hangups(process.pid), "the first moment")
        folder.write(settings(NEW))
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: is_alive(client), "the server")
        wait_until(lambda: post(client, NEW) == 200, "the new settings")


def test_several_processes_adopt_settings_together_and_a_starting_process_is_not_ended(folder):
    with folder.serving("--processes", "2") as (process, client):
        for _ in range(5):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
        # A process that is still starting would begin with the new settings and report nothing.
        registered(folder, 3)
        folder.write(settings(NEW, OLD))
        process.send_signal(signal.SIGHUP)
        with stream(str(client.base_url), OLD) as answers:
            folder.logged(IN_FORCE, 3)
        assert {answer.status_code for answer in answers} == {200}
        folder.write("sources = [")
        process.send_signal(signal.SIGHUP)
        folder.logged(REFUSED, 3)
        assert {post(client, secret, 1_000 + number) for number in range(10) for secret in (OLD, NEW)} == {200}
        process.terminate()
        assert process.wait(TIMEOUT) == 0
    assert "a process ended" not in folder.log


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────


def asked(folder: Folder, *options: str) -> tuple[int, list[dict]]:
    done = folder.run("reload", "--json", *options)
    return done.returncode, json.loads(done.stdout) if done.stdout else []


def reloads(folder: Folder) -> list[dict]:
    """Return the recorded reloads, once there is one."""
    wait_until(lambda: folder.count("what = 'reload settings'", "actions") > 0, "the action")
    columns = ("who", "via", "count", "result")
    rows = folder.query(f"SELECT {', '.join(columns)} FROM actions WHERE what = 'reload settings'")
    return [dict(zip(columns, row, strict=True)) | {"says": json.loads(row[-1])["says"]} for row in rows]


def registered(folder: Folder, count: int) -> None:
    wait_until(lambda: folder.count("settings IS NOT NULL", "processes") == count, f"{count} registrations")


def test_reload_asks_every_process_and_waits_until_it_has_the_settings(folder):
    with folder.serving("--no-worker") as (_, client), folder.running("worker"):
        registered(folder, 2)
        folder.write(settings(NEW))
        code, answers = asked(folder)
        assert (post(client, NEW), post(client, OLD)) == (200, 401)
        assert (code, [answer["taken"] for answer in answers]) == (0, [True, True])
        assert {answer["says"] for answer in answers} == {"has the present settings of its environment and its file"}
        assert {answer["process"].split()[0] for answer in answers} == {"endpoint", "worker"}
        (action,) = reloads(folder)
        assert (action["who"], action["via"], action["count"]) == (by_command().who, "command", 2)
        assert action["says"] == "2 processes have the present settings."


def test_a_signal_alone_is_one_action_of_all_processes_of_a_server(folder):
    with folder.serving("--worker-process") as (process, _):
        # An endpoint and a worker.
        registered(folder, 2)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: folder.log.count("read the settings again") == 2, "all processes")
        (action,) = reloads(folder)
        assert (action["who"], action["via"], action["says"]) == ("signal", "command", "In force.")


def test_reload_reports_bad_settings_before_it_signals_a_process(folder):
    with folder.serving("--no-worker"):
        registered(folder, 1)
        folder.write("sources = [")
        done = folder.run("reload")
        assert (done.returncode, done.stdout) == (1, "")
        assert "is not TOML" in done.stderr
        assert REFUSED not in folder.log


def test_reload_fails_and_doctor_reports_it_if_a_process_refuses_the_settings(folder):
    with folder.serving("--no-worker") as (process, client):
        registered(folder, 1)
        folder.write(settings(NEW, key=""))
        code, (answer,) = asked(folder, "--pid", str(process.pid))
        assert (code, answer["taken"]) == (1, False)
        assert answer["says"].startswith("refused them, and keeps the old ones: HOOKMIRROR_SECRET_KEY is not set")
        assert post(client, OLD) == 200
        assert "refused the settings that it read last, and has older ones" in folder.run("doctor").stdout
        folder.write(settings(NEW))
        assert asked(folder)[0] == 0
        assert "refused" not in folder.run("doctor").stdout


def test_doctor_reports_a_process_that_has_not_read_the_file_since_its_last_change(folder):
    with folder.serving("--no-worker"):
        registered(folder, 1)
        assert "since the last change there" not in folder.run("doctor").stdout
        folder.write(settings(NEW, OLD))
        told = folder.run("doctor")
        assert (
            f"has not read {folder.path / 'hookmirror.toml'} since the last change there: run `hookmirror reload`"
            in told.stdout
        )
        assert asked(folder)[0] == 0
        assert "since the last change there" not in folder.run("doctor").stdout


def test_doctor_reports_a_process_whose_file_was_put_back_with_its_older_time(folder):
    file = folder.path / "hookmirror.toml"
    with folder.serving("--no-worker"):
        registered(folder, 1)
        folder.write(settings(NEW, OLD))
        os.utime(file, (0, 0))
        assert f"has not read {file} since the last change there" in folder.run("doctor").stdout
        assert asked(folder)[0] == 0
        assert "since the last change there" not in folder.run("doctor").stdout


def test_reload_does_not_signal_another_process_with_the_same_number_or_on_another_machine(folder):
    with folder.serving("--no-worker") as (process, _):
        registered(folder, 1)
        host, namespace, _, began, random = folder.query("SELECT name FROM processes")[0][0].rsplit(":", 4)
        columns = "host, kind, release, revision, fingerprint, wiring, settings, started_at, seen_at"
        for name, pid in (
            (f"{host}:{namespace}:{os.getpid()}:{int(began) - 1}:{random}", os.getpid()),
            (f"{host}:elsewhere:{os.getpid()}:{began}:{random}", os.getpid()),
            ("uvicorn:of:no:form", 1),
        ):
            copied = f"SELECT '{name}', {pid}, {columns} FROM processes WHERE pid = {process.pid}"
            folder.query(f"INSERT INTO processes (name, pid, {columns}) {copied}")
        code, answers = asked(folder)
        # SIGHUP would have ended the process of this test.
        assert code == 0
        assert [answer["taken"] for answer in answers].count(True) == 1
        assert {answer["says"] for answer in answers if answer["taken"] is None} == {
            "runs on another machine or in another container: run this command there"
        }


def test_reload_does_not_signal_a_process_that_the_signal_would_end(folder):
    with folder.serving("--no-worker"):
        registered(folder, 1)
        folder.query("UPDATE processes SET settings = NULL")
        code, (answer,) = asked(folder)
        assert (code, answer["taken"]) == (1, False)
        assert answer["says"].startswith("cannot reload while it runs")


def test_reload_reports_that_no_process_runs(folder):
    folder.migrate()
    done = folder.run("reload")
    assert (done.returncode, done.stdout) == (1, "")
    assert "No process serves or works on this database: start one" in done.stderr
