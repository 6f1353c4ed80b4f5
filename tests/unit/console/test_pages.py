"""Pages of the console over a socket: what they show, and how they are asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Served
from visiting import Visitor, text_of, visiting


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Visitor]]:
    folder: Path = tmp_path_factory.mktemp("console")
    with visiting(f"sqlite:///{folder}/console.db", with_worker=True) as opened:
        yield opened


def test_the_overview_says_in_a_sentence_that_nothing_needs_anybody(looked: tuple[Served, Visitor]) -> None:
    assert "Nothing needs you." in text_of(looked[1].page("/"))


def test_a_delivery_is_listed_and_shown_with_what_became_of_it(looked: tuple[Served, Visitor]) -> None:
    served, visitor = looked
    delivery = served.send("sigma")
    served.ended(delivery)
    assert f"/console/deliveries/{delivery}" in visitor.page("/deliveries")
    page = text_of(visitor.page(f"/deliveries/{delivery}"))
    assert "accepted, verified by secret 0" in page
    assert f"hookmirror show {delivery}" in page
