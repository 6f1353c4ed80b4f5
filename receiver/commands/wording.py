"""Wording: translates error messages of the API into the words of commands, which have other names for parameters."""

from __future__ import annotations

from collections.abc import Iterable

from receiver.errors import HookmirrorError, Refused

#: Options and arguments of commands with another name than the parameter of the API.
OPTIONS_OF_PARAMETERS = {
    "from": "--since",
    "to": "--until",
    "q": "TEXT",
    "id": "ID",
    "ids": "ID",
    "external_id": "ID",
    "newest": "the newest first",
}

#: The command that shows the same as an address of the API.
COMMANDS_OF_ADDRESSES = {
    "/api/v1/deliveries": "hookmirror deliveries",
    "/api/v1/runs": "hookmirror runs",
    "/api/v1/search": "hookmirror search",
    "/api/v1/findings": "hookmirror findings",
    "/api/v1/changes": "hookmirror changes",
    "/api/v1/sources": "hookmirror sources",
    "/api/v1/refused": "hookmirror refused",
    "/api/v1/changes?newest=true&limit=1": "hookmirror changes --limit 1",
    "/api/v1/catalog": "hookmirror row",
}


def command_words(message: str, names: Iterable[str]) -> str:
    """Replace parameters and addresses of the API, which are in backticks, by the options and commands."""
    for name in names:
        ours = (
            f"`{COMMANDS_OF_ADDRESSES[name]}`"
            if name in COMMANDS_OF_ADDRESSES
            else OPTIONS_OF_PARAMETERS.get(name, f"--{name.replace('_', '-')}")
        )
        message = message.replace(f"`{name}`", ours)
    return message


def words_of(error: HookmirrorError) -> str:
    """The message of an error in the words of commands."""
    return command_words(str(error), error.names) if isinstance(error, Refused) else str(error)
