"""Imports and runs foreign code, and turns its exceptions into one line with the place."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

from sqlalchemy.exc import SQLAlchemyError

from receiver.errors import HookmirrorError, WiringError
from receiver.logs import safe_text

#: The name of the frame that runs a module from its top.
TOP_LEVEL = "<module>"

#: Code that runs foreign code: this package, and the module that passes on a block's exceptions.
OURS, CARRIER = f"{Path(__file__).parent}{os.sep}", contextlib.__file__


def import_foreign(name: str) -> ModuleType:
    """Import a module. Raises `ModuleNotFoundError` for an unknown name, and `WiringError` if the module fails."""
    if not all(name.split(".")):
        raise ModuleNotFoundError(name=name)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise
        raise WiringError(_told(error)) from error
    except (Exception, SystemExit) as error:
        raise WiringError(_told(error)) from error


@contextlib.contextmanager
def foreign_code(what: str, *, holds_secrets: bool = False) -> Iterator[None]:
    """Around code that others wrote: raises `WiringError` with one line for an error in it; `what` is its subject.

    Errors of ours and of the database say themselves what they are, and pass. Of code that holds secrets the error's
    own words are left out, since they may quote one. `SystemExit` is an error, too: it would end the program without a
    word.
    """
    try:
        yield
    except (HookmirrorError, SQLAlchemyError):
        raise
    except (Exception, SystemExit) as error:
        said = f"{place_of(error)}{safe_text.name_of(error)}" if holds_secrets else told_with_place(error)
        raise WiringError(f"{what} failed: {said}.") from error


def told_with_place(error: BaseException) -> str:
    """Describe an error in foreign code in one line: its place, its type, and its text."""
    return f"{place_of(error)}{safe_text.told_with_type(error)}".rstrip(".")


def place_of(error: BaseException) -> str:
    """File and line in the code that others wrote, as the beginning of a message; empty if it was all ours."""
    frames = traceback.extract_tb(safe_text.traceback_of(error))
    theirs = next((each.filename for each in frames if not each.filename.startswith((OURS, CARRIER))), None)
    lines = [each.lineno for each in frames if each.filename == theirs]
    return f"{theirs}, line {lines[-1]}: " if lines else ""


def _told(error: BaseException) -> str:
    """Describe a failed import in one line: its place and the error's text."""
    if isinstance(error, SyntaxError) and type(error.filename) is type(error.msg) is str:
        return f"{error.filename}, line {error.lineno}: {safe_text.name_of(error)}: {error.msg}"
    said = safe_text.told(error) if isinstance(error, HookmirrorError) else safe_text.told_with_type(error)
    return f"{_place(error)}{said}"


def _place(error: BaseException) -> str:
    """The line of the innermost module being imported, which is more often at fault than the code that it called."""
    frames = traceback.extract_tb(safe_text.traceback_of(error))
    module = next((frame.filename for frame in reversed(frames) if frame.name == TOP_LEVEL), None)
    lines = [frame.lineno for frame in frames if frame.filename == module]
    return f"{module}, line {lines[-1]}: " if lines else ""
