"""Numbers of examples for properties that are slow to try."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

#: How many times as many examples `make explore` tries as `make test`.
EXPLORED = 10


def examples(number: int, **options: Any) -> settings:
    """Try this many examples in `make test`, without a deadline for each, and more of them in `make explore`."""
    is_exploring = not settings().derandomize
    return settings(max_examples=number * EXPLORED if is_exploring else number, deadline=None, **options)
