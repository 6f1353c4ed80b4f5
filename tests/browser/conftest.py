"""What tests in a browser share: one Chromium for all of them, and consoles with data."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browsing import Browser, Browsing, running_chromium, sign_in
from console_stock import ConsoleStock, console_stock

from receiver.sessions.roles import Role


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One browser for this folder. It ends with the folder, since other tests run event loops in this thread."""
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def stock(tmp_path_factory) -> Iterator[ConsoleStock]:
    """A console on a bad day, which tests look at and leave as it is."""
    with console_stock(f"sqlite:///{tmp_path_factory.mktemp('console') / 'hookmirror.db'}") as stocked:
        yield stocked


@pytest.fixture(scope="package")
def operator(chromium, stock) -> object:
    """The cookies of an operator, who came in by a link."""
    return sign_in(chromium, stock.site, stock.link(Role.OPERATOR))


@pytest.fixture(scope="package")
def viewer(chromium, stock) -> object:
    """The cookies of a viewer."""
    return sign_in(chromium, stock.site, stock.link(Role.VIEWER))


@pytest.fixture
def browsing(chromium, stock, operator) -> Iterator[Browsing]:
    """Opens the console's pages for an operator; fails the test at its end for what no page may do."""
    opened = Browsing(chromium, stock.site, operator)
    yield opened
    opened.close()
    opened.watch.check()
