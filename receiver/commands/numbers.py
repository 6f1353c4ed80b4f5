"""Numbers in commands: the parser of those that go to the database, such as ids."""

from __future__ import annotations

import typer

from receiver.search.arguments import is_id


def parse_number(text: str) -> int:
    """Parse a number that the lists print. Raises `BadParameter` for one that no column takes."""
    if not is_id(text):
        raise typer.BadParameter("it must be a whole number, as the lists print it.")
    return int(text)
