"""Mistakes in settings, worded for operators, because pydantic's messages address programmers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from receiver.likeness import nearest
from receiver.settings.environment import VARIABLE_PREFIX, value

#: The advice about a setting, by pydantic's type of error.
TAKES = {
    "bool_parsing": "takes true or false",
    "bool_type": "takes true or false",
    "dict_type": "takes a table",
    "finite_number": "takes a number",
    "float_parsing": "takes a number",
    "float_type": "takes a number",
    "greater_than": "must be more than {gt:.0f}",
    "greater_than_equal": "must be at least {ge:.0f}",
    "int_from_float": "takes a whole number",
    "int_parsing": "takes a whole number",
    "int_type": "takes a whole number",
    "less_than_equal": "must be at most {le:.0f}",
    "list_type": 'takes a list: write {name} = ["…"]',
    "literal_error": "takes {expected}",
    "model_type": "takes a table",
    "path_type": "takes text in quotes",
    "string_type": "takes text in quotes",
    "value_error": "{error}",
}


def place(error: ValidationError, file: Path | None) -> str:
    """The place of the mistakes: the environment, the file, or both."""
    from_environment = {_variable(".".join(map(str, each["loc"]))) is not None for each in error.errors()}
    if file is None or from_environment == {True}:
        return "the environment"
    return f"the environment and {file}" if True in from_environment else str(file)


def told(error: ValidationError, known: Iterable[str], known_of_source: Iterable[str], *table: str) -> str:
    """List all mistakes in the validated table, each with the name by which it was given.

    `known` are the names of settings, `known_of_source` those of a source's.
    """
    return "; ".join(
        _told((*table, *each["loc"]), each["type"], each.get("ctx", {}), known, known_of_source)
        for each in error.errors()
    )


def perhaps(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Suggest a setting with a similar name, if there is one."""
    close = nearest(name, known)
    return f" (perhaps `{prefix}{close}`)" if close is not None else ""


def _told(
    location: tuple[int | str, ...],
    kind: str,
    context: Mapping[str, Any],
    known: Iterable[str],
    known_of_source: Iterable[str],
) -> str:
    name = ".".join(map(str, location)) or "settings"
    if kind == "extra_forbidden":
        wrong = _unknown(str(location[-1]), known, known_of_source, in_source=len(location) > 1)
    else:
        wrong = TAKES.get(kind, "cannot have this value").format(name=location[-1] if location else name, **context)
    return f"{_variable(name) or name}: {wrong}"


def _variable(name: str) -> str | None:
    """The environment variable that gives this setting; None if the file gives it."""
    variable = f"{VARIABLE_PREFIX}{name.upper()}"
    return variable if value(variable) is not None else None


def _unknown(name: str, known: Iterable[str], known_of_source: Iterable[str], *, in_source: bool) -> str:
    """Describe an unknown name: suggest a similar setting, or the table to which the setting belongs."""
    if in_source and name in set(known):
        return "is a setting of the whole installation: move it above the first table"
    if not in_source and name in set(known_of_source):
        return "is a setting of one source: move it into its table [sources.<name>]"
    return f"there is no such setting{perhaps(name, known_of_source if in_source else known)}"
