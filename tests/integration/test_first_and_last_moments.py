"""The first and the last moment that has a date, as programs write for "from the beginning" and "without an end"."""

from __future__ import annotations

import pytest
from serving import Served
from visiting import Visitor, visiting

FIRST, LAST = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"

#: Products that the server has, each with one change.
SENT = 3

#: Each list with a time, and whether the time is the end of what is listed.
LISTS = {
    "deliveries?from={}": False,
    "deliveries?to={}": True,
    "changes?since={}": False,
    "changes?newest=true&since={}": False,
    "changes?source=iimmpact&since={}": False,
    "tallies?kind=accepted&after={}": False,
}


@pytest.fixture(scope="module")
def site(lend_database, tmp_path_factory):
    with lend_database(tmp_path_factory.mktemp("ends")) as url, visiting(url, with_worker=True) as (served, visitor):
        for number in range(SENT):
            served.ended(served.send("iimmpact", id=f"A{number}", data={"display_name": "Lamp"}))
        yield served, visitor


@pytest.mark.parametrize("moment", [FIRST, LAST])
@pytest.mark.parametrize("path", LISTS)
def test_a_list_is_answered_with_all_or_with_nothing(site: tuple[Served, Visitor], path: str, moment: str):
    answer = site[0].get(f"/api/v1/{path.format(moment)}")
    assert answer.status_code == 200, answer.text
    has_all = (moment == LAST) is LISTS[path]
    if "tallies" in path:
        assert has_all or answer.json()["items"] == []
    else:
        assert len(answer.json()["items"]) == (SENT if has_all else 0)


@pytest.mark.parametrize("moment", [FIRST, LAST])
@pytest.mark.parametrize(
    "path", ["/deliveries?from={}", "/deliveries?to={}", "/changes?since={}", "/changes.csv?since={}"]
)
def test_a_page_is_shown(site: tuple[Served, Visitor], path: str, moment: str):
    assert site[1].client.get(path.format(moment)).status_code == 200


def test_a_row_takes_news_of_the_last_moment_again_and_is_not_damaged(site: tuple[Served, Visitor]):
    served, visitor = site
    for name in ("Lamp", "Torch"):
        event = f'"id": "Z1", "timestamp": "{LAST}", "data": {{"display_name": "{name}"}}'
        body = f'{{"type": "product.updated", "resource": "products", {event}}}'
        ended = served.ended(served.send("iimmpact", body.encode()))
        assert ended["state"] == "processed", ended["reason"]
    assert served.get("/api/v1/catalog/products/iimmpact/Z1").json()["row"]["name"] == "Torch"
    assert "is damaged" not in visitor.page("/mirror/products/iimmpact/Z1")
