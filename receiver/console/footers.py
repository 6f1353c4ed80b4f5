"""Footers: the API's address and the command that show the same as a page, to copy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlencode

from receiver.console.page import Button, ConsolePage, filled
from receiver.console.visit import Visit


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
    words = [filled(page.command, {name: shell_word(text) for name, text in visit.path.items()})]
    for name, text in query.items():
        words.append(option(page, name, text))
    return Footer(f"{operation.method.upper()} {api}", " ".join(words))


def option(page: ConsolePage | Button, name: str, text: str) -> str:
    """The command's option for a parameter: `--name text`, or the flag itself for true and false.

    Where the command takes an argument instead of an option, its words. Commas separate several.
    """
    named = dict(page.options).get(name, name).replace("_", "-")
    if not named:
        return " ".join(shell_word(word) for word in text.split(","))
    if text in ("true", "false"):
        return f"--{named}" if text == "true" else f"--no-{named}"
    return f"--{named} {shell_word(text)}"


def footer_of_button(button: Button, visit: Visit, path: Mapping[str, str]) -> Footer:
    """The footer of a button, with the fields that its form has filled in."""
    operation, given = visit.operations[button.operation], dict(button.given)
    known = {parameter.name for parameter in operation.query} - {"idempotency_key"}
    query = {name: text for name, text in {**visit.query, **given}.items() if name in known}
    api = filled(operation.path, _quoted(path)) + (f"?{urlencode(query)}" if query else "")
    words = [filled(button.command, {name: shell_word(text) for name, text in path.items()})]
    words += [option(button, name, text) for name, text in query.items() if name not in given]
    return Footer(f"{operation.method.upper()} {api}", " ".join(words))


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
    return {name: quote(text, safe="") for name, text in path.items()}
