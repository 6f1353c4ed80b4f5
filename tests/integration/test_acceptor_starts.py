"""An acceptor process starts wherever its server does: with the same dialects, whatever stands beside the settings."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from shutil import rmtree
from types import SimpleNamespace
from typing import Any

import pytest
from senders import SECRETS, body, sent
from serving import SECRET_KEY, TIMEOUT, wait_until

import receiver
from receiver.errors import ConfigurationError
from receiver.ingest.frames import SentAnswer, SentRequest, SentRequests, Stored, Unframing, answers_of, framed
from receiver.metrics import metrics
from receiver.server import acceptor_starts
from receiver.server.acceptor_process import LARGEST_FRAME, AcceptorProcess
from receiver.server.acceptor_starts import AcceptorStarts, Started
from receiver.server.app import App
from receiver.server.runtime import Runtime
from receiver.settings.settings import Settings

#: A dialect with settings of its own, whose model is made in a function.
DIALECT = """
from pydantic import BaseModel
from receiver import Dialect, Unsigned

def model():
    class Own(BaseModel):
        channel: str
    return Own

{name} = Dialect("{name}", verify=Unsigned(), settings=model())
{name}.envelope(lambda body: None)
"""


@pytest.fixture
def path(monkeypatch) -> None:
    """Forget the folders that a test puts on the path."""
    monkeypatch.setattr(sys, "path", sys.path[:])


def runtime_of(folder: Path, name: str, **settings: Any) -> Runtime:
    """The wiring of a server with the dialect `name`, which stands in this folder beside the settings."""
    (folder / f"{name}.py").write_text(DIALECT.format(name=name))
    source = {"dialect": name, "allow_unsigned": True, "settings": {"channel": "web"}}
    url = f"sqlite:///{folder.parent / 'hookmirror.db'}"
    settings = {"database_url": url, "dialects": [f"{name}:{name}"], "sources": {name: source}} | settings
    return Runtime(Settings(**settings), beside=folder)


@contextmanager
def begun(starts: AcceptorStarts, settings: Settings) -> Iterator[Started]:
    started = starts.begin(settings)
    try:
        yield started
    finally:
        starts.discard(started)


@pytest.mark.usefixtures("path")
def test_a_process_starts_although_files_beside_the_settings_have_the_names_of_other_modules(tmp_path):
    runtime = runtime_of(tmp_path, "mine_beside_others")
    for name in ("secrets.py", "receiver.py", "pathlib.py", "handlers.py"):
        (tmp_path / name).write_text("raise RuntimeError('this hides another module')")
    with begun(AcceptorStarts(beside=lambda: tmp_path), runtime.settings) as started:
        assert started.process.poll() is None


@pytest.mark.usefixtures("path")
def test_a_process_starts_with_a_model_of_settings_that_was_made_in_a_function(tmp_path):
    runtime = runtime_of(tmp_path, "mine_in_a_function")
    assert runtime.settings.sources["mine_in_a_function"].own.channel == "web"
    with begun(AcceptorStarts(beside=lambda: tmp_path), runtime.settings) as started:
        assert started.process.poll() is None
    assert runtime.settings.sources["mine_in_a_function"].own.channel == "web"


@pytest.mark.usefixtures("path")
def test_a_process_starts_from_the_folder_to_which_a_link_on_the_path_of_the_settings_leads_now(tmp_path, monkeypatch):
    current = tmp_path / "current"
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "mine_linked.py").write_text(DIALECT.format(name="mine_linked"))
        (tmp_path / release / "hookmirror.toml").touch()
    current.symlink_to(tmp_path / "one")
    monkeypatch.setenv("HOOKMIRROR_CONFIG", str(current / "hookmirror.toml"))
    runtime = runtime_of(tmp_path / "one", "mine_linked", acceptor_process=True, secret_key=SECRET_KEY)
    app = App(runtime, with_worker=False)
    assert isinstance(app._accepting, AcceptorProcess)
    assert app.endpoint.hand_in_at == LARGEST_FRAME
    current.unlink()
    current.symlink_to(tmp_path / "two")
    rmtree(tmp_path / "one")
    with begun(app._accepting._starts, runtime.settings) as started:
        assert started.process.poll() is None
    runtime.database.close()


def test_a_process_has_the_secrets_of_its_server_although_their_files_have_changed_since(tmp_path):
    files = {source: tmp_path / source for source in ("iimmpact", "indexed")}
    for source, file in files.items():
        file.write_text(SECRETS[source])
    url = f"sqlite:///{tmp_path / 'hookmirror.db'}"
    sources = {source: {"secrets_file": str(file)} for source, file in files.items()}
    runtime = Runtime(Settings(database_url=url, sources=sources))
    files["iimmpact"].write_text("a secret that waits for a reload")
    files["indexed"].unlink()
    with begun(AcceptorStarts(beside=lambda: None), runtime.settings) as started:
        for source in files:
            assert isinstance(answer_to_a_webhook(started, source), Stored)
    runtime.database.close()


def answer_to_a_webhook(started: Started, source: str) -> SentAnswer:
    content, headers = sent(source, body(source))
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    request = SentRequest(source, pairs, content, f"/hooks/{source}".encode())
    started.socket.sendall(framed(SentRequests(time.time(), [request])))
    unframing = Unframing()
    while not (arrived := unframing.feed(started.socket.recv(1 << 16))):
        pass
    return answers_of(arrived[0]).answers[0]


#: Starts an acceptor process as a server does, with a dialect in the folder of the first argument.
SERVER = """
import sys
from pathlib import Path
from receiver.server.acceptor_starts import AcceptorStarts
from receiver.settings.settings import Settings
AcceptorStarts(beside=lambda: Path(sys.argv[1])).begin(Settings(dialects=["endless"]))
"""

#: Never returns, and lets no other thread run.
ENDLESS = """
import os, re
from pathlib import Path
Path(__file__).with_name("new").write_text(str(os.getpid()))
Path(__file__).with_name("new").rename(Path(__file__).with_name("pid"))
re.match("(a+)+$", "a" * 60 + "b")
"""


def test_a_process_in_code_that_never_returns_ends_with_a_server_that_is_killed(tmp_path):
    (tmp_path / "endless.py").write_text(ENDLESS)
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path)], cwd=Path(receiver.__file__).parent.parent)
    try:
        wait_until((tmp_path / "pid").exists, "the process in endless code")
        process = os.pidfd_open(int((tmp_path / "pid").read_text()))
    finally:
        server.kill()
        server.wait()
    try:
        assert select.select([process], [], [], TIMEOUT)[0] == [process]
    finally:
        os.close(process)


def test_pauses_grow_while_a_process_cannot_be_started_and_each_failure_is_counted(monkeypatch, tmp_path):
    accepting = AcceptorProcess(Settings(database_url=f"sqlite:///{tmp_path / 'hookmirror.db'}"))
    accepting._began = time.monotonic() - 60
    pauses: list[float] = []
    counted = metrics.ACCEPTOR_ENDED._value.get()

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        return len(pauses) == 8

    def fail(_: Settings) -> Started:
        raise ConfigurationError("It does not start.")

    monkeypatch.setattr(accepting, "_stopping", SimpleNamespace(is_set=lambda: False, wait=wait))
    monkeypatch.setattr(accepting._starts, "begin", fail)
    ended = SimpleNamespace(wait=lambda _: 9)
    accepting._replace(Started(ended, None, BytesIO()))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert metrics.ACCEPTOR_ENDED._value.get() == counted + len(pauses) - 1


def test_a_process_that_is_not_sent_its_settings_ends(tmp_path, monkeypatch):
    processes: list[subprocess.Popen[bytes]] = []

    def start(*args, **named):
        processes.append(subprocess.Popen(*args, **named))
        return processes[-1]

    def fail(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(acceptor_starts, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": start}))
    monkeypatch.setattr(acceptor_starts.acceptor, "settings_sent", fail)
    starts = AcceptorStarts(beside=lambda: None)
    with pytest.raises(MemoryError):
        starts.begin(Settings(database_url=f"sqlite:///{tmp_path / 'hookmirror.db'}"))
    assert [each.poll() for each in processes] == [0]
    assert starts._waiting == set()
