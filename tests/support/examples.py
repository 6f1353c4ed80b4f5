"""Numbers of examples for properties that are slow to try."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

#: How many times as many examples `make explore` tries as `make test`.
EXPLORED = 10


def examples(number: int, **options: Any) -> settings:
    """Try this many examples in `make test`, without a deadline for each, and more of them in `make explore`."""
    is_exploring = not settings().derandomize
    # A list would replace that of the profile, which permits slow draws.
    options["suppress_health_check"] = [*settings().suppress_health_check, *options.get("suppress_health_check", ())]
    return settings(max_examples=number * EXPLORED if is_exploring else number, deadline=None, **options)
