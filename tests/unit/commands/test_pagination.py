"""Lists over several pages."""

from __future__ import annotations

import json
from itertools import cycle, islice
from types import SimpleNamespace
from weakref import WeakSet

import pytest

from receiver.commands.pagination import all_pages, show_list
from receiver.database.page_sizes import LARGEST_PAGE
from receiver.errors import HookmirrorError

PAGES = 5


class Item(dict):
    """An item whose life can be observed."""

    __hash__ = object.__hash__


class Pages:
    """Answers with pages, and notes how many items of earlier pages are alive at each question."""

    def __init__(self) -> None:
        self.asked, self.alive = 0, WeakSet()
        self.kept: list[int] = []

    def ask(self, path, parts, query):
        self.kept.append(len(self.alive))
        self.asked += 1
        items = [Item(number=number) for number in range(query["limit"])]
        self.alive.update(items)
        return {"items": items, "next": None if self.asked == PAGES else str(self.asked)}


def shown(pages: Pages, limit: int) -> None:
    show_list(pages, "/api/v1/deliveries", {}, limit=limit, as_json=True, columns=())


def test_a_list_in_json_keeps_one_page_in_memory(capsys):
    pages = Pages()
    shown(pages, PAGES * LARGEST_PAGE)
    assert len(capsys.readouterr().out.splitlines()) == PAGES * LARGEST_PAGE
    assert max(pages.kept) <= LARGEST_PAGE


def test_a_list_in_json_ends_at_its_limit_with_the_cursor_for_the_rest(capsys):
    shown(Pages(), LARGEST_PAGE + 3)
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == LARGEST_PAGE + 3
    assert json.loads(printed.err)["next"] == "2"


@pytest.mark.parametrize("places", [["a"], ["a", "b"]], ids=len)
def test_a_list_whose_pages_lead_back_to_one_before_is_refused(places):
    following = cycle(places)
    stranger = SimpleNamespace(ask=lambda *_: {"items": [], "next": next(following)})
    with pytest.raises(HookmirrorError, match="never ends"):
        list(islice(all_pages(stranger, "/api/v1/tallies", {}, place="after"), 10))
