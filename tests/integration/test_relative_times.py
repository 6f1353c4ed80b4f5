"""Lists and plans with relative times, such as `2h`: each continues with the moments that its beginning meant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from serving import SECRET_KEY, Served, error, serving, wait_until

from receiver.api.tokens import Scope
from receiver.database.identity import identity_of
from receiver.search.cursors import Cursors, ListedIn
from receiver.search.deliveries import LARGEST_ID
from receiver.search.filters import DeliveryFilter

LAMP = {"display_name": "Lamp", "product_code": "L-1"}

#: Webhooks that the server has, each with one change.
SENT = 5

LISTS = ("deliveries?from=2h", "deliveries?to=0s", "deliveries?from=00:00", "changes?newest=true&since=2h")


@pytest.fixture(scope="module")
def served(lend_database, tmp_path_factory):
    with lend_database(tmp_path_factory.mktemp("times")) as url, serving(url, with_worker=True) as running:
        for number in range(SENT):
            running.send("iimmpact", id=f"A{number}", data=LAMP)
        wait_until(lambda: running.count("deliveries", "ended_at IS NULL") == 0, "the worker")
        yield running


def fine(answer: httpx.Response) -> dict:
    assert answer.status_code == 200, answer.text
    return answer.json()


def following(page: dict) -> str | None:
    return page.get("cursor", page["next"])


@pytest.mark.parametrize("path", LISTS)
def test_a_list_with_a_relative_time_continues_to_its_end(served: Served, path):
    page = fine(served.get(f"/api/v1/{path}&limit=2"))
    found = list(page["items"])
    while (cursor := following(page)) is not None:
        page = fine(served.get(f"/api/v1/{path}&limit=2&cursor={cursor}"))
        found += page["items"]
    assert len(found) == SENT
    assert sorted(found, key=lambda each: each.get("seq", each.get("id")), reverse=True) == found


def test_the_feed_with_a_relative_time_continues_to_its_end(served: Served):
    cursor, found = "begin", []
    while items := (page := fine(served.get(f"/api/v1/changes?since=2h&limit=2&cursor={cursor}")))["items"]:
        cursor = page["cursor"]
        found += items
    assert len(found) == SENT


def test_a_page_has_the_moments_of_the_first_page(served: Served):
    began = datetime.now(UTC) - timedelta(hours=1)
    with served.beside.read() as connection:
        identity = identity_of(connection)
    # As of an hour ago, "a second ago" was long before every delivery. As of now, it is after most of them.
    listed = ListedIn("deliveries", DeliveryFilter(begin=began - timedelta(seconds=1)), identity, as_of=began)
    cursor = Cursors([SECRET_KEY]).write(listed, (LARGEST_ID,))
    page = fine(served.get(f"/api/v1/deliveries?from=1s&cursor={cursor}"))
    assert datetime.fromisoformat(page["times"]["from"]) == began - timedelta(seconds=1)
    assert len(page["items"]) == SENT


@pytest.mark.parametrize("other", ["from=3h", "from=2h&to=0s", "to=0s", ""])
def test_a_cursor_of_another_relative_time_belongs_to_other_filters(served: Served, other):
    cursor = following(fine(served.get("/api/v1/deliveries?from=2h&limit=2")))
    answer = served.get(f"/api/v1/deliveries?{other}&cursor={cursor}")
    assert error(answer) == (400, "bad_request")
    assert "belongs to other filters" in answer.json()["message"]


def test_a_page_with_relative_times_says_their_moments_which_give_the_same_list(served: Served):
    page = fine(served.get("/api/v1/deliveries?from=2h&to=0s&limit=2"))
    assert page["times"].keys() == {"from", "to"}
    words = "&".join(f"{name}={moment}" for name, moment in page["times"].items())
    same = fine(served.get(f"/api/v1/deliveries?{words}&limit=2&cursor={page['next']}"))
    assert len(same["items"]) == 2
    assert "times" not in same


def test_the_feed_by_number_says_the_moment_of_a_relative_time(served: Served):
    page = fine(served.get("/api/v1/changes?after=0&since=2h"))
    assert abs(datetime.now(UTC) - timedelta(hours=2) - datetime.fromisoformat(page["times"]["since"])) < timedelta(
        minutes=5
    )


def test_a_plan_with_a_relative_time_that_is_repeated_with_one_key_is_one_run(served: Served):
    path = "/api/v1/runs?source=iimmpact&from=2h&idempotency_key=twice"
    first, again = (served.get(path, scope=Scope.OPERATE, method="POST").json() for _ in range(2))
    assert again == first | {"again": True}
