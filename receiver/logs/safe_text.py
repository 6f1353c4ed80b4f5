"""Telling: text made of what others wrote. Such an object may raise, hang on to megabytes, or not be text at all.

No text of a stranger's exception, value or type is made elsewhere: a line for a log or a reason must never stop the
loop that writes it (docs/decisions/0021).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from reprlib import Repr
from typing import Any

from receiver.codec import storable

#: Characters of what an error says, of a value that is quoted, and of a name.
LONGEST_SAYING, LONGEST_QUOTE, LONGEST_TYPE_NAME = 1_000, 64, 200

#: Characters of a traceback, from its beginning and from its end.
LONGEST_TRACE = 10_000

#: Characters that are looked at for the first line: what is beyond is not worth copying again.
LONGEST_FIRST_LINE = 100_000


def told(error: BaseException) -> str:
    """What the error says, in one line that every database takes; its type's name if it says nothing.

    Of an error of the database driver's that another one wraps, what the driver said.
    """
    said = _safely(lambda: _first_line(str(getattr(error, "orig", None) or error)), "")
    return said or name_of(error)


def told_with_type(error: BaseException) -> str:
    """The type's name and what the error says: `ValueError: no such colour`."""
    name = name_of(error)
    said = told(error)
    return name if said == name else f"{name}: {said}"


def name_of(value: object) -> str:
    """The name of the value's type. Its metaclass may lie about that, so it is not asked."""
    # As the interpreter itself knows it: `type.__name__` is a descriptor that no metaclass can replace.
    return _safely(lambda: _line(_NAME(type(value)), LONGEST_TYPE_NAME), "an object") or "an object"


def name_of_function(function: Any) -> str:
    """Module and name of a function, or of whatever else can be called."""

    def name() -> str:
        named = f"{function.__module__}.{function.__qualname__}"
        return _line(named, LONGEST_TYPE_NAME)

    return _safely(name, "") or name_of(function)


def quoted(value: object) -> str:
    """The value as Python writes it, cut to `LONGEST_QUOTE` characters; its type if it cannot be written."""
    return _safely(lambda: _line(_short.repr(value), LONGEST_QUOTE), "") or f"<{name_of(value)}>"


def traced(error: BaseException) -> str:
    """The traceback of the error; where its text cannot be made, the places alone."""
    whole = _safely(lambda: "".join(traceback.format_exception(error)), "")
    if not whole:
        places = _safely(lambda: "".join(traceback.format_tb(_TRACEBACK(error))), "")
        whole = f"{places}{name_of(error)}"
    if len(whole) > 2 * LONGEST_TRACE:
        whole = f"{whole[:LONGEST_TRACE]}\n[…]\n{whole[-LONGEST_TRACE:]}"
    return storable(whole)


def _safely(say: Callable[[], str], otherwise: str) -> str:
    try:
        return say()
    except BaseException:
        # Whatever it is, even SystemExit: all it was asked for is its text.
        return otherwise


def _first_line(text: str) -> str:
    lines = text[:LONGEST_FIRST_LINE].strip().splitlines()
    return _line(lines[0], LONGEST_SAYING) if lines else ""


def _line(text: str, longest: int) -> str:
    """Exact text, whatever subclass it was of: bounded, and of characters that every database takes."""
    exact = str.__str__(text)
    cut = exact if len(exact) <= longest else f"{exact[: longest - 1]}…"
    return storable(" ".join(cut.splitlines()) if cut else "")


_NAME = type.__dict__["__name__"].__get__
_TRACEBACK = BaseException.__dict__["__traceback__"].__get__

#: Writes a part of what is long, so that a list of a million costs no more than one of six.
_short = Repr()
_short.maxstring = _short.maxother = LONGEST_QUOTE


def sentence(text: str) -> str:
    """The text with a full stop, unless it ends with a sign of its own."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
