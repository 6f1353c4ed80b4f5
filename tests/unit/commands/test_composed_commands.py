"""The commands of one call: the one that is asked for, or all of them."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
import typer

from receiver import cli


def composed(asked: str) -> set[str]:
    return set(typer.main.get_command(cli.compose(asked)).commands)


@pytest.fixture(scope="module")
def everything() -> set[str]:
    ours = set(typer.main.get_command(cli.app).commands)
    return ours | {point.name for point in entry_points(group=cli.COMMAND_ENTRY_POINTS)}


@pytest.mark.parametrize("asked", ["token", "console-link", "demo"])
def test_only_the_command_that_is_asked_for_is_composed(asked):
    assert composed(asked) == {asked}


@pytest.mark.parametrize("asked", ["--help", "--version", "tokn", ""])
def test_where_no_command_is_asked_for_all_are_composed(everything, asked):
    assert composed(asked) == everything


def test_a_command_of_a_package_goes_before_ours_of_the_same_name(monkeypatch):
    class Point:
        name = "token"

        def load(self):
            return lambda: "theirs"

    monkeypatch.setattr(cli, "entry_points", lambda group: [Point()])
    assert composed("token") == {"token"}
    assert typer.main.get_command(cli.compose("token")).commands["token"].callback() == "theirs"
