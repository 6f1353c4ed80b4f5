"""An acceptor process starts wherever its server does: with the same dialects, whatever stands beside the settings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from receiver.server import acceptor_starts
from receiver.server.acceptor_starts import AcceptorStarts, Started
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


def runtime_of(folder: Path, name: str) -> Runtime:
    """The wiring of a server with the dialect `name`, which stands in this folder beside the settings."""
    (folder / f"{name}.py").write_text(DIALECT.format(name=name))
    source = {"dialect": name, "allow_unsigned": True, "settings": {"channel": "web"}}
    url = f"sqlite:///{folder / 'hookmirror.db'}"
    return Runtime(Settings(database_url=url, dialects=[f"{name}:{name}"], sources={name: source}), beside=folder)


@contextmanager
def begun(starts: AcceptorStarts, settings: Settings) -> Iterator[Started]:
    started = starts.begin(settings)
    try:
        yield started
    finally:
        starts.discard(started)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("beside", ["secrets.py", "receiver.py", "pathlib.py", "handlers.py"])
def test_a_process_starts_although_a_file_beside_the_settings_has_the_name_of_another_module(tmp_path, beside):
    runtime = runtime_of(tmp_path, f"mine_beside_{beside.removesuffix('.py')}")
    (tmp_path / beside).write_text("raise RuntimeError('this hides another module')")
    with begun(AcceptorStarts(beside=tmp_path), runtime.settings) as started:
        assert started.process.poll() is None


@pytest.mark.usefixtures("path")
def test_a_process_starts_with_a_model_of_settings_that_was_made_in_a_function(tmp_path):
    runtime = runtime_of(tmp_path, "mine_in_a_function")
    assert runtime.settings.sources["mine_in_a_function"].own.channel == "web"
    with begun(AcceptorStarts(beside=tmp_path), runtime.settings) as started:
        assert started.process.poll() is None
    assert runtime.settings.sources["mine_in_a_function"].own.channel == "web"


def test_a_process_that_is_not_sent_its_settings_ends(tmp_path, monkeypatch):
    processes: list[subprocess.Popen[bytes]] = []

    def start(*args, **named):
        processes.append(subprocess.Popen(*args, **named))
        return processes[-1]

    def fail(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(acceptor_starts, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": start}))
    monkeypatch.setattr(acceptor_starts.acceptor, "settings_sent", fail)
    starts = AcceptorStarts(beside=None)
    with pytest.raises(MemoryError):
        starts.begin(Settings(database_url=f"sqlite:///{tmp_path / 'hookmirror.db'}"))
    assert [each.poll() for each in processes] == [0]
    assert starts._waiting == set()
