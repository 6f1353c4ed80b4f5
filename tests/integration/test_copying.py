"""A database is copied into another, whichever systems they are: everything, exactly, or not at all."""

from __future__ import annotations

import pytest
from copies import copy, everything, kit_on, live_through, migrate, verify


@pytest.fixture
def new_url(tmp_path, request):
    """Makes databases of either system."""
    made = []

    def make(system: str) -> str:
        if system == "postgresql":
            return request.getfixturevalue("new_postgresql_url")()
        made.append(system)
        return f"sqlite:///{tmp_path / f'{len(made)}.db'}"

    return make


@pytest.fixture(params=["sqlite to postgresql", "postgresql to sqlite", "sqlite to sqlite", "postgresql to postgresql"])
def pair(request, new_url) -> tuple[str, str]:
    """A migrated database, and the URL of an empty one."""
    source, target = (new_url(system) for system in request.param.split(" to "))
    migrate(source)
    return source, target


def test_a_copy_holds_everything_in_the_same_form(pair, tmp_path):
    source, target = pair
    with kit_on(tmp_path, source) as kit:
        live_through(kit)
    report = copy(source, target)
    found = everything(source)
    assert everything(target) == found
    assert {table.table: table.rows for table in report.tables} == {name: len(rows) for name, rows in found.items()}
    assert report.same
    assert not report.resumed
    assert report.copied == sum(map(len, found.values()))
    assert verify(source, target).same
