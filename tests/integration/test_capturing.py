"""Captures of an unknown sender: kept unverified and within bounds, shown, and written to files."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from captured import CAPTURED
from senders import SOURCES
from serving import serving, wait_until

from receiver import Dialect, HmacSha256
from receiver.commands.capture import headers_of, write_capture
from receiver.dialects.capturing import capturing
from receiver.dialects.doubts import doubts_about_sources
from receiver.dialects.headers import captured_headers, names_secret
from receiver.dialects.sources import build_source
from receiver.errors import Captured, ConfigurationError, Unreadable
from receiver.fixtures import headers_beside
from receiver.inbox import refused
from receiver.inbox.inbox import Inbox
from receiver.inbox.refused import Bounds
from receiver.ingest.admission import Request
from receiver.ingest.keeping import MOST_CAPTURED, Keeper
from receiver.ingest.reverifying import verify_again
from receiver.settings.settings import source_settings
from receiver.testing import Webhooks
from receiver.verify.composed import Signature
from receiver.verify.freshness import Fresh
from receiver.verify.places import Header
from receiver.verify.verifiers import headers_made_anew

BODY, HEADERS = CAPTURED["kiln"]
BOUNDS = Bounds(1_000, 1 << 24, timedelta(hours=24))
SOURCE = build_source(source_settings("kiln", {"dialect": "capture"}), {})


def test_a_captured_webhook_is_kept_and_answered_with_503(mirror_url):
    with serving(mirror_url, sources={**SOURCES, "kiln": {"dialect": "capture"}}) as served:
        answer = served.post("kiln", BODY.encode(), {**HEADERS, "X-Kiln-Token": "a secret"})
        assert (answer.status_code, answer.json()["error"], answer.headers["retry-after"]) == (503, "captured", "600")
        wait_until(lambda: served.count("refused") == 1, "the request to be kept")
        assert served.count() == 0
        (shown,) = served.get("/api/v1/refused").json()["items"]
    assert dict(shown["headers"])["x-kiln-token"] == "(hidden)"
    assert dict(shown["headers"])["x-kiln-signature"] == HEADERS["x-kiln-signature"]
    assert (shown["code"], shown["begins"]) == ("captured", BODY)


@pytest.fixture
def inbox(mirror_url, tmp_path):
    kit = Webhooks(tmp_path, {}, database_url=mirror_url)
    yield Inbox(kit.database)
    kit.close()


def captures(inbox, *bodies, headers=(), bounds=BOUNDS):
    """Capture these bodies, each in a batch of its own."""
    keeper = Keeper(inbox, {"kiln": SOURCE}, bounds)
    for body in bodies:
        keeper.offer(Request(SOURCE, list(headers), body), Captured("captured"))
        keeper.flush()
    with inbox.database.read() as connection:
        return refused.totals(connection)


def test_the_oldest_captures_are_dropped_beyond_a_number_and_beyond_bytes(inbox):
    ((_, number, _),) = captures(inbox, *(b"%d" % n for n in range(MOST_CAPTURED + 5)))
    assert number == MOST_CAPTURED
    ((_, number, size),) = captures(inbox, *(bytes(1 << 20) for _ in range(6)))
    assert size <= 4 << 20
    assert number == 4


def test_nothing_is_captured_if_no_refused_requests_are_kept(inbox):
    assert captures(inbox, b"{}", bounds=None) == []


def test_an_old_capture_is_dropped(inbox):
    captures(inbox, b"{}")
    assert refused.prune(inbox.database, age=timedelta(hours=24), now=datetime.now(UTC) + timedelta(hours=25)) == 1


def test_a_capture_becomes_a_delivery_once_its_dialect_verifies_it(inbox):
    signed = hmac.new(b"secret", BODY.encode(), hashlib.sha256).hexdigest().encode()
    captures(inbox, BODY.encode(), b"{}", headers=[(b"x-kiln-signature", signed)])
    assert verify_again(inbox, SOURCE).left == 2
    kiln = Dialect("kiln", verify=HmacSha256(header="X-Kiln-Signature"))
    known = build_source(source_settings("kiln", {"secrets": ["secret"]}), {"kiln": kiln})
    kiln.envelope(lambda body: None)
    done = verify_again(inbox, known)
    assert (done.number, done.accepted, done.left) == (1, 1, 1)


def test_headers_of_a_capture_are_bounded_and_hide_possible_secrets():
    big = (b"x-big", b"x" * 10_000)
    sent = [(b"authorization", b"Bearer x"), (b"host", b"a"), (b"x-signature", b"ab"), big, big, big]
    assert captured_headers(sent) == [(b"authorization", b"(hidden)"), (b"x-signature", b"ab"), big]
    assert len(captured_headers([(b"x-a", b"1")] * 500)) == 60


@pytest.mark.parametrize("header", ["x-gitlab-token", "X-Api-Key", "cookie", "x-shared-secret", "apikey", "X-Auth"])
def test_headers_with_such_names_may_contain_secrets(header):
    assert names_secret(header)


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        (b"token=a&page=2", b"token=(hidden)&page=2"),
        (b"accessToken=a%26b", b"accessToken=(hidden)"),
        (b"to%6ben=a", b"to%6ben=(hidden)"),
        (b"code=a&key&x=%ff&&", b"code=(hidden)&key&x=%ff&&"),
    ],
)
def test_parameters_of_a_captured_address_hide_possible_secrets(inbox, query, kept):
    keeper = Keeper(inbox, {"kiln": SOURCE}, BOUNDS)
    keeper.offer(Request(SOURCE, [], b"{}", b"/hooks/kiln?" + query), Captured("captured"))
    keeper.flush()
    with inbox.database.read() as connection:
        found = refused.found(connection, "kiln", None)
    assert found.headers == [(b":target", b"/hooks/kiln?" + kept)]


@pytest.mark.parametrize("header", ["x-hub-signature-256", "idempotency-key", "webhook-id", "x-monkey", "key-sign"])
def test_headers_with_other_names_are_shown(header):
    assert not names_secret(header)


def test_repeated_headers_are_joined_and_our_own_notes_left_out(inbox):
    captures(inbox, b"{}", headers=[(b"x-a", b"1"), (b"X-A", b"2"), (b":target", b"/?x"), (b"x-b", b"\xff")])
    with inbox.database.read() as connection:
        found = refused.found(connection, "kiln", None)
    assert headers_of(found) == {"x-a": "1, 2", "x-b": "\ufffd"}


def test_a_written_capture_can_be_read_again_whatever_its_headers_hold(inbox, tmp_path):
    odd = [(b"x-a", b"1"), (b"x-shop", "M\u00f6bel".encode()), (b"x-b", b"\xff"), (b"x-tab", b"a\tb")]
    captures(inbox, b"{}", headers=odd)
    with inbox.database.read() as connection:
        found = refused.found(connection, "kiln", None)
    written = write_capture(found, tmp_path / "captured.json")
    assert headers_beside(tmp_path / "captured.json") == {"x-a": "1"}
    assert written["left_out"] == ["x-shop", "x-b", "x-tab"]


@pytest.fixture
def newest(inbox):
    """Return a captured request."""
    captures(inbox, b"{}")
    with inbox.database.read() as connection:
        return refused.found(connection, "kiln", None)


def test_a_capture_is_not_written_over_a_file_and_the_advice_names_the_command_s_own_option(newest, tmp_path):
    (tmp_path / "captured.json").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"captured\.json exists, .* choose another name for --write, or move"):
        write_capture(newest, tmp_path / "captured.json")
    with pytest.raises(ConfigurationError, match=r"mend it, or choose another name for --write\. Nothing was written"):
        write_capture(newest, tmp_path / "captured.json" / "captured.json")


@pytest.mark.parametrize("folder", [".", "/", ""])
def test_a_folder_in_place_of_a_captured_file_is_refused_in_one_line(newest, folder):
    with pytest.raises(ConfigurationError, match=r"--write takes the name of a file, such as .*, not '[./]'"):
        write_capture(newest, Path(folder))


def test_a_capturing_source_is_reported_at_the_start():
    (doubt,) = doubts_about_sources({"kiln": SOURCE})
    assert "captures every request without verifying it" in doubt
    assert "hookmirror capture kiln" in doubt


def test_a_captured_request_is_not_read():
    with pytest.raises(Unreadable, match="is not read"):
        SOURCE.read(BODY.encode())


def test_a_captured_body_that_is_sent_again_gets_a_new_signature_and_time():
    stamped = Signature("{X-Time}.{X-Topic}.{body}", at=Header("X-Sign"), fresh=Fresh("{X-Time}"))
    assert headers_made_anew(stamped) == {"x-sign", "x-time"}
    assert headers_made_anew(HmacSha256(header="X-Sign")) == {"x-sign"}
    assert headers_made_anew(capturing.verifier) == frozenset()
