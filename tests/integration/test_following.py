"""Handing on the change feed over HTTP: nothing is skipped, rows keep their order, a refusal delays one row."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Any

import psycopg
import pytest
from followed import add
from held_locks import held
from in_turn import databases_in_turn
from ports import free_port
from serving import TIMEOUT, wait_until
from shopping import NOON
from sqlalchemy import delete, update
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs
from targets import OK, Endpoint, Posted, Reply, receiving
from templates import copy_tables_to

from receiver.api.exposition import Exposition
from receiver.codec import decode, encode
from receiver.database.database import Database
from receiver.database.errors import is_lock_timeout
from receiver.errors import ConfigurationError, NotThisFeed
from receiver.following import dead_changes, repair
from receiver.following.feed import Feed
from receiver.following.followers import FOLLOWERS, FeedPlace, FollowerForgotten, begin, every
from receiver.following.following import Following, TargetGone
from receiver.following.lag import lags, waiting_since
from receiver.following.lease import FollowerLease, FollowOptions
from receiver.following.target import Target
from receiver.inbox.inbox import Inbox
from receiver.logs import outages
from receiver.mirror.changes import CHANGES, RowChange, record
from receiver.runs.actions import ACTIONS, By, Via
from receiver.search.changes import show_change
from receiver.search.filters import ChangeFilter
from receiver.search.pages import PageBounds

NAME = "erp"

BY = By("somebody", Via.COMMAND)

#: A process on another machine, as it notes that it holds a follower.
ELSEWHERE = "elsewhere:0:1:1:x"


def write(database: Database, *external_ids: str, table: str = "products", source: str = "shop") -> None:
    """Record a change for each of these ids in one transaction."""
    rows = [RowChange(table, source, each, "update", {}, {"active": True}, None, NOON) for each in external_ids]
    with database.write() as connection:
        record(connection, rows, now=NOON)


class Follower:
    """A follower that runs on a thread of its own."""

    def __init__(self, database: Database, target: Target, options: FollowOptions) -> None:
        self.stopping = threading.Event()
        self.error: BaseException | None = None
        self._following = Following(database, target, options, stopping=self.stopping, jitter=lambda: 0.0)
        self._thread = threading.Thread(target=self._run)
        self._target = target
        self._thread.start()

    def _run(self) -> None:
        try:
            self._following.run()
        except BaseException as error:
            self.error = error
        finally:
            self._target.close()

    def join(self) -> None:
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "the follower did not end"

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()


@contextmanager
def following(
    database: Database,
    url: str,
    *,
    secret: bytes | None = None,
    timeout: float = TIMEOUT,
    ask: Any = None,
    **options: Any,
) -> Iterator[Follower]:
    """Run a follower until the end of the block, with short waits."""
    target = Target(url, follower=NAME, secret=secret, timeout=timeout, **({"ask": ask} if ask else {}))
    usual = {"name": NAME, "begin": "start", "poll": 0.02, "first_backoff": 0.04, "tries": 2}
    run = Follower(database, target, FollowOptions(**{**usual, **options}))
    try:
        yield run
    finally:
        run.stopping.set()
        run.join()


def follower(database: Database) -> Any:
    with database.read() as connection:
        return connection.execute(FOLLOWERS.select().where(FOLLOWERS.c.name == NAME)).mappings().first()


def hold_elsewhere(database: Database, **values: Any) -> None:
    """Let a process on another machine hold the follower."""
    with database.write() as connection:
        connection.execute(update(FOLLOWERS).values(holder=ELSEWHERE, **values))


def lag(database: Database) -> Any:
    with database.read() as connection:
        return next(lags(connection, now=NOON))


def expect(endpoint: Endpoint, *external_ids: str) -> None:
    wait_until(lambda: len(endpoint.accepted) >= len(external_ids), f"{external_ids} to be accepted")
    assert endpoint.ids() == list(external_ids)


def refusing(status: int, *refused: str) -> Callable[[Posted, int], Reply]:
    return lambda posted, _: Reply(status) if posted.change["external_id"] in refused else OK


# ── posts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_change_is_posted_as_the_api_shows_it_with_its_key_in_body_and_header(database):
    write(database, "A1")
    with receiving() as endpoint, following(database, endpoint.url):
        expect(endpoint, "A1")
    (posted,) = endpoint.accepted
    with database.read() as connection:
        row = connection.execute(CHANGES.select()).mappings().one()
    shown = decode(encode(show_change(row)))
    assert decode(posted.content) == {"key": posted.headers["idempotency-key"], **shown}
    assert posted.headers["idempotency-key"].split(":")[1] == "1"
    assert posted.headers["content-type"] == "application/json"
    assert posted.headers["host"] == f"127.0.0.1:{endpoint.port}"


def test_a_secret_signs_exactly_the_posted_bytes(database):
    write(database, "A1")
    with receiving() as endpoint, following(database, endpoint.url, secret=b"secret of this test"):
        expect(endpoint, "A1")
    (posted,) = endpoint.accepted
    digest = hmac.new(b"secret of this test", posted.content, hashlib.sha256).hexdigest()
    assert posted.headers["x-webhook-signature"] == f"sha256={digest}"


def test_the_cookies_of_a_target_are_not_sent_to_it(database):
    write(database, "A1", "A2")
    reply = Reply(headers=(("Set-Cookie", "session=secret; Path=/"),))
    with receiving(lambda *_: reply) as endpoint, following(database, endpoint.url):
        expect(endpoint, "A1", "A2")
    assert [posted.headers.get("cookie") for posted in endpoint.posts] == [None, None]


def test_a_user_in_the_url_is_used_to_sign_in_and_not_stored(database):
    write(database, "A1")
    with receiving() as endpoint, following(database, endpoint.url.replace("//", "//me:hidden@") + "?token=hidden"):
        expect(endpoint, "A1")
    assert endpoint.accepted[0].headers["authorization"] == "Basic bWU6aGlkZGVu"
    assert "hidden" not in str(follower(database))


def test_changes_are_posted_in_commit_order_and_continue_after_the_cursor_at_a_restart(database):
    write(database, *(f"A{number}" for number in range(250)))
    with receiving() as endpoint:
        with following(database, endpoint.url):
            expect(endpoint, *(f"A{number}" for number in range(250)))
        assert (follower(database)["seq"], follower(database)["holder"]) == (250, None)
        write(database, "B1", "A0")
        with following(database, endpoint.url):
            wait_until(lambda: len(endpoint.accepted) == 252, "the new ones")
            assert endpoint.ids()[250:] == ["B1", "A0"]
    assert len(endpoint.posts) == 252, "nothing was posted twice"


def test_a_follower_may_take_one_table_of_one_source(database):
    write(database, "V1", table="variants")
    write(database, "X1", source="other")
    write(database, "P1")
    write(database, "X2", source="other")
    wanted = ChangeFilter(table="products", source="shop")
    with receiving() as endpoint, following(database, endpoint.url, wanted=wanted):
        expect(endpoint, "P1")
        wait_until(lambda: follower(database)["seq"] == 4, "the cursor to pass unwanted changes")


def test_a_follower_does_not_wait_between_two_reads_of_unwanted_changes(database, monkeypatch):
    monkeypatch.setattr("receiver.search.windows.FIRST_WINDOW", 5)
    monkeypatch.setattr("receiver.following.feed.PageBounds", partial(PageBounds, seconds=0.0))
    write(database, *(f"X{number}" for number in range(40)), source="other")
    write(database, "P1")
    options = {"wanted": ChangeFilter(source="shop"), "poll": 2 * TIMEOUT}
    with receiving() as endpoint, following(database, endpoint.url, **options):
        expect(endpoint, "P1")


@pytest.mark.parametrize(("begin", "seen"), [("now", ["NEW"]), ("1", ["B", "NEW"]), ("start", ["A", "B", "NEW"])])
def test_a_new_follower_begins_where_it_is_told(database, begin, seen):
    write(database, "A", "B")
    with receiving() as endpoint, following(database, endpoint.url, begin=begin):
        wait_until(lambda: follower(database), "the follower to begin")
        write(database, "NEW")
        expect(endpoint, *seen)


def test_from_moves_an_existing_follower_only_on_request(database):
    write(database, "A", "B")
    with receiving() as endpoint:
        with following(database, endpoint.url):
            expect(endpoint, "A", "B")
        with following(database, endpoint.url, begin="start"):
            write(database, "C")
            expect(endpoint, "A", "B", "C")
        with following(database, endpoint.url, begin="start", move=True):
            expect(endpoint, "A", "B", "C", "A", "B", "C")
    keys = [posted.headers["idempotency-key"] for posted in endpoint.accepted]
    assert keys[:3] == keys[3:], "a change has the same key whenever it is posted"


def test_a_follower_is_shown_with_the_target_and_the_filter_of_its_latest_process(database):
    write(database, "A")
    with receiving() as before, receiving() as after:
        with following(database, before.url):
            expect(before, "A")
        with following(database, after.url, wanted=ChangeFilter(table="products", source="shop")):
            wait_until(lambda: follower(database)["target"] == after.url, "the other target")
    assert (follower(database)["table"], follower(database)["source"]) == ("products", "shop")


# ── targets in trouble ────────────────────────────────────────────────────────────────────────────────────────


@databases_in_turn(
    "case",
    [
        (Reply(500, content=b"oops"), "answered 500: oops"),
        (Reply(503), "answered 503"),
        (Reply(429), "answered 429"),
        (Reply(408), "answered 408"),
        (Reply(425), "answered 425"),
        (
            Reply(302, (("Location", "http://127.0.0.1:9/x"),)),
            "a redirect to http://127.0.0.1:9/x, which is not followed",
        ),
        (Reply(hangs=True), "no answer within 0.3 s: let the target answer before it does the work"),
        (Reply(drips=True), "no answer within 0.3 s"),
        (Reply(cuts=True), "RemoteProtocolError"),
    ],
    ids=lambda case: case[1][:40],
)
def test_a_failing_target_is_tried_again_with_the_same_key_and_nothing_is_skipped(database, case):
    trouble, told = case
    write(database, "A", "B")
    says = []

    def reply(posted: Posted, before: int) -> Reply:
        says.append((follower(database) or {"trouble": None})["trouble"])
        return OK if before or posted.change["external_id"] == "B" else trouble

    waits = 0.3 if trouble.hangs or trouble.drips else TIMEOUT
    with receiving(reply) as endpoint, following(database, endpoint.url, timeout=waits):
        wait_until(lambda: "B" in endpoint.ids(), "both to be accepted")
        wait_until(lambda: follower(database)["trouble"] is None, "the trouble to be over")
    keys = [posted.headers["idempotency-key"] for posted in endpoint.posts]
    # On a busy machine, an answer that comes may be too late as well.
    tries = [len([*group]) for _, group in groupby(keys)]
    assert (len(tries), tries[0] > 1) == (2, True)
    assert told in says[1]


def test_a_follower_waits_for_retry_after(database):
    write(database, "A")
    came, refused = [], Reply(429, (("Retry-After", "1"),))

    def reply(posted: Posted, before: int) -> Reply:
        came.append(time.monotonic())
        return OK if before else refused

    with receiving(reply) as endpoint, following(database, endpoint.url):
        expect(endpoint, "A")
    first, second = came
    assert second - first >= 1, "it is left alone for so long"


def test_an_unreachable_target_gets_everything_when_it_is_back(database):
    write(database, "A", "B")
    port = free_port()
    with following(database, f"http://127.0.0.1:{port}/changes"):
        wait_until(lambda: (follower(database) or {}).get("trouble"), "the trouble to be told")
        assert "ConnectError" in follower(database)["trouble"]
        assert "start the target, or correct --to" in follower(database)["trouble"]
        with receiving(port=port) as endpoint:
            expect(endpoint, "A", "B")


def test_a_410_ends_the_follower_and_keeps_its_cursor(database):
    write(database, "A", "B")
    with receiving(refusing(410, "B")) as endpoint, following(database, endpoint.url) as run:
        wait_until(lambda: run.is_over, "the end")
    assert isinstance(run.error, TargetGone)
    assert "wants no more changes" in str(run.error)
    assert (follower(database)["seq"], follower(database)["holder"]) == (1, None)
    assert follower(database)["trouble"] == "The target answered 410."


def test_an_endless_answer_is_read_in_part_and_counts(database):
    write(database, "A", "B")
    with receiving(lambda *_: Reply(content=b"x" * 3_000_000)) as endpoint, following(database, endpoint.url):
        expect(endpoint, "A", "B")


def test_the_end_does_not_wait_for_a_hanging_target_and_keeps_the_cursor(database, monkeypatch):
    monkeypatch.setattr("receiver.following.target.END_GRACE", 0.1)
    write(database, "A", "B")
    hanging = lambda posted, _: Reply(hangs=True) if posted.change["external_id"] == "B" else OK  # noqa: E731
    with receiving(hanging) as endpoint:
        with following(database, endpoint.url, timeout=10 * TIMEOUT):
            wait_until(lambda: len(endpoint.posts) == 2, "the second")
        assert (follower(database)["seq"], follower(database)["holder"]) == (1, None)


def test_a_failure_of_the_target_outlives_its_process_and_ends_with_the_next_acceptance(database):
    write(database, "A")
    with receiving(lambda *_: Reply(502)) as endpoint:
        with following(database, endpoint.url):
            wait_until(lambda: (follower(database) or {}).get("trouble"), "the failure")
        since, posts = follower(database)["trouble_since"], len(endpoint.posts)
        with following(database, endpoint.url):
            wait_until(lambda: len(endpoint.posts) > posts + 1, "the next process to see it")
            assert follower(database)["trouble_since"] == since
        endpoint.reply = lambda *_: OK
        with following(database, endpoint.url):
            wait_until(lambda: follower(database)["trouble"] is None, "the end of the failure")


# ── addresses of a host name ──────────────────────────────────────────────────────────────────────────────────


def test_a_name_that_leads_to_another_kind_of_address_than_before_is_not_followed_there(database):
    write(database, "A")
    with receiving() as endpoint:
        url = f"http://erp.example:{endpoint.port}/changes"
        with following(database, url, ask=lambda *_: ["127.0.0.1"]):
            expect(endpoint, "A")
        assert endpoint.accepted[0].headers["host"] == f"erp.example:{endpoint.port}"
        with database.write() as connection:
            connection.execute(update(FOLLOWERS).values(reach="the public network"))
        write(database, "B")
        with following(database, url, ask=lambda *_: ["127.0.0.1"]):
            wait_until(lambda: follower(database)["trouble"], "the trouble to be told")
            assert (
                "resolves to this machine (127.0.0.1), but earlier to the public network"
                in (follower(database)["trouble"])
            )
        assert endpoint.ids() == ["A"]
        with following(database, url, ask=lambda *_: ["127.0.0.1"], new_address=True):
            expect(endpoint, "A", "B")


def test_a_name_without_an_address_is_retried(database):
    def nowhere(*_: object) -> Sequence[str]:
        raise OSError("Name or service not known")

    write(database, "A")
    with following(database, "http://erp.example/changes", ask=nowhere) as run:
        wait_until(lambda: (follower(database) or {}).get("trouble"), "the trouble to be told")
        assert not run.is_over
        assert "host erp.example cannot be resolved" in follower(database)["trouble"]
        assert "correct --to, or mend its DNS" in follower(database)["trouble"]


# ── refused changes ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_refused_change_is_dead_and_delays_only_later_changes_of_its_row(database):
    write(database, "A", "BAD", "C", "BAD", "D")
    with receiving(refusing(422, "BAD")) as endpoint, following(database, endpoint.url):
        expect(endpoint, "A", "C", "D")
        wait_until(lambda: follower(database)["seq"] == 5, "the cursor to be saved")
    assert [posted.change["seq"] for posted in endpoint.posts] == [1, 2, 2, 3, 5], "twice, and never the later one"
    assert (lag(database).dead, lag(database).waiting) == (1, 1)


def test_a_target_is_not_in_trouble_for_a_change_that_is_dead(database):
    write(database, "A", "BAD")
    with receiving(refusing(422, "BAD")) as endpoint, following(database, endpoint.url):
        expect(endpoint, "A")
        wait_until(lambda: lag(database).dead == 1, "the change to be dead")
        assert (follower(database)["trouble"], follower(database)["trouble_since"]) == (None, None)
        endpoint.reply = lambda *_: Reply(502)
        repair.retry_dead(database, NAME, by=BY)
        wait_until(lambda: "502" in (follower(database)["trouble"] or ""), "the failure")
        endpoint.reply = refusing(422, "BAD")
        wait_until(lambda: follower(database)["trouble"] is None, "the end of the failure")
        assert lag(database).dead == 1


def test_dead_changes_are_sent_again_in_the_order_of_their_row(database):
    write(database, "BAD", "BAD", "OTHER", "BAD")
    with receiving(refusing(400, "BAD")) as endpoint, following(database, endpoint.url):
        expect(endpoint, "OTHER")
        wait_until(lambda: lag(database).waiting == 2, "the later ones to wait")
        endpoint.reply = lambda *_: OK
        assert repair.retry_dead(database, NAME, by=BY) == 1
        write(database, "BAD")
        expect(endpoint, "OTHER", "BAD", "BAD", "BAD", "BAD")
    assert [posted.change["seq"] for posted in endpoint.accepted] == [3, 1, 2, 4, 5]
    assert (lag(database).dead, lag(database).waiting) == (0, 0)


def test_a_change_that_is_refused_again_stays_dead_and_later_ones_keep_waiting(database):
    write(database, "BAD", "BAD")
    with receiving(refusing(400, "BAD")) as endpoint, following(database, endpoint.url):
        wait_until(lambda: follower(database) and lag(database).waiting == 1, "the later one to wait")
        posts = len(endpoint.posts)
        repair.retry_dead(database, NAME, by=BY)
        wait_until(lambda: len(endpoint.posts) > posts and lag(database).dead == 1, "the try")
        assert (lag(database).dead, lag(database).waiting) == (1, 1)
    assert {posted.change["seq"] for posted in endpoint.posts} == {1}


def test_a_dead_change_that_gets_another_5xx_again_does_not_hold_up_the_other_dead_ones(database):
    write(database, "BAD", "OTHER")
    with receiving(lambda *_: Reply(400)) as endpoint, following(database, endpoint.url):
        wait_until(lambda: follower(database) and lag(database).dead == 2, "both to be dead")
        endpoint.reply = refusing(507, "BAD")
        repair.retry_dead(database, NAME, by=BY)
        expect(endpoint, "OTHER")
        wait_until(lambda: lag(database).dead == 1, "the refusal")


def test_a_dead_change_can_be_dropped_and_later_ones_are_sent(database):
    write(database, "BAD", "BAD")
    only_first = lambda posted, _: Reply(400) if posted.change["seq"] == 1 else OK  # noqa: E731
    with receiving(only_first) as endpoint, following(database, endpoint.url):
        wait_until(lambda: follower(database) and lag(database).waiting == 1, "the later one to wait")
        with pytest.raises(ConfigurationError, match="has no dead change 7"):
            repair.drop_dead(database, NAME, 7, by=BY)
        with pytest.raises(ConfigurationError, match="has no dead change 2"):
            repair.drop_dead(database, NAME, 2, by=BY)
        assert (lag(database).dead, lag(database).waiting) == (1, 1)
        repair.drop_dead(database, NAME, 1, by=BY)
        wait_until(lambda: [posted.change["seq"] for posted in endpoint.accepted] == [2], "the later one")


def test_a_dead_change_is_not_dropped_while_a_process_lists_another_change_behind_it(database):
    """Otherwise that one would wait for ever, because the removal that makes it due would be over."""
    if not database.is_postgresql:
        pytest.skip("SQLite has no locks of rows")
    add(database, NAME)
    with held(database, "SELECT 1 FROM followers FOR UPDATE"), pytest.raises(OperationalError) as error:
        repair.drop_dead(database.beside(connections=1, lock_seconds=0.05), NAME, 1, by=BY)
    assert is_lock_timeout(error.value)
    assert (lag(database).dead, lag(database).waiting) == (1, 1)


def test_a_strict_follower_skips_nothing(database):
    write(database, "BAD", "C")
    with receiving(refusing(422, "BAD")) as endpoint, following(database, endpoint.url, strict=True):
        wait_until(lambda: len(endpoint.posts) > 4, "more tries than otherwise")
        assert lag(database).dead == 0
        endpoint.reply = lambda *_: OK
        expect(endpoint, "BAD", "C")


def test_a_target_that_refuses_everything_makes_ten_changes_dead_and_the_follower_waits(database):
    write(database, *(f"A{number}" for number in range(30)))
    with receiving(lambda *_: Reply(401)) as endpoint, following(database, endpoint.url):
        wait_until(
            lambda: "the next one is retried until accepted" in ((follower(database) or {}).get("trouble") or ""),
            "the brake",
        )
        assert lag(database).dead == 10
        endpoint.reply = lambda *_: OK
        expect(endpoint, *(f"A{number}" for number in range(10, 30)))


def test_a_restart_makes_no_more_changes_dead_while_the_target_refuses_everything(database):
    write(database, *(f"A{number}" for number in range(30)))
    with receiving(lambda *_: Reply(401)) as endpoint:
        for posts in (12, 14, 16):
            with following(database, endpoint.url, tries=1):
                wait_until(lambda posts=posts: len(endpoint.posts) >= posts, "ten changes, and tries of the next one")
        assert lag(database).dead == 10
        endpoint.reply = refusing(422, "A11")
        with following(database, endpoint.url, tries=1):
            expect(endpoint, "A10", *(f"A{number}" for number in range(12, 30)))
    assert lag(database).dead == 11


def test_another_target_may_refuse_changes_although_the_one_before_refused_everything(database):
    write(database, *(f"A{number}" for number in range(15)))
    with receiving(lambda *_: Reply(401)) as endpoint, following(database, endpoint.url, tries=1):
        wait_until(lambda: len(endpoint.posts) > 11, "the brake")
    with receiving(refusing(422, "A10")) as endpoint, following(database, endpoint.url, tries=1):
        expect(endpoint, "A11", "A12", "A13", "A14")


def test_what_a_former_target_refused_does_not_count_after_a_restart_with_the_new_one_either(database):
    write(database, *(f"A{number}" for number in range(15)))
    with receiving(lambda *_: Reply(401)) as endpoint, following(database, endpoint.url, tries=1):
        wait_until(lambda: len(endpoint.posts) > 11, "the brake")
    with receiving(lambda *_: Reply(503)) as endpoint:
        with following(database, endpoint.url, tries=1):
            wait_until(lambda: "503" in (follower(database)["trouble"] or ""), "the new target, which accepts nothing")
        endpoint.reply = refusing(422, "A10")
        with following(database, endpoint.url, tries=1):
            expect(endpoint, "A11", "A12", "A13", "A14")


def test_a_500_about_one_change_is_distinguished_from_a_broken_target_by_the_next_row(database):
    write(database, "BAD", "BAD", "C", "D")
    with receiving(refusing(500, "BAD")) as endpoint, following(database, endpoint.url):
        expect(endpoint, "C", "D")
        wait_until(lambda: follower(database)["seq"] == 4, "the cursor to be saved")
    assert (lag(database).dead, lag(database).waiting) == (1, 1)
    assert [posted.change["external_id"] for posted in endpoint.posts].count("C") == 1, "it is not sent twice for that"


def test_after_a_failure_of_the_database_it_is_found_out_anew_whether_a_change_is_to_blame(database, monkeypatch):
    """The next change, which the target accepted before, is posted once more: nothing else could show it."""
    bury, failures = dead_changes.bury, iter([OperationalError("INSERT", None, Exception("the connection was closed"))])

    def fail_once(*given: Any, **named: Any) -> None:
        for error in failures:
            raise error
        bury(*given, **named)

    monkeypatch.setattr(dead_changes, "bury", fail_once)
    write(database, "BAD", "C")
    with receiving(refusing(500, "BAD")) as endpoint, following(database, endpoint.url):
        wait_until(lambda: follower(database) and lag(database).dead == 1, "the change to be dead")
        assert endpoint.ids() == ["C", "C"]


def test_a_change_answered_with_500_delays_no_later_one(database):
    write(database, "BAD")
    with receiving(refusing(500, "BAD")) as endpoint, following(database, endpoint.url):
        wait_until(lambda: len(endpoint.posts) > 3, "several tries")
        assert lag(database).dead == 0, "without another change, nothing tells whose fault it is"
        write(database, "C")
        expect(endpoint, "C")


@databases_in_turn("status", [501, 507, 521])
def test_a_change_answered_with_another_5xx_is_never_dead(database, status):
    write(database, "A", "B")
    reply = lambda posted, before: Reply(status) if posted.change["external_id"] == "A" and before < 5 else OK  # noqa: E731
    with receiving(reply) as endpoint, following(database, endpoint.url):
        expect(endpoint, "A", "B")
    assert lag(database).dead == 0


def test_refusals_count_only_in_a_row(database):
    write(database, "A")
    reply = lambda _, before: OK if before > 6 else Reply(503 if before % 2 else 404)  # noqa: E731
    with receiving(reply) as endpoint, following(database, endpoint.url):
        expect(endpoint, "A")
    assert lag(database).dead == 0


def test_a_target_that_answers_500_to_everything_makes_no_change_dead(database):
    write(database, "A", "B", "C")
    with receiving(lambda *_: Reply(500)) as endpoint, following(database, endpoint.url):
        wait_until(lambda: len(endpoint.posts) > 12, "several tries")
        assert lag(database).dead == 0
        endpoint.reply = lambda *_: OK
        expect(endpoint, "A", "B", "C")


# ── leases and cursors ────────────────────────────────────────────────────────────────────────────────────────


def test_of_two_processes_with_one_name_one_works_and_the_other_takes_over(database):
    with receiving() as endpoint, following(database, endpoint.url) as first:
        wait_until(lambda: follower(database), "the first to begin")
        with following(database, endpoint.url):
            write(database, "A", "B")
            expect(endpoint, "A", "B")
            first.stopping.set()
            first.join()
            write(database, "C")
            expect(endpoint, "A", "B", "C")
    assert len(endpoint.posts) == 3


def test_a_process_that_takes_the_lease_again_keeps_the_time_of_an_acceptance_by_another_one(database):
    target, options = Target("http://127.0.0.1:9/", follower=NAME), FollowOptions(name=NAME)
    with closing(target):
        lease = FollowerLease(database, Feed(database, options.wanted), target, options, threading.Event())
        assert lease.take()
        lease.accepted()
        lease.save(holder=None)
        later = datetime.now(UTC) + timedelta(minutes=1)
        with database.write() as connection:
            connection.execute(update(FOLLOWERS).values(accepted_at=later))
        assert lease.take()
        lease.save()
    assert follower(database)["accepted_at"] == later


def test_a_follower_says_that_its_stored_cursor_went_back_as_in_a_restored_database(database):
    with receiving() as endpoint, capture_logs() as logs, following(database, endpoint.url):
        write(database, "A")
        wait_until(lambda: (follower(database) or {}).get("seq") == 1, "the first change to be stored")
        older = dict(follower(database)) | {"holder": None}
        write(database, "B")
        wait_until(lambda: follower(database)["seq"] == 2, "the second change to be stored")
        with database.write() as connection:
            connection.execute(update(FOLLOWERS).values(older))
        write(database, "C")
        wait_until(lambda: follower(database)["seq"] == 3, "the third change to be stored")
    (line,) = (each for each in logs if each["event"].startswith("the stored cursor went back"))
    assert (line["before"], line["after"]) == (2, 1)
    (lost,) = (each for each in logs if each["event"] == "this process no longer holds the follower")
    assert "or the database was restored" in lost["reason"]


def test_a_process_that_is_stopped_before_it_took_the_lease_warns_of_nothing(database):
    stopping = threading.Event()
    stopping.set()
    target = Target("http://127.0.0.1:9/changes", follower=NAME)
    with closing(target), capture_logs() as logged:
        Following(database, target, FollowOptions(name=NAME), stopping=stopping).run()
    assert logged == []
    assert follower(database) is None


def test_a_process_of_another_machine_loses_the_lease_by_the_clock_of_the_other(database):
    write(database, "A")
    with receiving() as endpoint:
        with following(database, endpoint.url):
            expect(endpoint, "A")
        hold_elsewhere(database, seen_at=NOON.replace(year=2099))
        write(database, "B")
        with following(database, endpoint.url, lease=0.3):
            expect(endpoint, "A", "B")


def test_a_process_of_another_machine_loses_the_lease_after_its_last_sign_of_life_although_others_were_seen(database):
    write(database, "A")
    with receiving() as endpoint:
        with following(database, endpoint.url):
            expect(endpoint, "A")
        hold_elsewhere(database, seen_at=datetime.now(UTC))
        write(database, "B")
        with capture_logs() as logged, following(database, endpoint.url, lease=0.3):
            wait_until(lambda: any(line["event"].startswith("waiting:") for line in logged), "the other process")
            hold_elsewhere(database, seen_at=datetime.now(UTC))
            expect(endpoint, "A", "B")


def test_a_process_gives_signs_of_life_while_it_waits_as_long_as_its_target_asked_for(database, monkeypatch):
    monkeypatch.setattr("receiver.following.lease.SIGN_EVERY", 0.05)
    write(database, "A")
    away = lambda *_: Reply(503, (("Retry-After", "3600"),))  # noqa: E731
    with receiving(away) as endpoint, following(database, endpoint.url):
        wait_until(lambda: (follower(database) or {}).get("trouble"), "the failure")
        before = follower(database)["seen_at"]
        wait_until(lambda: follower(database)["seen_at"] > before, "a sign of life")
    assert len(endpoint.posts) == 1


def test_a_process_that_lost_the_lease_sends_nothing_more(database):
    # It finds out when it stores that the change is dead.
    refuse = lambda *_: Reply(422)  # noqa: E731
    with capture_logs() as logged, receiving(refuse) as endpoint, following(database, endpoint.url, lease=10 * TIMEOUT):
        wait_until(lambda: (follower(database) or {}).get("holder"), "the lease")
        hold_elsewhere(database)
        write(database, "A", "B")
        wait_until(lambda: any("no longer holds the follower" in line["event"] for line in logged), "the loss")
        write(database, "C")
    assert {posted.change["external_id"] for posted in endpoint.posts} <= {"A"}, "what was under way"
    assert follower(database)["holder"] == ELSEWHERE, "it is not taken from the other at the end"


@pytest.mark.parametrize("lost", ["the end", "the change itself"])
def test_a_cursor_of_another_feed_stops_the_follower_until_it_is_moved(database, lost):
    write(database, "A", "B")
    with receiving() as endpoint:
        with following(database, endpoint.url):
            expect(endpoint, "A", "B")
        with database.write() as connection:
            connection.execute(delete(CHANGES).where(CHANGES.c.seq == 2))
            if lost == "the change itself":
                row = {"seq": 2, "table": "products", "source": "shop", "external_id": "OTHER", "operation": "insert"}
                told = {"before": {}, "after": {}, "changed_at": NOON, "recorded_at": NOON}
                connection.execute(CHANGES.insert(), [{**row, **told}])
        with following(database, endpoint.url) as run:
            wait_until(lambda: run.is_over, "the end")
        assert isinstance(run.error, NotThisFeed)
        assert ("ends with 1" if lost == "the end" else "another change of this number") in str(run.error)
        assert "--move" in str(run.error)
        assert (follower(database)["trouble"], follower(database)["holder"]) == (str(run.error), None)
        with following(database, endpoint.url, begin="now", move=True):
            wait_until(lambda: follower(database)["holder"], "the follower to continue")
            write(database, "C")
            expect(endpoint, "A", "B", "C")


def test_a_follower_says_that_the_files_of_its_database_were_replaced_and_what_to_do(tmp_path):
    path = tmp_path / "hookmirror.db"
    copy_tables_to(f"sqlite:///{path}")
    with (
        closing(Database(f"sqlite:///{path}")) as database,
        receiving() as endpoint,
        capture_logs() as lines,
        following(database, endpoint.url),
    ):
        wait_until(lambda: (follower(database) or {}).get("holder"), "the follower")
        path.with_suffix(".new").write_bytes(path.read_bytes())
        path.with_suffix(".new").rename(path)
        told = lambda: [line for line in lines if line["event"].startswith("files of the database")]  # noqa: E731
        wait_until(told, "the line")
    (line,) = told()
    assert "such as by a restore; nothing is posted" in line["event"]
    assert "Stop every process that has the database open" in line["reason"]
    assert not [line for line in lines if line["event"] == "the database does not answer"]


def test_a_follower_says_that_the_database_answers_again_a_little_later_if_it_has_just_said_so(database, monkeypatch):
    reads, after = iter([False, True, False]), Feed.after

    def fail_at_times(feed: Feed, seq: int) -> Any:
        if not next(reads, True):
            raise OperationalError("SELECT", None, psycopg.OperationalError("the server closed the connection"))
        return after(feed, seq)

    monkeypatch.setattr(outages, "BETWEEN_ENDS", 0.5)
    monkeypatch.setattr(Feed, "after", fail_at_times)
    with capture_logs() as lines, receiving() as endpoint, following(database, endpoint.url):
        told = lambda: [line["event"] for line in lines if line["event"].startswith("the database")]  # noqa: E731
        wait_until(lambda: len(told()) > 3, "the second end")
    assert told() == ["the database does not answer", "the database answers again"] * 2


def test_a_beginning_after_the_end_is_refused(database):
    with following(database, "http://127.0.0.1:9/", begin="7") as run:
        wait_until(lambda: run.is_over, "the end")
    assert "ends with 0, and --from 7 lies beyond" in str(run.error)


def test_the_lag_of_a_follower_is_a_metric(database):
    with receiving(lambda *_: Reply(503)) as endpoint, following(database, endpoint.url):
        wait_until(lambda: follower(database), "the follower to begin")
        write(database, "A", "B")
        shown = Exposition(Inbox(database), []).text().decode()
    assert f'hookmirror_follow_lag_changes{{name="{NAME}"}} 2.0' in shown
    seconds = next(line for line in shown.splitlines() if line.startswith("hookmirror_follow_lag_seconds{"))
    assert float(seconds.rpartition(" ")[2]) > 0


def test_a_stopped_follower_with_a_filter_is_behind_even_if_many_other_changes_come_first(database, monkeypatch):
    monkeypatch.setattr("receiver.following.lag.MOST_LAG", 3)
    with receiving() as endpoint, following(database, endpoint.url, wanted=ChangeFilter(table="variants")):
        wait_until(lambda: follower(database), "the follower to begin")
    write(database, "A", "B", "C")
    assert lag_after_an_hour(database) == (0, 0.0), "the end of the feed was examined"
    write(database, "D")
    assert lag_after_an_hour(database) == (0, 3_600.0)
    write(database, "E", table="variants")
    assert lag_after_an_hour(database) == (0, 3_600.0)


def test_all_followers_together_examine_a_bounded_number_of_changes(database, monkeypatch):
    monkeypatch.setattr("receiver.following.lag.MOST_LAG", 6)
    write(database, *"ABCDEFGHIJ")
    places = {"first": 0, "nearly": 9, "second": 0, "there": 10}
    with database.write() as connection:
        for name, seq in places.items():
            begin(connection, name, FeedPlace(seq, ""), {"target": "http://127.0.0.1:9/"}, now=NOON)
    with database.read() as connection:
        found = {lag.follower["name"]: (lag.changes, lag.seconds) for lag in lags(connection, now=NOON)}
        waiting = waiting_since(connection, every(connection), NOON)
    assert found == {"first": (2, 0.0), "nearly": (1, 0.0), "second": (2, 0.0), "there": (0, 0.0)}
    assert waiting == dict.fromkeys(("first", "nearly", "second"), NOON)


def lag_after_an_hour(database: Database) -> tuple[int, float]:
    with database.read() as connection:
        found = next(lags(connection, now=NOON + timedelta(hours=1)))
    return found.changes, found.seconds


def test_a_follower_is_forgotten_only_if_no_process_holds_it(database):
    with receiving() as endpoint:
        with following(database, endpoint.url):
            wait_until(lambda: (follower(database) or {}).get("holder"), "the lease")
            with pytest.raises(ConfigurationError, match="end it first"):
                repair.forget(database, NAME, by=BY)
        repair.forget(database, NAME, by=BY)
    assert follower(database) is None
    with database.read() as connection:
        assert [row.what for row in connection.execute(ACTIONS.select())] == ["forget follower"]
    with pytest.raises(ConfigurationError, match=r"no follower 'erp'\. The followers are: none"):
        repair.retry_dead(database, NAME, by=BY)


def test_a_follower_is_forgotten_after_its_process_on_another_machine_was_silent_for_two_minutes(database):
    with receiving() as endpoint, following(database, endpoint.url):
        wait_until(lambda: follower(database), "the follower to begin")
    for silent, is_forgotten in ((timedelta(minutes=1), False), (timedelta(minutes=3), True)):
        hold_elsewhere(database, seen_at=datetime.now(UTC) - silent)
        with nullcontext() if is_forgotten else pytest.raises(ConfigurationError, match=r"elsewhere:1 .*two minutes"):
            repair.forget(database, NAME, by=BY)
    assert follower(database) is None


def test_a_process_whose_follower_was_forgotten_meanwhile_ends_and_creates_none(database):
    write(database, "A")
    with receiving() as endpoint, following(database, endpoint.url) as run:
        expect(endpoint, "A")
        with database.write() as connection:
            connection.execute(delete(FOLLOWERS))
        wait_until(lambda: run.is_over, "the end")
    assert isinstance(run.error, FollowerForgotten)
    assert "The follower erp was removed" in str(run.error)
    assert (follower(database), endpoint.ids()) == (None, ["A"])
