"""A number on a page is that of the list to which it leads, and every link leads to something."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import followed
import pytest
from senders import sent
from sqlalchemy import update
from visiting import text_of, visiting
from waiting import wait_until

from receiver.following.followers import FOLLOWERS
from receiver.inbox.tables import DELIVERIES


def leads(page: str, beginning: str) -> dict[str, str]:
    """Return the texts of the links whose addresses begin so, by these addresses."""
    found = re.findall(r'<a[^>]* href="([^"]*)"[^>]*>(.*?)</a>', page, re.DOTALL)
    return {unescape(address): text_of(text) for address, text in found if unescape(address).startswith(beginning)}


@pytest.mark.parametrize("page", ["/sources", "/sources/sigma"])
def test_pending_and_processing_deliveries_are_counted_apart_as_in_their_lists(tmp_path: Path, page: str) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        first, *_ = (int(served.send("sigma", key=key)) for key in ("one", "two", "three"))
        with served.beside.write() as connection:
            claimed = update(DELIVERIES).where(DELIVERIES.c.id == first)
            connection.execute(claimed.values(state="processing", claimed_by="w"))
        numbers = leads(visitor.page(page), "/console/deliveries?source=sigma&state=p")
        assert [int(text.split()[0]) for text in numbers.values()] == [2, 1]
        for address, text in numbers.items():
            listed = text_of(visitor.page(address.removeprefix("/console")))
            assert re.search(rf"\b{text.split()[0]} match", listed)


def test_a_follower_that_has_not_begun_leads_to_no_change(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        followed.add(served.beside)
        assert "/console/changes/2" in leads(visitor.page("/followers"), "/console/changes/")
        with served.beside.write() as connection:
            connection.execute(update(FOLLOWERS).values(seq=0))
        assert "/console/changes/0" not in leads(visitor.page("/followers"), "/console/changes/")


def test_the_deliveries_about_a_row_whose_id_is_a_blank_are_those_alone(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", with_worker=True) as (served, visitor):
        for identity in (" ", "A", "B"):
            served.ended(served.send("iimmpact", id=identity, key=identity, data={"display_name": "Lamp"}))
        [address] = leads(visitor.page("/mirror/products/iimmpact/%20"), "/console/deliveries?entity=")
        assert "1 matches." in text_of(visitor.page(address.removeprefix("/console")))


def test_a_live_page_of_refused_requests_is_told_of_new_ones_and_of_those_that_leave(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        told = [live_marks(visitor.page("/refused"))]
        for number in range(2):
            content, headers = sent("sigma", b"%d" % number, "a secret that was changed there")
            assert served.post("sigma", content, headers).status_code == 401
            wait_until(lambda number=number: served.count("refused") == number + 1, "the keeper")
            told.append(live_marks(visitor.page("/refused")))
        with served.beside.write() as connection:
            connection.exec_driver_sql("DELETE FROM refused WHERE id = (SELECT min(id) FROM refused)")
        told.append(live_marks(visitor.page("/refused")))
        assert len(set(told)) == len(told)


def live_marks(page: str) -> tuple[str, ...]:
    """Return those marks of a page that it listens to."""
    names = ("deliveries", "changes", "runs", "findings", "followers", "refused")
    [parts], [marks] = re.findall(r'data-live="([^"]*)"', page), re.findall(r'data-marks="([^"]*)"', page)
    by_name = dict(zip(names, marks.split(","), strict=True))
    return tuple(by_name[name] for name in parts.split())
