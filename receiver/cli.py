"""The command `hookmirror`: composes the command that is asked for, and prints an error as one line on standard error.

The exit code is 1 on an error, 2 on wrong usage, and 130 after Ctrl-C.
"""

from __future__ import annotations

import ast
import errno
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import typer

from receiver.codec import storable
from receiver.commands.closing import ending_a_command
from receiver.commands.examples import epilog_of
from receiver.commands.options import hookmirror
from receiver.commands.wording import words_of
from receiver.errors import HookmirrorError
from receiver.interrupts import INTERRUPTED, EndingAtOnce
from receiver.loading import entry_points, is_of_database
from receiver.logs import logs
from receiver.logs.escapes import visible
from receiver.logs.standard_error import forget_output
from receiver.system_limits import explain_limit

#: The entry point group by which packages add commands.
COMMAND_ENTRY_POINTS = "hookmirror.commands"

#: The codes of the system for an output that takes no more: a full disk, a quota, a broken disk, the largest file.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})

#: Our commands in the order of the help. Each has a module in `receiver.commands`, with a function of the same name.
COMMANDS = (
    *("serve", "worker", "console", "follow", "reload", "token", "console-link", "sessions", "doctor", "findings"),
    *("faults", "refused", "send", "capture", "new-dialect", "top", "tail", "sources", "search", "deliveries", "show"),
    *("rows", "row", "changes", "replay", "retry", "reconcile", "ask", "rehearse", "prune", "runs", "actions"),
    *("migrate", "copy"),
)

#: By command, the words that may name files, whose names may be any bytes. Those of the type `Path` need no mention.
NAMES_OF_FILES = {"send": ("what",), "copy": ("source", "target")}


def main() -> None:
    # Standard output is for answers only, so the log goes to standard error before the settings are read, too.
    logs.configure("warning", "console")
    arguments = sys.argv[1:] or ["--help"]
    try:
        sys.exit(compose(arguments[0])(arguments, standalone_mode=False))
    except typer.TyperException as error:
        _fail(_usage(error), error.exit_code)
    except KeyboardInterrupt:
        # Typer handles those inside of a command; this one came before, such as while plugins were imported.
        sys.exit(INTERRUPTED)
    except HookmirrorError as error:
        _fail(words_of(error))
    except Exception as error:
        reached = explain_limit(error)
        if reached is not None:
            _fail(reached)
        if isinstance(error, OSError) and error.filename is None and error.errno in NO_ROOM:
            forget_output()
            _fail(
                f"The output cannot be written ({error.strerror}): free some space, or let it go elsewhere. What the "
                "command did before stays done."
            )
        if not is_of_database(error):
            raise
        # Imported here, because a command that uses no database need not load SQLAlchemy.
        from receiver.database.errors import explain_by_settings

        _fail(explain_by_settings(error))


def compose(asked: str) -> typer.Typer:
    """Compose the command of this name; for `--` and for an unknown name, all commands.

    Importing and inspecting the other commands, too, would take longer than most commands run. For `--help` and for an
    unknown name, which run none of them, they are stand-ins where that is possible.
    """
    composed = typer.Typer(name="hookmirror", add_completion=False, pretty_exceptions_enable=False)
    composed.callback()(hookmirror)
    for name, command in _commands(asked):
        composed.command(name=name, epilog=epilog_of(command))(command)
    return composed


def _commands(asked: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the commands to compose; one of another package comes after ours of the same name, and replaces it."""
    if asked == "--version":
        return
    points = entry_points(group=COMMAND_ENTRY_POINTS)
    is_known = asked in COMMANDS or any(point.name == asked for point in points)
    # Behind `--`, click takes the next word for the command, and runs it.
    is_listed = not is_known and asked != "--"
    for name in COMMANDS:
        if name == asked or not is_known:
            yield name, (stand_in(*_place_of(name)) if is_listed else None) or own_command(name)
    for point in points:
        if point.name == asked or not is_known:
            yield point.name, (stand_in(point.module, point.attr) if is_listed else None) or point.load()


def stand_in(module: str, function: str) -> Callable[[], None] | None:
    """Make a function with the docstring of a command, without importing its module; None if its text has no such one.

    A decorator may change what is told about a function, so that one with decorators has no stand-in.
    """
    with suppress(ImportError, OSError, SyntaxError, ValueError):
        spec = find_spec(module)
        content = Path(spec.origin).read_bytes() if spec is not None and spec.origin is not None else b""
        for each in ast.parse(content).body:
            if isinstance(each, ast.FunctionDef) and each.name == function and not each.decorator_list:

                def listed() -> None: ...

                listed.__doc__ = ast.get_docstring(each)
                return listed
    return None


def _place_of(name: str) -> tuple[str, str]:
    """The module and the function of one of our commands."""
    function = name.replace("-", "_")
    return f"receiver.commands.{function}", function


def own_command(name: str) -> Callable[..., Any]:
    """Import one of our commands, which is called with words that the database takes."""
    module, function = _place_of(name)
    with EndingAtOnce():
        command: Callable[..., Any] = getattr(import_module(module), function)

    @wraps(command)
    def with_storable_words(**given: Any) -> Any:
        files = NAMES_OF_FILES.get(name, ())
        with ending_a_command():
            return command(**{word: value if word in files else _storable(value) for word, value in given.items()})

    return with_storable_words


def _storable(value: Any) -> Any:
    """Replace bytes that are not UTF-8, which Python passes on as lone surrogates, in a word or a list of words."""
    if isinstance(value, list):
        return [_storable(each) for each in value]
    return storable(value) if type(value) is str else value


def _fail(message: str, code: int = 1) -> NoReturn:
    shown = "\n".join(map(visible, message.split("\n")))
    sys.stderr.write(f"hookmirror: {shown}\n")
    sys.exit(code)


#: A quoted word of the user that is too long for a message.
_LONG_QUOTE = re.compile(r"'([^']{64})[^']+'")


def _usage(error: typer.TyperException) -> str:
    """Describe a mistake in a command, without the words of pydantic, which checks the values."""
    said = error.format_message().replace("Value error, ", "").replace("Input should be", "it must be")
    said = _LONG_QUOTE.sub(r"'\1…'", said.partition(", unable to parse")[0])
    return f"{said if said.endswith(('.', '?')) else said + '.'} --help explains."
