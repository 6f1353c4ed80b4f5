"""Contents: all pages and all buttons, in the order of the navigation.

A new page is a module in `pages` with its `PAGES` and `BUTTONS`, and its name here.
"""

from __future__ import annotations

import re

from receiver.console.page import Button, ConsolePage
from receiver.console.pages import (
    actions,
    changes,
    deliveries,
    delivery,
    findings,
    followers,
    overview,
    refused,
    row,
    rows,
    run,
    runs,
    search,
    sources,
    system,
)

PAGE_MODULES = (
    *(overview, findings, deliveries, delivery, refused, rows, row, sources, changes, followers),
    *(search, runs, run, actions, system),
)

PAGES: tuple[ConsolePage, ...] = tuple(page for module in PAGE_MODULES for page in module.PAGES)
BUTTONS: tuple[Button, ...] = tuple(button for module in PAGE_MODULES for button in module.BUTTONS)

BUTTON_BY_NAME = {button.name: button for button in BUTTONS}

#: The path below which all addresses of the API lie.
API_PATH = "/api/v1"

#: The pages that the navigation names.
MENU = tuple(page for page in PAGES if page.menu)


def lead(link: object) -> str | None:
    """The path of the page that shows the same as an address of the API; None if no page does."""
    # Stored evidence that was edited by hand may have any type.
    address = link if isinstance(link, str) else ""
    below, _, query = address.removeprefix(API_PATH).partition("?")
    if not address.startswith(API_PATH) or not any(_is_address_of(page, below) for page in PAGES):
        return None
    return f"{below}?{query}" if query else below


def _is_address_of(page: ConsolePage, path: str) -> bool:
    pattern = "".join(
        part if index % 2 == 0 else (".+" if part.endswith(":path") else "[^/]+")
        for index, part in enumerate(re.split(r"{([^}]+)}", page.path))
    )
    return re.fullmatch(pattern, path) is not None
