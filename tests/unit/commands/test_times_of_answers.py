"""Times in the answers of commands that a person reads: to the second, as the page on operations says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from receiver.cli import compose
from receiver.commands import faults, sources

FAULT = {
    "source": "shop",
    "cause": "It raised.",
    "dead": 1,
    "waiting": 0,
    "release": "1.0",
    "delivery": "7",
    "first": "2026-06-01T12:00:00.123456Z",
    "last": "2026-06-01T12:05:00Z",
}

SOURCE = {
    "source": "shop",
    "dialect": "shop",
    "health": "well",
    "says": "All is well.",
    "address": "/hooks/shop",
    "came": 2,
    "refused": 0,
    "failed": 0,
    "pending": 0,
    "dead": 0,
    "settings": {},
    "handlers": [],
    "ignored": [],
    "counted_from": "2026-05-31T12:00:00Z",
    "last_delivery_at": "2026-06-01T12:00:00.123456Z",
    "secrets": [
        {"position": "0", "verified": 2, "last_at": "2026-06-01T12:01:00Z"},
        {"position": "1", "verified": 0, "last_at": None},
    ],
}


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs a command on an answer of the API, and returns its output."""

    def run_on(module: Any, answer: dict[str, Any], *arguments: str) -> str:
        asking = SimpleNamespace(ask=lambda path, names, query: answer)
        monkeypatch.setattr(module, "client_of", lambda to, token: asking)
        done = CliRunner().invoke(compose(arguments[0]), arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run_on


def test_faults_have_the_times_of_their_first_and_last_delivery(run):
    shown = run(faults, {"items": [FAULT]}, "faults")
    assert "2026-06-01 12:00:00Z" in shown
    assert "2026-06-01 12:05:00Z" in shown
    assert "12:00:00.123456" not in shown


def test_a_source_has_the_times_of_its_last_delivery_and_of_its_secrets(run):
    lines = run(sources, SOURCE, "sources", "shop").splitlines()
    assert "Since 2026-05-31 12:00:00Z: 2 came, 0 refused, 0 failed." in lines
    assert "Pending 0, dead 0; last delivery 2026-06-01 12:00:00Z." in lines
    assert "secret 1, the newest: 2 verified, last 2026-06-01 12:01:00Z" in lines
    assert "secret 2: 0 verified, last never" in lines
