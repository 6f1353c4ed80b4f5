"""Mistakes in settings, told in our own words: pydantic's are for programmers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from receiver.settings.environment import VARIABLE_PREFIX, value

#: By pydantic's kind of error: what the setting takes.
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


def told(error: ValidationError, known: Iterable[str], known_of_source: Iterable[str], *table: str) -> str:
    """Everything that is wrong below the table that was looked at, each under the name that it was given by.

    `known` are the names of settings, `known_of_source` those of a source's.
    """
    return "; ".join(
        _told((*table, *each["loc"]), each["type"], each.get("ctx", {}), known, known_of_source)
        for each in error.errors()
    )


def perhaps(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The setting that was meant, if one is close."""
    close = get_close_matches(name, list(known), n=1)
    return f" (perhaps `{prefix}{close[0]}`)" if close else ""


def _told(
    location: tuple[int | str, ...],
    kind: str,
    context: Mapping[str, Any],
    known: Iterable[str],
    known_of_source: Iterable[str],
) -> str:
    name = ".".join(map(str, location)) or "settings"
    variable = f"{VARIABLE_PREFIX}{name.upper()}"
    if kind == "extra_forbidden":
        names = known if len(location) == 1 else known_of_source
        wrong = f"there is no such setting{perhaps(str(location[-1]), names)}"
    else:
        wrong = TAKES.get(kind, "cannot have this value").format(name=location[-1] if location else name, **context)
    return f"{variable if value(variable) is not None else name}: {wrong}"
