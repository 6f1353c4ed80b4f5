"""Paths: `/hooks/<source>` is the address of a source; a similar path gets a message about its flaw."""

from __future__ import annotations

from collections.abc import Collection

from receiver.likeness import nearest
from receiver.verify.request import HOOKS_PATH as HOOKS_PATH

#: The path below which all addresses of the console lie.
CONSOLE_PATH = "/console"

#: The most characters of a stranger's text that a message repeats.
SHOWN_OF_NAME = 64

#: The likeness to a source's name, from 0 to 1, from which on a name counts as misspelt.
LIKE_SOURCE = 0.75

#: The most characters of a path that are examined.
LONGEST_ADDRESS = 1_000


def is_for_console(path: str) -> bool:
    """Whether the console answers at this path."""
    return path == CONSOLE_PATH or path.startswith(f"{CONSOLE_PATH}/")


def is_meant_for_hooks(path: str) -> bool:
    """Whether a path was most likely meant as the address of a source: `/HOOKS/shop`, `//hooks/shop`, `/hooks`."""
    return _parts(path)[:1] == ["hooks"]


def source_named(path: str) -> str:
    """The part of the path in the place of the source's name; one trailing slash is removed."""
    return path.removeprefix(HOOKS_PATH).removesuffix("/")


def flaw(path: str, sources: Collection[str]) -> str:
    """Write the error message for a path that is not the address of a source."""
    parts = _parts(path)
    if not parts[1:]:
        return f"The address names no source: it is {HOOKS_PATH} and the source's name. {_advice([], sources)}"
    if not path.startswith(HOOKS_PATH):
        return f"An address begins with {HOOKS_PATH}, letter for letter. {_advice(parts[1:], sources)}"
    name = source_named(path)
    if parts[1] not in sources:
        return f"There is no source {name[:SHOWN_OF_NAME]!r} here. Compare the URL with the receiver's settings."
    return f"{_oddity(name, parts)} {_advice(parts[1:], sources)}"


def nearest_source(name: str, sources: Collection[str]) -> str | None:
    """The source with the name most similar to this unknown one; None if no name is similar."""
    meant = name[:SHOWN_OF_NAME].strip(" /").lower()
    if meant in sources:
        return meant
    return nearest(meant, sources, like=LIKE_SOURCE)


def named_at_end(path: str, sources: Collection[str]) -> str | None:
    """The source with whose exact name a path ends."""
    parts = _parts(path[:LONGEST_ADDRESS])
    return parts[-1] if parts and parts[-1] in sources else None


def meant_source(path: str, sources: Collection[str]) -> str | None:
    """The source that a webhook to a path outside of `HOOKS_PATH` was most likely meant for; None if that is unclear.

    Such a path ends in the name of a source, or begins similarly to `HOOKS_PATH` and ends similarly to a source's name.
    Paths that strangers try do neither.
    """
    parts = _parts(path[:LONGEST_ADDRESS])
    if not parts or parts[-1] in sources:
        return named_at_end(path, sources)
    is_like_hooks = len(parts) > 1 and nearest(parts[0], ["hooks", "webhooks"], like=LIKE_SOURCE) is not None
    return nearest_source(parts[-1], sources) if is_like_hooks else None


def _oddity(name: str, parts: list[str]) -> str:
    pieces = name.split("/")
    if "" in pieces:
        return "The address has a slash too many."
    if "." in pieces or ".." in pieces:
        return "The address has a part of dots, and such parts are not resolved."
    if len(parts) > 2:
        return f"After the source's name, the address has {'/'.join(pieces[1:])[:SHOWN_OF_NAME]!r}."
    return f"The address has {name[:SHOWN_OF_NAME]!r}, and a source's name has no capitals and no blanks around it."


def _advice(parts: list[str], sources: Collection[str]) -> str:
    if parts and parts[0] in sources:
        return f"Post to {HOOKS_PATH}{parts[0]}."
    return "Compare the URL with the receiver's settings."


def _parts(path: str) -> list[str]:
    """The parts of the path that are not empty, as they were probably meant."""
    return [part.strip().lower() for part in path.split("/") if part.strip() not in ("", ".", "..")]
