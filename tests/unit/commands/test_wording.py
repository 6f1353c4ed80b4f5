"""Messages of the API in the words of a command, whether it reads the database or asks the API."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.requests import Request

import receiver
from receiver.api.routes import answer_refused
from receiver.api.search import Q
from receiver.api.sources import LISTED_AT
from receiver.cli import COMMANDS
from receiver.commands.wording import COMMANDS_OF_ADDRESSES, command_words, words_of
from receiver.errors import NAMES_HEADER, BadRequest, HookmirrorError
from receiver.search.arguments import parse_moment, parse_text
from receiver.search.filters import DeliveryFilter


def refusal(ask) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        ask()
    return caught.value


def test_a_parameter_becomes_its_option():
    error = refusal(lambda: parse_moment("from", "yesterday", now=datetime.now(UTC)))
    assert words_of(error).startswith("--since takes a time")
    assert str(error).startswith("`from` takes a time"), "over the API it is called so"


def test_a_parameter_without_a_listed_option_becomes_an_option_of_its_own_name():
    assert words_of(refusal(lambda: parse_text("event_type", ""))).startswith("--event-type is empty")


def test_an_argument_is_named_as_in_the_help():
    assert words_of(refusal(lambda: Q.read("x" * 10_000))).startswith("TEXT takes at most")


def test_two_times_in_the_wrong_order_become_both_options():
    noon = datetime(2026, 3, 4, 12, tzinfo=UTC)
    wrong = refusal(lambda: DeliveryFilter(begin=noon, end=noon - timedelta(hours=1)))
    assert words_of(wrong) == "--since is later than --until, so nothing lies between them: swap them."


def test_an_address_becomes_the_command_that_lists_the_same():
    said = command_words("See `/api/v1/deliveries`.", ["/api/v1/deliveries"])
    assert said == "See `hookmirror deliveries`."


def test_other_quoted_words_stay_as_they_are():
    assert command_words("`from` stands in `text`", ["from"]) == "--since stands in `text`"
    assert words_of(HookmirrorError("`from` is a word")) == "`from` is a word"


def test_the_api_sends_the_names_in_its_message_in_a_header():
    answer = answer_refused(Request({"type": "http"}), refusal(lambda: parse_text("reason", "")))
    assert answer.headers[NAMES_HEADER] == "reason"


@pytest.mark.parametrize("command", sorted(COMMANDS_OF_ADDRESSES.values()))
def test_every_command_that_a_message_can_name_exists(command):
    assert command.split()[1] in COMMANDS


def test_every_address_that_an_error_names_has_a_command():
    folder = Path(receiver.__file__).parent
    named = {
        address
        for path in folder.rglob("*.py")
        if "console" not in path.parts
        for address in re.findall(r"names=\(\"(/[^\"]*)\"", path.read_text("utf-8"))
    }
    assert named | {LISTED_AT} <= COMMANDS_OF_ADDRESSES.keys()


def test_every_error_that_quotes_a_parameter_names_it():
    """The wording depends on these names, so no BadRequest may quote a parameter without giving its name."""
    wrong = []
    folder = Path(receiver.__file__).parent
    # Messages of the console are read in a browser, and name settings.
    for path in sorted(each for each in folder.rglob("*.py") if "console" not in each.parts):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("BadRequest", "NotFound", "NotThisFeed"):
                said = "".join(
                    each.value
                    for each in ast.walk(node)
                    if isinstance(each, ast.Constant) and isinstance(each.value, str)
                )
                if re.search(r"`[a-z_/]", said) and not any(each.arg == "names" for each in node.keywords):
                    wrong.append(f"{path.name}:{node.lineno}")
    assert wrong == []
