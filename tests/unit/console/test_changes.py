"""The pages of changes and followers: the feed with its filters, one change by columns, and dead changes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import followed
import pytest
from serving import Served
from sqlalchemy import update
from visiting import Visitor, text_of, visiting

from receiver.following import dead_changes
from receiver.following.followers import FOLLOWERS
from receiver.mirror.changes import CHANGES
from receiver.sessions.roles import Role

#: An external id as a hostile sender would write it.
HOSTILE = '"><img src=x onerror=alert(1)>/../%2e‮'


@pytest.fixture
def told(shown: Served) -> str:
    """Send a delivery, and return the number of its change."""
    delivery = shown.send("iimmpact", id="told", data={"display_name": "Lamp", "price": "19.90"})
    assert shown.ended(delivery)["state"] == "processed"
    found = shown.get(f"/api/v1/changes?delivery={delivery}").json()["items"]
    if not found:
        # Make a new body, because another test may have sent the same.
        found = [each for each in shown.get("/api/v1/changes").json()["items"] if each["external_id"] == "told"]
    return str(found[0]["seq"])


def test_the_feed_is_shown_newest_first_with_its_address_and_its_command(operator: Visitor, told: str) -> None:
    page = operator.page("/changes", source="iimmpact")
    assert f'href="/console/changes/{told}"' in page
    assert "GET /api/v1/changes?newest=true&source=iimmpact" in text_of(page)
    assert "hookmirror changes --source iimmpact" in text_of(page)


def test_a_change_is_shown_column_by_column_with_what_caused_it(operator: Visitor, told: str) -> None:
    page = operator.page(f"/changes/{told}")
    assert f"Change {told}: insert of told" in text_of(page)
    assert '<th scope="row"><bdi hx-ignore>name</bdi></th>' in page
    assert 'href="/console/deliveries/' in page
    assert 'href="/console/mirror/products/iimmpact/told"' in page
    assert f"hookmirror changes {told}" in text_of(page)


def test_a_filtered_feed_without_changes_links_to_the_whole_feed(operator: Visitor, told: str) -> None:
    assert "No change matches. Show all" in text_of(operator.page("/changes", table="records", source="sigma"))
    wrong = operator.get("/changes", table="nothing")
    assert (wrong.status_code, "There is no table 'nothing'" in text_of(wrong.text)) == (400, True)


def test_a_page_of_the_feed_ignores_parameters_that_it_sets_itself(operator: Visitor) -> None:
    for name, text in (("after", "1"), ("newest", "false"), ("whole", "true")):
        answer = operator.get("/changes", **{name: text})
        assert (answer.status_code, f"no filter '{name}'" in text_of(answer.text)) == (400, True), name


def test_the_whole_feed_can_be_downloaded_in_its_order(shown: Served, operator: Visitor, told: str) -> None:
    lines = [json.loads(line) for line in operator.page("/changes.jsonl").splitlines()]
    numbers = [line["seq"] for line in lines]
    assert numbers == sorted(set(numbers))
    assert int(told) in numbers
    assert operator.page("/changes.csv").splitlines()[0].startswith("\ufeffseq,table,source,external_id")


def test_an_unknown_change_is_answered_with_a_page_that_says_so(operator: Visitor) -> None:
    for seq in ("0", "-1", "9" * 30, "999999", "x", "1.5", "%00"):
        answer = operator.get(f"/changes/{seq}")
        assert (answer.status_code, "There is no change" in text_of(answer.text)) == (404, True), seq


def test_without_a_follower_the_page_says_how_to_start_one(operator: Visitor) -> None:
    assert "There is no follower. hookmirror follow --to URL" in text_of(operator.page("/followers"))


def test_a_follower_is_shown_with_its_dead_changes_and_its_target_s_message(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        followed.add(served.beside, "<erp>", reason="<script>no</script>", external_id=HOSTILE)
        page = visitor.page("/followers")
        assert "1 of 1 cannot post all changes" in text_of(page)
        assert "422 <script>no</script>" in text_of(page)
        for markup in ("<img", "<script>no", "<erp>"):
            assert markup not in page
        assert "hookmirror follow --list" in text_of(page)


def test_a_follower_is_not_said_to_be_up_to_date_if_changes_are_not_examined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.following.lag.MOST_LAG", 1)
    before = datetime.now(UTC) - timedelta(days=3)
    change = {"table": "products", "source": "sigma", "external_id": "A1", "operation": "update"}
    change |= {"before": {}, "after": {}, "changed_at": before, "recorded_at": before}
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        followed.add(served.beside)
        with served.beside.write() as connection:
            connection.execute(update(FOLLOWERS).values(table="variants"))
            connection.execute(CHANGES.insert(), [{**change, "seq": seq} for seq in (1, 2, 3, 4)])
        assert "0 of those examined, at most 3 d" in text_of(visitor.page("/followers"))


def test_operators_retry_and_drop_dead_changes_with_a_reason(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        followed.add(served.beside)
        answer = visitor.press("/followers/erp/retry", reason="the SKU is there now")
        assert answer.headers["location"].startswith("/console/followers?done=retry_dead_changes&when=")
        assert states(served) == {("erp", "retry"): 1, ("erp", "waiting"): 1}
        assert visitor.press("/followers/erp/dead/1/drop", reason="never wanted").status_code == 303
        assert states(served) == {("erp", "retry"): 1}
        done = [(each["what"], each["reason"]) for each in served.get("/api/v1/actions").json()["items"]]
        assert done[:2] == [
            ("drop dead change", "never wanted"),
            ("retry dead changes", "the SKU is there now"),
        ]


def test_a_retry_for_an_unknown_follower_is_refused_with_what_exists(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        followed.add(served.beside)
        unknown = visitor.press("/followers/nobody/retry")
        assert (unknown.status_code, "The followers are: erp" in text_of(unknown.text)) == (404, True)
        gone = visitor.press("/followers/erp/dead/7/drop")
        assert (gone.status_code, "has no dead change 7" in text_of(gone.text)) == (404, True)


def test_a_viewer_sees_dead_changes_without_buttons(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", role=Role.VIEWER) as (served, visitor):
        followed.add(served.beside)
        main = visitor.page("/followers").partition("<main")[2].partition("</main>")[0]
        assert "no such SKU" in main
        assert "button" not in main
        assert visitor.get("/followers/erp/retry").status_code == 403


def states(served: Served) -> dict[tuple[str, str], int]:
    with served.beside.read() as connection:
        return dead_changes.numbers(connection)
