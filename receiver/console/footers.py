"""Footers: the API's address and the command that show the same as a page, to copy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode

from receiver.console.forms import MARKS
from receiver.console.page import Button, ConsolePage, filled
from receiver.console.visit import Visit
from receiver.http_urls import quoted_part

#: The field with the reason, which a command takes as an option, and the value shown until a person gives one.
REASON_FIELD, TO_FILL_IN = "reason", "…"


class Footer(NamedTuple):
    """The API's address and the command that do the same as a page or a button."""

    #: Method and address.
    api: str
    command: str


def footer_of(page: ConsolePage, visit: Visit) -> Footer:
    """The footer of a page, with the filters that it was asked for."""
    operation = visit.operations[page.operation]
    known = {parameter.name for parameter in operation.query}
    query = {name: text for name, text in visit.query.items() if name in known}
    asked = dict(page.given) | query
    api = filled(operation.path, _quoted(visit.path)) + (f"?{urlencode(asked)}" if asked else "")
    return Footer(f"{operation.method.upper()} {api}", command_of(page, visit.path, query))


def command_of(page: ConsolePage | Button, path: Mapping[str, str], query: Mapping[str, str]) -> str:
    """The command with the parts of the address as its arguments, and the query as its options.

    Before an argument that begins with a hyphen, `--` says that no options follow; these then come first.
    """
    words = page.command.split()
    first = next((place for place, word in enumerate(words) if _is_argument(words, place)), len(words))
    behind = [place for place in range(first, len(words)) if not _is_option(words, place)]
    arguments = [filled(words[place], dict(path)) for place in behind]
    options = [_filled_for_shell(words[place], path) for place in range(first, len(words)) if place not in behind]
    for name, text in query.items():
        if dict(page.options).get(name, name):
            options.append(option(page, name, text))
        else:
            arguments += words_of_argument(name, text)
    begun = [_filled_for_shell(word, path) for word in words[:first]]
    said = [shell_word(text) for text in arguments]
    if any(text.startswith("-") for text in arguments):
        return " ".join([*begun, *options, "--", *said])
    return " ".join([*begun, *said, *options])


def _is_option(words: list[str], place: int) -> bool:
    """Whether the word is an option, or the value of the option before it."""
    return words[place].startswith("--") or (place > 0 and words[place - 1].startswith("--"))


def _is_argument(words: list[str], place: int) -> bool:
    return words[place].startswith("{") and not _is_option(words, place)


def _filled_for_shell(word: str, path: Mapping[str, str]) -> str:
    return filled(word, {name: shell_word(text) for name, text in path.items()})


def words_of_argument(name: str, text: str) -> list[str]:
    """Split the text of an argument into words: marks are separated by commas."""
    return text.split(",") if name in MARKS else [text]


def option(page: ConsolePage | Button, name: str, text: str) -> str:
    """The command's option for a parameter: `--name text`, or the flag itself for true and false.

    If the command takes an argument instead of an option, the words of the argument.
    """
    named = dict(page.options).get(name, name).replace("_", "-")
    if not named:
        return " ".join(shell_word(word) for word in words_of_argument(name, text))
    if text in ("true", "false"):
        return f"--{named}" if text == "true" else f"--no-{named}"
    return f"--{named} {shell_word(text)}"


def footer_of_button(button: Button, visit: Visit, path: Mapping[str, str]) -> Footer:
    """The footer of a button, with the fields that its form has filled in."""
    operation, given = visit.operations[button.operation], dict(button.given)
    known = {parameter.name for parameter in operation.query} - {"idempotency_key"}
    query = {name: text for name, text in {**visit.query, **given}.items() if name in known}
    api = filled(operation.path, _quoted(path)) + (f"?{urlencode(query)}" if query else "")
    said = {name: text for name, text in query.items() if name not in given}
    if REASON_FIELD in button.fields:
        said.setdefault(REASON_FIELD, TO_FILL_IN)
    return Footer(f"{operation.method.upper()} {api}", command_of(button, path, said))


def shell_word(text: str) -> str:
    """The text as one word for a shell, with each invisible character as visible byte escapes."""
    if text.isprintable():
        return shlex.quote(text)
    written = (
        letter if letter.isprintable() and letter not in "'\\" else "".join(f"\\x{byte:02x}" for byte in _bytes(letter))
        for letter in text
    )
    return f"$'{''.join(written)}'"


def _bytes(letter: str) -> bytes:
    return letter.encode("utf-8", "surrogatepass")


def _quoted(path: Mapping[str, str]) -> dict[str, str]:
    return {name: quoted_part(text) for name, text in path.items()}
