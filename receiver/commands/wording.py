"""Wording: error messages of the API in the words of commands, whose options and arguments have names of their own."""

from __future__ import annotations

from collections.abc import Iterable

from receiver.errors import HookmirrorError, Refused

#: Options and arguments of commands that are not called like the parameter that they give.
OPTIONS_OF_PARAMETERS = {
    "from": "--since",
    "to": "--until",
    "q": "TEXT",
    "id": "ID",
    "ids": "ID",
    "external_id": "ID",
    "newest": "the newest first",
}

#: What a command shows of an address.
COMMANDS_OF_ADDRESSES = {
    "/api/v1/deliveries": "hookmirror deliveries",
    "/api/v1/runs": "hookmirror runs",
    "/api/v1/search": "hookmirror search",
    "/api/v1/findings": "hookmirror findings",
    "/api/v1/changes?newest=true&limit=1": "hookmirror changes --limit 1",
    "/api/v1/catalog": "hookmirror row",
}


def command_words(message: str, names: Iterable[str]) -> str:
    """The message with what it names of the API, each in backticks, named as commands do."""
    for name in names:
        ours = (
            f"`{COMMANDS_OF_ADDRESSES[name]}`"
            if name in COMMANDS_OF_ADDRESSES
            else OPTIONS_OF_PARAMETERS.get(name, f"--{name.replace('_', '-')}")
        )
        message = message.replace(f"`{name}`", ours)
    return message


def words_of(error: HookmirrorError) -> str:
    """The message of an error as a command says it."""
    return command_words(str(error), error.names) if isinstance(error, Refused) else str(error)
