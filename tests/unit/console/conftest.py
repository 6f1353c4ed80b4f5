"""One server with the console, shared by the tests of this folder that change nothing for each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from patience import more_patience
from serving import Served
from visiting import Visitor, visiting

from receiver.sessions.roles import Role


@pytest.fixture(autouse=True, scope="module")
def _more_patience() -> Iterator[None]:
    with more_patience():
        yield


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("console")
    with ExitStack() as stack:
        # Patience ends with each file, and a server decides at its start when it makes its first round.
        with more_patience():
            served, _ = stack.enter_context(visiting(f"sqlite:///{folder}/console.db", role=None, with_worker=True))
        yield served


@pytest.fixture(scope="session")
def operator(shown: Served) -> Iterator[Visitor]:
    yield from _signed_in(shown, Role.OPERATOR)


@pytest.fixture(scope="session")
def viewer(shown: Served) -> Iterator[Visitor]:
    yield from _signed_in(shown, Role.VIEWER)


@pytest.fixture
def leaving(shown: Served) -> Iterator[Visitor]:
    """Sign in an operator whose session the test ends."""
    yield from _signed_in(shown, Role.OPERATOR)


@pytest.fixture
def stranger(shown: Served) -> Iterator[Visitor]:
    yield from _signed_in(shown, None)


def _signed_in(served: Served, role: Role | None) -> Iterator[Visitor]:
    visitor = Visitor(str(served.client.base_url).rstrip("/"))
    if role is not None:
        assert visitor.sign_in(role).status_code == 303
    yield visitor
    visitor.close()
