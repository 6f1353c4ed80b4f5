"""Paths: `/hooks/<source>` is the address of a source; a similar path gets a message about what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection

from receiver.likeness import nearest
from receiver.verify.request import HOOKS_PATH as HOOKS_PATH

#: Characters of a stranger's text that a message repeats.
SHOWN_OF_NAME = 64

#: From 0 to 1: how much a name must be like that of a source to count as a misspelt one.
LIKE_SOURCE = 0.75

#: Characters of a path that are looked at.
LONGEST_ADDRESS = 1_000


def is_meant_for_hooks(path: str) -> bool:
    """Whether a path was most likely meant as the address of a source: `/HOOKS/shop`, `//hooks/shop`, `/hooks`."""
    return _parts(path)[:1] == ["hooks"]


def source_named(path: str) -> str:
    """The part of the path in the place of the source's name, without one trailing slash."""
    return path.removeprefix(HOOKS_PATH).removesuffix("/")


def flaw(path: str, sources: Collection[str]) -> str:
    """An error message for a path that is not the address of a source."""
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


def meant_source(path: str, sources: Collection[str]) -> str | None:
    """The source whose address a path outside of `HOOKS_PATH` was most likely meant as; None if it is not clear.

    It ends in the name of a source, or it begins like `HOOKS_PATH` and ends in a name like a source's: what strangers
    try does neither.
    """
    parts = _parts(path[:LONGEST_ADDRESS])
    if not parts:
        return None
    if parts[-1] in sources:
        return parts[-1]
    is_like_hooks = len(parts) > 1 and nearest(parts[0], ["hooks", "webhooks"], like=LIKE_SOURCE) is not None
    return nearest_source(parts[-1], sources) if is_like_hooks else None


def _oddity(name: str, parts: list[str]) -> str:
    pieces = name.split("/")
    if "" in pieces:
        return "The address has a slash too many."
    if "." in pieces or ".." in pieces:
        return "The address has a part of dots, which is not followed."
    if len(parts) > 2:
        return f"Behind the source's name the address goes on with {'/'.join(pieces[1:])[:SHOWN_OF_NAME]!r}."
    return f"The address says {name[:SHOWN_OF_NAME]!r}, and a source's name has no capitals and no blanks around it."


def _advice(parts: list[str], sources: Collection[str]) -> str:
    if parts and parts[0] in sources:
        return f"Post to {HOOKS_PATH}{parts[0]}."
    return "Compare the URL with the receiver's settings."


def _parts(path: str) -> list[str]:
    """The parts that are not empty, as they were probably meant."""
    return [part.strip().lower() for part in path.split("/") if part.strip() not in ("", ".", "..")]
