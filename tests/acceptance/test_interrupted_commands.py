"""Ctrl-C during a command's imports: exit code 130, and not a word."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import TIMEOUT

import receiver
from receiver import cli
from receiver.interrupts import EndingAtOnce

ROOT = Path(__file__).parents[2]

#: A module in place of a package that the command imports. It says so, and never ends by itself.
SLOW = """
import sys, time
print("importing", flush=True)
time.sleep(600)
"""


@pytest.fixture
def interrupted(tmp_path):
    """Return a function that starts a command, interrupts it while it imports, and returns its code and its errors."""

    def run(*command, package="typer", before=None):
        (tmp_path / f"{package}.py").write_text(SLOW)
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=before,
        )
        try:
            assert process.stdout.readline() == "importing\n"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
        return process.returncode, errors

    return run


def test_ctrl_c_during_the_imports_ends_a_command_without_a_word(interrupted):
    assert interrupted(Path(sys.executable).with_name("hookmirror"), "deliveries") == (130, "")


def test_ctrl_c_during_the_imports_ends_a_process_that_a_command_started_without_a_word(interrupted):
    assert interrupted(sys.executable, "-m", "receiver", "worker") == (130, "")


@pytest.mark.parametrize("command", [["deliveries"], ["serve"], ["serve", "--worker-process", "--port", "0"]])
def test_ctrl_c_while_a_command_imports_what_it_needs_alone_ends_it_without_a_word(interrupted, command):
    assert interrupted(sys.executable, "-m", "receiver", *command, package="httpx") == (130, "")


def test_ctrl_c_while_plugins_are_imported_ends_the_command_with_130(monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "compose", interrupt)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130


def test_a_command_in_the_background_goes_on_ignoring_interrupts(monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_IGN)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with EndingAtOnce():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_after_the_imports_an_interrupt_is_raised_as_ever():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with EndingAtOnce():
            pass
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


# ── the public names, which are loaded at their first use ─────────────────────────────────────────────────────


def test_each_public_name_is_the_one_that_its_module_defines():
    tree = ast.parse(Path(receiver.__file__).read_text("utf-8"))
    imported = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("receiver")
        for alias in node.names
    }
    assert sorted(imported) == sorted([*receiver.__all__, "changes"])
    for name, module in imported.items():
        assert getattr(receiver, name) is getattr(sys.modules[module], name), name
        assert name in dir(receiver)


def test_a_name_that_is_not_public_is_refused_by_name():
    with pytest.raises(AttributeError, match="module 'receiver' has no attribute 'Dialct'"):
        receiver.Dialct  # noqa: B018
