"""Makes text of foreign exceptions, values and types, whose own methods may raise or return megabytes.

All such text is made here, because a line for a log or a reason must never stop the loop that writes it
(docs/decisions/0021).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from reprlib import Repr
from types import TracebackType
from typing import Any

from receiver.codec import storable
from receiver.system_limits import explain_limit

#: The longest text of an error, of a quoted value, and of a name, in characters.
LONGEST_SAYING, LONGEST_QUOTE, LONGEST_TYPE_NAME = 1_000, 64, 200

#: Characters kept of a traceback, from its beginning and from its end.
LONGEST_TRACE = 10_000

#: Characters in which the first line is searched, to avoid copying a long text.
LONGEST_FIRST_LINE = 100_000


def told(error: BaseException) -> str:
    """The error's text in one line that every database stores; the name of its type if the text is empty.

    For a wrapped error of a database driver, the driver's text.
    """
    said = _safely(lambda: _first_line(str(getattr(error, "orig", None) or error)), "")
    return said or name_of(error)


def told_with_limit(error: BaseException) -> str:
    """The limit of the system that this error shows, and what to do; for any other error, its text as by `told`."""
    return explain_limit(error) or told(error)


def told_with_type(error: BaseException) -> str:
    """The name of the error's type with its text: `ValueError: no such colour`."""
    name = name_of(error)
    said = told(error)
    return name if said == name else f"{name}: {said}"


def name_of(value: object) -> str:
    """The name of the value's type, read without its metaclass, which may lie."""
    # `type.__name__` is a descriptor of the interpreter, which no metaclass can replace.
    return _safely(lambda: _line(_NAME(type(value)), LONGEST_TYPE_NAME), "an object") or "an object"


def name_of_function(function: Any) -> str:
    """Module and name of a function, or of another callable."""

    def name() -> str:
        named = f"{function.__module__}.{function.__qualname__}"
        return _line(named, LONGEST_TYPE_NAME)

    return _safely(name, "") or name_of(function)


def quoted(value: object) -> str:
    """The value as Python writes it, cut to `LONGEST_QUOTE` characters; its type if it cannot be written."""
    return _safely(lambda: _line(_short.repr(value), LONGEST_QUOTE), "") or f"<{name_of(value)}>"


def traced(error: BaseException) -> str:
    """The traceback of the error; without texts of exceptions if these cannot be made."""
    whole = _safely(lambda: "".join(traceback.format_exception(error)), "")
    if not whole:
        places = _safely(lambda: "".join(traceback.format_tb(traceback_of(error))), "")
        whole = f"{places}{name_of(error)}"
    if len(whole) > 2 * LONGEST_TRACE:
        whole = f"{whole[:LONGEST_TRACE]}\n[…]\n{whole[-LONGEST_TRACE:]}"
    return storable(whole)


def traceback_of(error: BaseException) -> TracebackType | None:
    """The traceback object of an error whose own attributes may raise."""
    found: TracebackType | None = _TRACEBACK(error)
    return found


def _safely(say: Callable[[], str], otherwise: str) -> str:
    try:
        return say()
    except BaseException:
        # Even SystemExit is caught, because the caller needs only a text.
        return otherwise


def _first_line(text: str) -> str:
    lines = text[:LONGEST_FIRST_LINE].strip().splitlines()
    return _line(lines[0], LONGEST_SAYING) if lines else ""


def _line(text: str, longest: int) -> str:
    """Convert a text, or a subclass of it, into bounded plain text that every database stores."""
    exact = str.__str__(text)
    cut = exact if len(exact) <= longest else f"{exact[: longest - 1]}…"
    return storable(" ".join(cut.splitlines()) if cut else "")


_NAME = type.__dict__["__name__"].__get__
_TRACEBACK = BaseException.__dict__["__traceback__"].__get__

#: Abbreviates long values, so that a list of a million costs no more than one of six.
_short = Repr()
_short.maxstring = _short.maxother = LONGEST_QUOTE


def sentence(text: str) -> str:
    """Add a full stop, unless the text ends with a punctuation mark."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def whole_sentence(text: str) -> str:
    """Make the text a whole sentence, with a capital letter and a full stop."""
    return sentence(f"{text[:1].upper()}{text[1:]}")
