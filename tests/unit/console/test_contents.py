"""The declared pages and buttons: each has an address, an operation of the API, and a command."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from api_alone import api_of

from receiver import cli
from receiver.api.operations import Operation
from receiver.api.tokens import Scope
from receiver.console.contents import BUTTONS, MENU, PAGES, lead
from receiver.console.footers import command_of, option
from receiver.console.page import Button, ConsolePage
from receiver.database.database import Database


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Operation]:
    folder: Path = tmp_path_factory.mktemp("contents")
    return {each.name: each for each in api_of(Database(f"sqlite:///{folder / 'none.db'}")).operations}


@cache
def command(name: str) -> click.Command:
    group: Any = typer.main.get_command(cli.compose(name))
    return group.commands[name]


def options(line: str) -> set[str]:
    """Return the options of the command at the beginning of the line."""
    found = command(line.split()[1]).params
    return {name for parameter in found for name in [*parameter.opts, *parameter.secondary_opts]}


def arguments(line: str) -> list[click.Parameter]:
    """Return the positional arguments of the command."""
    return [each for each in command(line.split()[1]).params if each.param_type_name == "argument"]


def named(each: ConsolePage | Button) -> str:
    return each.name


def test_no_two_pages_or_buttons_share_a_name_or_an_address() -> None:
    for table in (PAGES, BUTTONS):
        assert len({each.name for each in table}) == len({each.path for each in table}) == len(table)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_reads_with_an_existing_operation_and_command(
    page: ConsolePage, operations: dict[str, Operation]
) -> None:
    operation = operations[page.operation]
    assert (operation.method, operation.scope) == ("get", Scope.READ)
    assert operation.parts_of_path <= set(re.findall(r"{(\w+)", page.path))
    assert set(re.findall(r"--[a-z-]+", page.command)) <= options(page.command)
    assert set(re.findall(r"{(\w+)", page.command)) <= set(re.findall(r"{(\w+)", page.path))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_each_filter_of_a_page_is_an_option_of_its_command(page: ConsolePage, operations: dict[str, Operation]) -> None:
    offered = options(page.command)
    for parameter in operations[page.operation].query:
        if parameter.name in {*page.leaves_out, *dict(page.given)}:
            continue
        text = "true" if parameter.schema.get("type") == "boolean" else "x"
        word = option(page, parameter.name, text).split()[0]
        takes_it = word in offered if word.startswith("-") else bool(arguments(page.command))
        assert takes_it, parameter.name


@pytest.mark.parametrize("page", [page for page in PAGES if page.follows_in], ids=named)
def test_the_next_page_of_a_list_uses_a_parameter_of_its_operation(
    page: ConsolePage, operations: dict[str, Operation]
) -> None:
    assert page.follows_in in {parameter.name for parameter in operations[page.operation].query}


@pytest.mark.parametrize("button", BUTTONS, ids=named)
def test_a_button_does_what_an_existing_operation_and_command_do(
    button: Button, operations: dict[str, Operation]
) -> None:
    operation = operations[button.operation]
    assert (operation.method, operation.scope) == ("post", Scope.OPERATE)
    parameters = {parameter.name for parameter in operation.parameters}
    assert operation.parts_of_path <= set(re.findall(r"{(\w+)", button.path))
    assert set(button.fields) <= parameters
    assert set(re.findall(r"--[a-z-]+", button.command)) <= options(button.command)
    assert callable(button.says) or button.says.endswith((".", "?"))


@pytest.mark.parametrize("text", ["-x", "--help", "-", "--"])
@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("row", {}),
        ("ask_source", {}),
        ("repair_row", {}),
        ("source", {}),
        ("verify_refused", {"reason": "-y"}),
        ("search", {"q": "-y"}),
        ("refused", {"source": "--json"}),
    ],
)
def test_what_begins_with_a_hyphen_is_an_argument_of_the_copied_command(
    name: str, query: dict[str, str], text: str
) -> None:
    each = next(each for each in (*PAGES, *BUTTONS) if each.name == name)
    path = dict.fromkeys(re.findall(r"{(\w+)", each.path), text)
    line = command_of(each, path, query)
    words = shlex.split(line)[2:]
    with command(line.split()[1]).make_context(name, [*words]) as context:
        taken = [value for value in context.params.values() if value is not None]
    assert all(given in taken for given in [*path.values(), *query.values()])


def test_a_copied_command_has_its_options_last_where_nothing_begins_with_a_hyphen() -> None:
    each = next(each for each in BUTTONS if each.name == "verify_refused")
    line = command_of(each, {"source": "shop"}, {"reason": "a new secret"})
    assert line == "hookmirror refused shop --verify --reason 'a new secret'"


def test_the_navigation_begins_with_the_overview() -> None:
    assert MENU[0].path == "/"


@pytest.mark.parametrize(
    ("link", "page"),
    [
        ("/api/v1/deliveries?state=dead&source=a%26b", "/deliveries?state=dead&source=a%26b"),
        ("/api/v1/deliveries/17", "/deliveries/17"),
        ("/api/v1/nothing", None),
        ("https://evil.example/api/v1/deliveries", None),
        ("", None),
        (None, None),
    ],
)
def test_an_address_of_the_api_leads_to_the_page_with_the_same_content(link: str | None, page: str | None) -> None:
    assert lead(link) == page
