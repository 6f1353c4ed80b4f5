"""Cases that alternate between the databases, for behaviour that does not depend on the database."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

SYSTEMS = ("sqlite", "postgresql")


def databases_in_turn(name: str, cases: Iterable[Any], *, ids: Callable[[Any], str] = str) -> pytest.MarkDecorator:
    """Give a test the argument `name`, and run each case on one of the databases, which take turns."""
    given = []
    for number, case in enumerate(cases):
        system = SYSTEMS[number % len(SYSTEMS)]
        given.append(pytest.param(case, system, id=f"{system}-{ids(case)}"))
    # With the scope of the fixture, and the database last, pytest runs all cases of a database one after the other.
    return pytest.mark.parametrize((name, "database_system"), given, indirect=["database_system"], scope="module")
