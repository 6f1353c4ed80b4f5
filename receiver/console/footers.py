"""Footers: the API's address and the command that show the same as a page, to copy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlencode

from receiver.console.page import Button, ConsolePage, filled
from receiver.console.visit import Visit


class Footer(NamedTuple):
    """How the same is asked without the console."""

    #: Method and address.
    api: str
    command: str


def footer_of(page: ConsolePage, visit: Visit) -> Footer:
    """Of a page as it was asked for, its filters included."""
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

    Where the command has an argument instead of an option, its words: several have commas between them.
    """
    named = dict(page.options).get(name, name).replace("_", "-")
    if not named:
        return " ".join(shell_word(word) for word in text.split(","))
    if text in ("true", "false"):
        return f"--{named}" if text == "true" else f"--no-{named}"
    return f"--{named} {shell_word(text)}"


def footer_of_button(button: Button, visit: Visit, path: Mapping[str, str]) -> Footer:
    """Of a button: the API's address and the command that do the same, with what the form says already."""
    operation, given = visit.operations[button.operation], dict(button.given)
    known = {parameter.name for parameter in operation.query} - {"idempotency_key"}
    query = {name: text for name, text in {**visit.query, **given}.items() if name in known}
    api = filled(operation.path, _quoted(path)) + (f"?{urlencode(query)}" if query else "")
    words = [filled(button.command, {name: shell_word(text) for name, text in path.items()})]
    words += [option(button, name, text) for name, text in query.items() if name not in given]
    return Footer(f"{operation.method.upper()} {api}", " ".join(words))


def shell_word(text: str) -> str:
    """One word for a shell, exactly this text. What cannot be seen is written as bytes, so that nothing hides in it."""
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
