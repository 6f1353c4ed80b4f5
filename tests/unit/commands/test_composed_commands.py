"""The commands of one call: the one that is asked for, or all of them."""

from __future__ import annotations

import shlex
from importlib.metadata import entry_points

import pytest
import typer

from receiver import cli
from receiver.commands.examples import COMMAND_EXAMPLES


def composed(asked: str) -> set[str]:
    return set(typer.main.get_command(cli.compose(asked)).commands)


@pytest.fixture(scope="module")
def everything() -> set[str]:
    return {*cli.COMMANDS, *(point.name for point in entry_points(group=cli.COMMAND_ENTRY_POINTS))}


@pytest.mark.parametrize("asked", ["token", "console-link", "demo"])
def test_only_the_command_that_is_asked_for_is_composed(asked):
    assert composed(asked) == {asked}


@pytest.mark.parametrize("asked", ["--help", "--versoin", "tokn", ""])
def test_where_no_command_is_asked_for_all_are_composed(everything, asked):
    assert composed(asked) == everything


def test_the_version_needs_no_command():
    assert composed("--version") == set()


def test_the_help_has_the_commands_in_the_order_of_the_table():
    assert tuple(typer.main.get_command(cli.compose("--help")).commands)[: len(cli.COMMANDS)] == cli.COMMANDS


def test_the_help_says_of_each_command_what_the_command_itself_says(everything):
    listed = typer.main.get_command(cli.compose("--help")).commands
    for name in everything:
        assert listed[name].help == typer.main.get_command(cli.compose(name)).commands[name].help, name


@pytest.mark.parametrize(
    "text",
    [
        "from others import pack",
        "pack = lambda: None",
        "@decorated\ndef pack(): 'Pack.'",
        "def pack(: 'not Python'",
        "pack = 'a\0'",
        None,
    ],
)
def test_a_command_whose_text_does_not_describe_it_is_loaded_for_the_help(tmp_path, monkeypatch, text):
    if text is not None:
        (tmp_path / "packing.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))

    class Point:
        name, module, attr = "pack", "packing", "pack"

        def load(self):
            def pack() -> None:
                """Pack a parcel."""

            return pack

    monkeypatch.setattr(cli, "entry_points", lambda group: [Point()])
    assert typer.main.get_command(cli.compose("--help")).commands["pack"].help == "Pack a parcel."


def test_a_command_after_a_word_that_is_no_command_is_not_a_stand_in():
    """Click takes `hookmirror -- token` for a call of `token`."""
    assert {each.name for each in typer.main.get_command(cli.compose("--")).commands["token"].params} >= {"scope"}


@pytest.mark.parametrize("asked", ["tokn", "--versoin", "frobnicate"])
def test_a_wrong_name_imports_no_command(asked, monkeypatch):
    monkeypatch.setattr(cli, "own_command", lambda name: pytest.fail(f"{name} was imported"))
    assert composed(asked) >= {*cli.COMMANDS}


@pytest.mark.parametrize("example", [each for lines in COMMAND_EXAMPLES.values() for each in lines])
def test_an_example_of_the_help_is_a_call_that_its_command_takes(example):
    _, name, *arguments = shlex.split(example)
    command = typer.main.get_command(cli.compose(name)).commands[name]
    assert command.make_context(name, arguments).command is command
    assert example in command.epilog


def test_a_command_of_a_package_goes_before_ours_of_the_same_name(monkeypatch):
    class Point:
        name = "token"

        def load(self):
            return lambda: "theirs"

    monkeypatch.setattr(cli, "entry_points", lambda group: [Point()])
    assert composed("token") == {"token"}
    assert typer.main.get_command(cli.compose("token")).commands["token"].epilog is None
    assert typer.main.get_command(cli.compose("token")).commands["token"].callback() == "theirs"
