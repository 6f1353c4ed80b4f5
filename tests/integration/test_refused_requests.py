"""Refused requests are kept for a while, and accepted once a secret of the settings verifies them."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from faults import each_death
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from losing import LosingOne
from senders import APP_KEY, SECRETS, SOURCES, body, sent
from serving import Served, serving, wait_until
from shopping import NOON, named, new_shop
from sqlalchemy import select
from sqlalchemy.exc import DataError
from structlog.testing import capture_logs
from systems import ON_BOTH, database_system  # noqa: F401

from examples import examples
from handlers.catalog import Product
from receiver.dialects.sources import Source
from receiver.errors import KeyUsed, NotVerified, ReasonWanted
from receiver.inbox import refused
from receiver.inbox.ids import first_id_at
from receiver.inbox.refused import REQUESTS, Bounds, Refusal
from receiver.ingest import keeping, reverifying
from receiver.ingest.admission import Request
from receiver.ingest.keeping import QUEUE, Keeper
from receiver.ingest.reverifying import Reverified, verify_again
from receiver.runs import actions
from receiver.runs.refused import by_settings, drop_refused, verify_refused
from receiver.testing import Webhooks
from receiver.verify.request import WebhookRequest
from receiver.verify.signatures import HmacSha256
from receiver.verify.verifiers import Credentials, Secret

BOUNDS = Bounds(1_000, 1 << 24, timedelta(hours=24))
NEW = Credentials(secrets=(Secret(b"the new secret"),))
BOTH = Credentials(secrets=(Secret(b"the new secret"), Secret(b"the old secret")))


def kept(served: Served, where: str = "true") -> int:
    return served.count("refused", where)


def renew(served: Served, **sources: Any) -> None:
    """Put other settings of sources in force, as a reload does."""
    runtime = served.app._runtime
    changed = {
        name: replace(source, credentials=sources.get(name, source.credentials))
        for name, source in runtime.sources.items()
    }
    served.app._keeper.renew(changed, BOUNDS)


@contextmanager
def serving_with_old_secrets(url: str, **more: Any):
    old = {**SOURCES, "sigma": {"secrets": ["the old secret"]}}
    with serving(url, sources=old, **more) as served:
        yield served


@ON_BOTH
def test_a_request_with_a_wrong_signature_is_kept_and_accepted_when_its_secret_is_added(mirror_url):
    with serving_with_old_secrets(mirror_url) as served:
        content, headers = sent("sigma", body("sigma"))
        assert served.post("sigma", content, headers).status_code == 401
        wait_until(lambda: kept(served), "the request to be kept")
        renew(served, sigma=Credentials(secrets=(Secret(SECRETS["sigma"].encode()), Secret(b"the old secret"))))
        wait_until(lambda: served.count() == 1, "its delivery")
        assert kept(served) == 0
        (delivery,) = served.get("/api/v1/deliveries").json()["items"]
    assert (delivery["state"], delivery["event_type"]) == ("pending", "entity.updated")


@ON_BOTH
def test_a_request_with_an_empty_body_is_shown(mirror_url):
    with serving(mirror_url) as served:
        _, headers = sent("sigma", body("sigma"))
        assert served.post("sigma", b"", headers).status_code == 401
        wait_until(lambda: kept(served), "the request to be kept")
        (shown,) = served.get("/api/v1/refused").json()["items"]
        assert served.get(f"/api/v1/refused/{shown['id']}").json() == shown
    assert (shown["begins"], shown["begins_encoding"]) == ("", "text")


def test_a_start_with_a_new_secret_verifies_earlier_requests(mirror_url):
    with serving_with_old_secrets(mirror_url) as served:
        served.post("sigma", *sent("sigma", body("sigma")))
        wait_until(lambda: kept(served), "the request to be kept")
    with serving(mirror_url) as served:
        wait_until(lambda: served.count() == 1, "its delivery")
        assert kept(served) == 0


def test_an_encrypted_body_is_kept_and_accepted_when_its_key_phrase_is_added(mirror_url):
    other = {**SOURCES, "sticky": {**SOURCES["sticky"], "secrets": ["AnotherPhraseOf32CharactersExact"]}}
    with serving(mirror_url, sources=other) as served:
        assert served.post("sticky", *sent("sticky", body("sticky"))).status_code == 401
        wait_until(lambda: kept(served), "the request to be kept")
    with serving(mirror_url) as served:
        wait_until(lambda: served.count() == 1, "its delivery")


@pytest.mark.parametrize(
    ("source", "content", "headers"),
    [
        ("sigma", b"{}", {}),
        ("sigma", b"{}", {"X-Sigma-Signature": "sha256=nonsense"}),
        ("nobody", b"{}", {"X-Sigma-Signature": "sha256=" + "0" * 64}),
        ("sticky", body("sticky"), {}),
        ("sticky", b"!" * 64, {}),
    ],
    ids=["missing", "malformed", "unknown source", "not encrypted", "not base64"],
)
def test_a_request_that_no_other_secret_could_verify_is_not_kept(
    tmp_path, source: str, content: bytes, headers: dict[str, str]
):
    with serving(f"sqlite:///{tmp_path / 'h.db'}") as served:
        assert served.post(source, content, headers).status_code in (401, 404)
        served.app._keeper.flush()
        assert kept(served) == 0


def test_a_body_with_an_application_key_in_plain_text_is_not_kept(tmp_path):
    """That includes base64 text whose content is not encrypted."""
    plain = body("sticky")
    assert APP_KEY.encode() in plain
    with serving(f"sqlite:///{tmp_path / 'h.db'}") as served:
        for content in (plain, base64.b64encode(plain), json.dumps({"x": base64.b64encode(plain).decode()}).encode()):
            assert served.post("sticky", content).status_code == 401
        served.app._keeper.flush()
        assert kept(served) == 0


def test_nothing_is_kept_if_the_setting_says_so(tmp_path):
    with serving_with_old_secrets(f"sqlite:///{tmp_path / 'h.db'}", keep_refused=False) as served:
        assert served.post("sigma", *sent("sigma", body("sigma"))).status_code == 401
        served.app._keeper.flush()
        assert kept(served) == 0


def test_headers_that_may_be_secrets_are_not_kept(tmp_path):
    with serving_with_old_secrets(f"sqlite:///{tmp_path / 'h.db'}") as served:
        content, headers = sent("sigma", body("sigma"))
        served.post("sigma", content, {**headers, "Authorization": "Bearer hush", "Cookie": "hush", "X-Token": "hush"})
        wait_until(lambda: kept(served), "the request to be kept")
        with served.beside.read() as connection:
            (headers,) = connection.execute(select(REQUESTS.c.headers)).scalars()
    assert "hush" not in json.dumps(headers)
    assert "x-sigma-signature" in {name for name, _ in headers}


# ── the keeper ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def source(kit: Webhooks) -> Source:
    return replace(kit.source("shop"), credentials=Credentials(secrets=(Secret(b"the old secret"),)))


def signed(source: Source, content: bytes, credentials: Credentials = NEW) -> Request:
    _, headers = source.dialect.verifier.sign(WebhookRequest(content), credentials)
    return Request(source, [(name.lower().encode(), value.encode()) for name, value in headers.items()], content)


WRONG = NotVerified("signature_wrong", "It is.")


def all_kept(kit: Webhooks) -> list[Any]:
    with kit.database.read() as connection:
        return list(connection.execute(select(REQUESTS).order_by(REQUESTS.c.id)).mappings())


@ON_BOTH
def test_the_newest_requests_of_a_source_are_kept_within_number_and_bytes(kit, source):
    keeper = Keeper(kit.inbox, {"shop": source}, Bounds(3, 1 << 20, timedelta(hours=1)))
    for number in range(5):
        keeper.offer(signed(source, b"%d" % number), WRONG)
        keeper.flush()
    assert [row["body"] for row in all_kept(kit)] == [b"2", b"3", b"4"]
    few_bytes = Keeper(kit.inbox, {"shop": source}, Bounds(3, 600, timedelta(hours=1)))
    few_bytes.offer(signed(source, b"5" * 400), WRONG)
    few_bytes.flush()
    assert [row["body"] for row in all_kept(kit)] == [b"4", b"5" * 400]


def test_a_body_larger_than_the_whole_bound_is_not_kept(kit, source):
    keeper = Keeper(kit.inbox, {"shop": source}, Bounds(3, 100, timedelta(hours=1)))
    keeper.offer(signed(source, b"x" * 101), WRONG)
    keeper.flush()
    assert all_kept(kit) == []


@ON_BOTH
def test_each_request_of_a_flood_has_the_same_chance_to_be_kept(kit, source):
    keeper = Keeper(kit.inbox, {"shop": source}, BOUNDS)
    for number in range(50 * QUEUE):
        keeper.offer(signed(source, b"%d" % number), WRONG)
    keeper.flush()
    numbers = [int(row["body"]) for row in all_kept(kit)]
    assert len(numbers) == QUEUE
    assert sum(number >= 25 * QUEUE for number in numbers) in range(QUEUE // 5, QUEUE * 4 // 5)


def test_requests_of_a_verifier_that_names_no_headers_are_not_kept(kit, source, monkeypatch):
    """The verifier may read a token from any header."""
    monkeypatch.delattr(HmacSha256, "signature_headers")
    keeper = Keeper(kit.inbox, {"shop": source}, BOUNDS)
    keeper.offer(signed(source, b"{}"), WRONG)
    keeper.flush()
    assert all_kept(kit) == []


def test_a_request_that_still_does_not_verify_stays(kit, source):
    keeper = Keeper(kit.inbox, {"shop": source}, BOUNDS)
    keeper.offer(signed(source, b"{}"), WRONG)
    keeper.offer(signed(source, b"{}", Credentials(secrets=(Secret(b"of a stranger"),))), WRONG)
    keeper.flush()
    done = verify_again(kit.inbox, replace(source, credentials=BOTH))
    assert done._asdict() == {"number": 1, "accepted": 1, "duplicates": 0, "left": 1}
    assert len(all_kept(kit)) == 1


@ON_BOTH
def test_requests_are_accepted_by_hand_together_with_the_action_wherever_the_process_dies(kit, source):
    keeper = Keeper(kit.inbox, {"shop": source}, BOUNDS)
    for number in range(3):
        keeper.offer(signed(source, _event(f"A{number}", 0, None)), WRONG)
    keeper.flush()
    asked = actions.Asked(by=actions.By("ops-1", actions.Via.COMMAND), what="verify refused")
    listening = replace(source, credentials=BOTH)

    def counts() -> tuple[int, list[int]]:
        with kit.database.read() as connection:
            return len(kit.deliveries()), [each["count"] for each in connection.execute(actions.recent()).mappings()]

    for _ in each_death(kit.database, lambda: verify_refused(kit.inbox, listening, asked)):
        assert counts() in ((0, []), (3, [3]))
    assert counts() == (3, [3])


@ON_BOTH
def test_a_verification_that_is_repeated_with_its_key_gets_the_sums_of_the_first(kit, source, monkeypatch):
    monkeypatch.setattr(reverifying, "VERIFIED_AT_ONCE", 2)
    keeper = Keeper(kit.inbox, {"shop": source}, BOUNDS)
    for number in range(3):
        keeper.offer(signed(source, _event(f"A{number}", 0, None)), WRONG)
    keeper.flush()
    asked = actions.Asked(by=actions.By("ops-1", actions.Via.API), what="verify refused", key="once")
    listening = replace(source, credentials=BOTH)
    first = verify_refused(kit.inbox, listening, asked)
    keeper.offer(signed(source, _event("A4", 0, None)), WRONG)
    keeper.flush()
    assert verify_refused(kit.inbox, listening, asked) == first == Reverified(3, accepted=3, duplicates=0, left=0)
    assert len(all_kept(kit)) == 1
    with kit.database.read() as connection:
        recorded = connection.execute(select(actions.ACTIONS.c.count, actions.ACTIONS.c.key)).all()
    assert [tuple(each) for each in recorded] == [(2, None), (1, "once")]
    with pytest.raises(KeyUsed):
        verify_refused(kit.inbox, listening, replace(asked, arguments={"source": "another"}))


@ON_BOTH
def test_requests_that_are_accepted_before_a_lost_answer_are_reported_and_announced_once(kit, source, monkeypatch):
    keeper = Keeper(kit.inbox, {"shop": source}, BOUNDS)
    for number in (0, 1, 1):
        keeper.offer(signed(source, _event(f"A{number}", number, None)), WRONG)
    keeper.flush()
    announced: list[bool] = []
    monkeypatch.setattr(kit.database, "write", LosingOne(kit.database, 1).write)
    listening = replace(source, credentials=BOTH)
    done = verify_again(kit.inbox, listening, accepted=lambda: announced.append(True))
    assert (done, announced) == (Reverified(3, accepted=2, duplicates=1, left=0), [True])
    assert verify_again(kit.inbox, listening) == Reverified()


@ON_BOTH
def test_two_simultaneous_verifications_accept_each_request_once(kit, source):
    keeper = Keeper(kit.inbox, {"shop": source}, BOUNDS)
    for number in range(60):
        keeper.offer(signed(source, _event(f"A{number}", 0, None)), WRONG)
        keeper.flush()
    done, listening = [], replace(source, credentials=BOTH)
    threads = [
        threading.Thread(target=lambda: done.append(verify_again(kit.inbox, listening)), daemon=True) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(each.accepted for each in done) == 60
    assert {delivery["duplicates"] for delivery in kit.deliveries()} == {0}


@ON_BOTH
def test_a_request_that_the_database_refuses_is_kept_with_its_body_alone(kit, source, monkeypatch):
    original = reverifying.resolve_duplicates

    def refuse(connection, arrivals):
        if any(arrival.event_type == "product.odd" for arrival in arrivals):
            raise DataError("INSERT", {}, Exception("no such number"))
        return original(connection, arrivals)

    monkeypatch.setattr(reverifying, "resolve_duplicates", refuse)
    monkeypatch.setattr(reverifying, "is_fault_of_values", lambda error: isinstance(error, DataError))
    keeper = Keeper(kit.inbox, {"shop": source}, BOUNDS)
    for event_type in ("product.updated", "product.odd", "product.deleted"):
        keeper.offer(signed(source, _event("A1", 0, None, event_type)), WRONG)
    keeper.flush()
    verify_again(kit.inbox, replace(source, credentials=BOTH))
    assert [delivery["state"] for delivery in kit.deliveries()] == ["pending", "dead", "pending"]
    assert all_kept(kit) == []


@ON_BOTH
def test_requests_older_than_a_day_are_dropped(kit, source):
    keeper = Keeper(kit.inbox, {"shop": source}, BOUNDS)
    keeper.offer(signed(source, b"{}"), WRONG)
    keeper.flush()
    now = datetime.now(UTC)
    assert refused.prune(kit.database, age=BOUNDS.age, now=now) == 0
    assert refused.prune(kit.database, age=BOUNDS.age, now=now + timedelta(hours=25)) == 1
    assert all_kept(kit) == []


@ON_BOTH
def test_many_requests_are_dropped_in_batches_of_which_the_last_tells_the_sum(kit, source, monkeypatch):
    """SQLite would accept no webhook for seconds, if all were dropped at once."""
    monkeypatch.setattr(refused, "DROPPED_REQUESTS_BATCH", 3)
    wide = Bounds(100, 1 << 20, BOUNDS.age)
    keeper = Keeper(kit.inbox, {"shop": source}, wide)
    for number in range(8):
        keeper.offer(signed(source, b'{"number": %d}' % number), WRONG)
    keeper.flush()
    asked = actions.Asked(by=actions.by_command(), what="drop refused", reason="a stranger's", key="once")
    now = datetime.now(UTC)
    assert [drop_refused(kit.database, asked, "shop", now=now) for _ in range(2)] == [8, 8]
    assert all_kept(kit) == []
    with kit.database.read() as connection:
        recorded = connection.execute(select(actions.ACTIONS.c.count, actions.ACTIONS.c.key)).all()
    assert [tuple(each) for each in recorded] == [(3, None), (3, None), (2, "once")]


@ON_BOTH
def test_dropping_several_requests_without_a_reason_drops_none(kit, source, monkeypatch):
    monkeypatch.setattr(refused, "DROPPED_REQUESTS_BYTES", 1)
    keeper = Keeper(kit.inbox, {"shop": source}, BOUNDS)
    for number in range(3):
        keeper.offer(signed(source, b'{"number": %d}' % number), WRONG)
    keeper.flush()
    before = all_kept(kit)
    with pytest.raises(ReasonWanted):
        drop_refused(kit.database, actions.Asked(by=actions.by_command(), what="drop refused"), None, now=NOON)
    assert all_kept(kit) == before


def test_a_request_that_verifies_later_keeps_its_time_of_arrival(kit, source):
    came = datetime.now(UTC) - timedelta(hours=3)
    request = signed(source, _event("A1", 0, "Lamp"))
    kept_then = Refusal(first_id_at(came), "shop", "signature_wrong", came, request.headers, request.body)
    with kit.database.write() as connection:
        refused.keep(connection, [kept_then], BOUNDS)
    verify_again(kit.inbox, replace(source, credentials=BOTH))
    (delivery,) = kit.deliveries()
    assert datetime.fromisoformat(str(delivery["received_at"])) == came
    # It does not count as having waited for a worker since its arrival.
    assert kit.inbox.oldest_due_seconds(["shop"], now=datetime.now(UTC)) < 60


def test_an_automatic_verification_with_a_new_secret_is_an_action_of_the_settings(kit, source):
    keeper = Keeper(kit.inbox, {"shop": source}, BOUNDS, along=by_settings)
    keeper.offer(signed(source, _event("A1", 0, "Lamp")), WRONG)
    keeper.flush()
    keeper.renew({"shop": replace(source, credentials=BOTH)}, BOUNDS)
    keeper._verify_those_asked_for()
    with kit.database.read() as connection:
        (action,) = connection.execute(actions.recent()).mappings()
    assert (action["who"], action["via"], action["what"]) == ("settings", "schedule", "verify refused")
    assert (action["count"], actions.show(action)["counts"]) == (1, "request")


# ── the property ──────────────────────────────────────────────────────────────────────────────────────────────────

EVENTS = st.lists(
    st.tuples(st.sampled_from(["A1", "A2", "A3"]), st.integers(0, 3), st.sampled_from(["Lamp", "Desk", None])),
    min_size=1,
    max_size=12,
)


def _event(entity_id: str, minute: int, name: str | None, event_type: str | None = None) -> bytes:
    at = (NOON + timedelta(minutes=minute)).isoformat()
    kind = event_type or ("product.deleted" if name is None else "product.updated")
    return json.dumps({"type": kind, "id": entity_id, "timestamp": at, "data": named(name or "Lamp")}).encode()


def _outcome(kit: Webhooks) -> list[Any]:
    shown = ("event_type", "entity_id", "state", "outcome", "duplicates", "conflict", "occurred_at")
    deliveries = [tuple(delivery.get(name) for name in shown) for delivery in kit.deliveries()]
    rows = [(row.external_id, row.name, row.active, row.changed_at, row.tie) for row in kit.rows(Product)]
    return [deliveries, rows]


@ON_BOTH
@examples(3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS)
def test_verifying_kept_requests_later_has_the_same_result_as_verifying_at_once(
    lend_database, tmp_path_factory, events
):
    outcomes = [
        _history(lend_database, tmp_path_factory.mktemp("property"), events, at_once=at_once)
        for at_once in (True, False)
    ]
    assert outcomes[0] == outcomes[1]


def _history(lend_database, folder, events: Sequence[tuple[str, int, str | None]], *, at_once: bool) -> list[Any]:
    with lend_database(folder) as url, closing(Webhooks(folder, {"shop": new_shop()}, database_url=url)) as kit:
        listening = replace(kit.source("shop"), credentials=BOTH)
        kit._sources["shop"] = listening
        old = replace(listening, credentials=Credentials(secrets=(Secret(b"the old secret"),)))
        keeper = Keeper(kit.inbox, {"shop": old}, BOUNDS)
        for event in events:
            if at_once:
                assert kit.send_body("shop", _event(*event), credentials=NEW).status == 200
            else:
                keeper.offer(signed(old, _event(*event)), WRONG)
                keeper.flush()
        if not at_once:
            assert verify_again(kit.inbox, listening).left == 0
        kit.drain()
        return _outcome(kit)


def test_the_likely_mistake_is_named_once_in_the_log_and_not_in_the_answer(kit, source):
    theirs = replace(source, name="other", credentials=NEW)
    keeper = Keeper(kit.inbox, {"shop": source, "other": theirs}, BOUNDS)
    with capture_logs() as logs:
        for _ in range(3):
            keeper.offer(signed(source, b"{}"), WRONG)
            keeper.flush()
    told = [line for line in logs if line["event"] == "the likely reason why signatures of a source are wrong"]
    assert [line["likely"].partition(":")[0] for line in told] == ["It fits with a secret of the source other"]


@pytest.mark.parametrize(("pause", "cost", "number"), [(0.0, 0, 1), (60.0, 0, 0), (0.0, 10**9, 0)])
def test_a_signature_that_nothing_explains_does_not_use_up_the_diagnosis_of_the_next(
    kit, source, monkeypatch, pause, cost, number
):
    monkeypatch.setattr(keeping, "UNEXPLAINED_PAUSE", pause)
    monkeypatch.setattr(keeping, "UNEXPLAINED_COST", cost)
    strange = Credentials(secrets=(Secret(b"the guess of a stranger"),))
    theirs = replace(source, name="other", credentials=NEW)
    keeper = Keeper(kit.inbox, {"shop": source, "other": theirs}, BOUNDS)
    with capture_logs() as logs:
        for credentials in (strange, NEW, NEW):
            keeper.offer(signed(source, b"{}", credentials), WRONG)
            keeper.flush()
    assert sum(line["event"] == "the likely reason why signatures of a source are wrong" for line in logs) == number


def test_the_likely_form_of_a_malformed_signature_is_named_once_and_the_request_is_not_kept(kit, source):
    keeper = Keeper(kit.inbox, {"shop": source}, BOUNDS)
    request = Request(source, [(source.dialect.verifier.header.lower().encode(), b"ab" * 20)], b"{}")
    with capture_logs() as logs:
        for _ in range(3):
            keeper.offer(request, NotVerified("signature_malformed", "It is."))
            keeper.flush()
    (told,) = [line for line in logs if line["event"] == "the likely reason why signatures of a source are malformed"]
    assert "the length that hmac_sha1 makes" in told["likely"]
    assert all_kept(kit) == []


@pytest.mark.parametrize(("body", "is_told"), [(b'{"challenge": "c1"}', True), (b'{"id": 1}', False), (b"", False)])
def test_an_unsigned_challenge_is_told_with_before_verifying_as_the_answer(kit, source, body, is_told):
    dialect = new_shop()
    dialect.challenge(lambda asked: asked.text("yes") if b"challenge" in asked.body else None)
    asking = replace(source, dialect=dialect)
    keeper = Keeper(kit.inbox, {"shop": asking}, BOUNDS)
    with capture_logs() as logs:
        keeper.offer(Request(asking, [], body), NotVerified("signature_missing", "It is."))
        keeper.flush()
    told = [line["likely"] for line in logs if "without a signature" in line["event"]]
    assert [("before_verifying=True" in line) for line in told] == [True] * is_told
