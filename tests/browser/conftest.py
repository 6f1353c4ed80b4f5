"""Fixtures of the tests in a browser: one Chromium for all of them, and consoles with data."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browsing import Browser, Browsing, running_chromium, sign_in
from console_stock import ConsoleStock, console_stock
from patience import more_patience
from short_pauses import shorter_pauses

from receiver.sessions.roles import Role


@pytest.fixture(autouse=True, scope="package")
def _more_patience() -> Iterator[None]:
    with more_patience():
        yield


@pytest.fixture(autouse=True, scope="package")
def _shorter_pauses() -> Iterator[None]:
    with shorter_pauses():
        yield


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Run one browser for this folder. It ends with the folder, because other tests run event loops in this thread."""
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def stock(tmp_path_factory) -> Iterator[ConsoleStock]:
    """Serve a console on a bad day. Tests read it and change nothing."""
    with console_stock(f"sqlite:///{tmp_path_factory.mktemp('console') / 'hookmirror.db'}") as stocked:
        yield stocked


@pytest.fixture(scope="package")
def operator(chromium, stock) -> object:
    """Return the cookies of an operator, who signed in by a link."""
    return sign_in(chromium, stock.site, stock.link(Role.OPERATOR))


@pytest.fixture(scope="package")
def viewer(chromium, stock) -> object:
    """Return the cookies of a viewer."""
    return sign_in(chromium, stock.site, stock.link(Role.VIEWER))


@pytest.fixture
def browsing(chromium, stock, operator) -> Iterator[Browsing]:
    """Open the console's pages for an operator, and fail the test at its end if a page had faults."""
    opened = Browsing(chromium, stock.site, operator)
    yield opened
    opened.close()
    opened.watch.check()
