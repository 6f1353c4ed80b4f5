"""Finds, imports and runs foreign code, and turns its exceptions into one line with the place."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module, metadata
from importlib.metadata import Distribution, EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType
from typing import Any

from receiver.errors import HookmirrorError, WiringError
from receiver.logs import safe_text

#: The name of the frame that runs the top level of a module.
TOP_LEVEL = "<module>"

#: Code that is never at fault: this package, and the module that passes on the exceptions of a block.
OURS, CARRIER = f"{Path(__file__).parent}{os.sep}", contextlib.__file__


#: Endings of the folders that describe installed packages.
DESCRIPTIONS = (".dist-info", ".egg-info")


def entry_points(group: str) -> EntryPoints:
    """The entry points of this group. Installed packages are looked through again only after they have changed."""
    found: EntryPoints = _entry_points(tuple(filter(None, map(_state_of, sys.path)))).select(group=group)
    return found


# Python reads the description of every installed package each time, which takes longer than most commands work.
@lru_cache(maxsize=4)
def _entry_points(_places: tuple[tuple[str, int], ...]) -> Any:
    return metadata.entry_points()


def package_of(point: EntryPoint) -> str:
    """The name of the installed package that has this entry point; without one, the entry point's own name."""
    return point.name if point.dist is None else _name_of(point.dist)


# The name is in the description of the package, which Python reads each time that it is asked for.
@lru_cache(maxsize=64)
def _name_of(package: Distribution) -> str:
    return package.name


def _state_of(place: str) -> tuple[str, int] | None:
    """A place of `sys.path` with the time of its last change; None if no package is installed there."""
    try:
        if os.path.isdir(place or os.curdir) and not any(
            name.endswith(DESCRIPTIONS) for name in os.listdir(place or os.curdir)
        ):
            return None
        return os.path.abspath(place), os.stat(place or os.curdir).st_mtime_ns
    except OSError:
        return None


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
    """Turn an error of foreign code in the block into a `WiringError` of one line; `what` is the subject of the line.

    Errors of Hookmirror and of the database pass unchanged, because their messages are clear. For code that holds
    secrets, the text of the error is left out, because it may quote a secret. Errors that do not derive from
    `Exception`, such as `SystemExit`, are turned, too, because they would end the program or its thread without a
    message.
    """
    try:
        yield
    except HookmirrorError:
        raise
    except BaseException as error:
        if is_of_database(error) or not is_of_the_code(error):
            raise
        said = f"{place_of(error)}{safe_text.name_of(error)}" if holds_secrets else told_with_place(error)
        raise WiringError(f"{what} failed: {said}.") from error


def is_of_the_code(error: BaseException) -> bool:
    """Whether foreign code raised the error, and not a person who interrupts the main thread."""
    if isinstance(error, (Exception, SystemExit, GeneratorExit)) or _is_cancellation(error):
        return True
    return threading.current_thread() is not threading.main_thread()


def _is_cancellation(error: BaseException) -> bool:
    """Whether a task of asyncio was cancelled, which foreign code may run in an event loop of its own."""
    # Without the module, no code can raise the error. It is not imported here, so that commands start faster.
    loaded = sys.modules.get("asyncio")
    return loaded is not None and isinstance(error, loaded.CancelledError)


def is_of_database(error: BaseException) -> bool:
    """Whether SQLAlchemy raised the error."""
    # Imported here, because commands without a database load plugins, too, and only a failure needs it.
    from sqlalchemy.exc import SQLAlchemyError

    # `isinstance` also asks the error for its class, which code of foreign errors may answer with another error.
    return issubclass(type(error), SQLAlchemyError)


def told_with_place(error: BaseException) -> str:
    """Describe an error in foreign code in one line: its place, its type, and its text."""
    return f"{place_of(error)}{safe_text.told_with_type(error)}".rstrip(".")


def place_of(error: BaseException) -> str:
    """The file and line in foreign code, as the beginning of a message; empty if only our own code ran."""
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
