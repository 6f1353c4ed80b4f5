"""Importing modules that others wrote: whatever they raise becomes one line that says where."""

from __future__ import annotations

import traceback
from importlib import import_module
from types import ModuleType

from receiver.errors import HookmirrorError, WiringError
from receiver.telling import name_of, told, told_with_type

#: The name of the frame that runs a module from its top.
TOP_LEVEL = "<module>"


def import_foreign(name: str) -> ModuleType:
    """The module. Raises `ModuleNotFoundError` if there is none of this name, and `WiringError` if it fails itself."""
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


def _told(error: BaseException) -> str:
    """Where it was raised, and what it says, in one line."""
    if isinstance(error, SyntaxError) and type(error.filename) is type(error.msg) is str:
        return f"{error.filename}, line {error.lineno}: {name_of(error)}: {error.msg}"
    said = told(error) if isinstance(error, HookmirrorError) else told_with_type(error)
    return f"{_place(error)}{said}"


def _place(error: BaseException) -> str:
    """The line of the innermost module that was being imported: what it called is seldom what is wrong."""
    frames = traceback.extract_tb(error.__traceback__)
    module = next((frame.filename for frame in reversed(frames) if frame.name == TOP_LEVEL), None)
    lines = [frame.lineno for frame in frames if frame.filename == module]
    return f"{module}, line {lines[-1]}: " if lines else ""
