"""Headers of a sent body: given to `hookmirror send`, and in the file beside a fixture."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from stub_servers import Stub, answering
from typer.testing import CliRunner

from receiver import Credentials, Dialect, Envelope, Secret, TrustedValue, WebhookRequest, senders
from receiver.cli import compose
from receiver.commands.wording import words_of
from receiver.errors import ConfigurationError
from receiver.fixtures import expected_of
from receiver.testing import Webhooks, fixture_files

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

MODULE = """
from receiver import ARRIVAL, Dialect, Envelope, senders

{name} = Dialect("{name}", verify=senders.{form}, trusts_header={trusted!r})

@{name}.envelope
def read(body: dict{more}) -> Envelope:
    return Envelope(event_type={event_type}, entity=None, occurred_at=ARRIVAL, data=None)

@{name}.compose
def write(event_type, entity_id, at, data):
    return {{"id": entity_id, "type": event_type}}
"""

SETTINGS = """
dialects = ["{name}_sent:{name}"]
[sources.{name}]
secrets = ["whsec_AAAA"]
"""


class Recording(Stub):
    seen: ClassVar[list[tuple[dict[str, str], bytes]]] = []
    answers: ClassVar[int] = 200

    def post(self) -> None:
        body = self.body()
        self.seen.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.answer(b"{}", status=self.answers)


@pytest.fixture
def receiver_url():
    Recording.seen.clear()
    with answering(Recording) as url:
        yield url


@pytest.fixture
def send(tmp_path, monkeypatch, receiver_url):
    """Return a function that runs the command in an installation with one dialect."""

    def run(name: str, *arguments: str, form: str, trusted: str | None = None) -> Any:
        more, event_type = (", trusted", "trusted") if trusted else ("", 'body["type"]')
        module = MODULE.format(name=name, form=form, trusted=trusted, more=more, event_type=event_type)
        (tmp_path / f"{name}_sent.py").write_text(module)
        (tmp_path / "hookmirror.toml").write_text(SETTINGS.format(name=name))
        monkeypatch.setenv("HOOKMIRROR_CONFIG", str(tmp_path / "hookmirror.toml"))
        return CliRunner().invoke(compose("send"), ["send", name, *arguments, "--to", receiver_url])

    return run


def test_a_time_that_is_not_one_is_refused_by_the_name_of_its_option(send):
    done = send("standard", "a.b", "--at", "2h ago", form="StandardWebhooks()")
    assert words_of(done.exception).startswith("--at takes a time with its offset from UTC")


def test_a_given_header_is_sent_and_signed(send):
    done = send("standard", "a.b", "--header", "webhook-id: m-1", "--header", "X-More: x:y", form="StandardWebhooks()")
    assert done.exit_code == 0, done.output
    headers, body = Recording.seen[0]
    assert (headers["webhook-id"], headers["x-more"]) == ("m-1", "x:y")
    request = WebhookRequest(body, [(name.encode(), value.encode()) for name, value in headers.items()])
    signed = senders.StandardWebhooks(fresh=None).verify(request, Credentials(secrets=(Secret(b"whsec_AAAA"),)))
    assert "webhook-id" in signed.signed


@pytest.mark.parametrize(("status", "exit_code"), [(202, 0), (204, 0), (302, 1), (401, 1)])
def test_any_2xx_is_an_ack(send, monkeypatch, status, exit_code):
    monkeypatch.setattr(Recording, "answers", status)
    assert send("acked", "a.b", form="GitHub()").exit_code == exit_code


def test_the_trusted_header_is_the_event_type_by_default(send):
    for more in ((), ("--header", "x-topic: b/c")):
        assert send("topics", "a/b", *more, form="Shopify()", trusted="X-Topic").exit_code == 0
    assert [headers["x-topic"] for headers, _ in Recording.seen] == ["a/b", "b/c"]


def test_the_headers_beside_a_file_are_sent_with_it(send, tmp_path):
    (tmp_path / "event.json").write_text('{"type": "a"}')
    (tmp_path / "event.headers.json").write_text('{"X-Topic": "from-the-file", "X-Other": "1"}')
    file = str(tmp_path / "event.json")
    assert send("filed", file, "--header", "X-Other: 2", form="Shopify()", trusted="X-Topic").exit_code == 0
    headers, body = Recording.seen[0]
    assert (headers["x-topic"], headers["x-other"], body) == ("from-the-file", "2", b'{"type": "a"}')


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_file_of_headers_that_cannot_be_read_is_refused_before_anything_is_sent(send, tmp_path, is_folder):
    (tmp_path / "event.json").write_text('{"type": "a"}')
    beside = tmp_path / "event.headers.json"
    beside.mkdir() if is_folder else beside.symlink_to(beside)
    done = send("misread", str(tmp_path / "event.json"), form="GitHub()")
    assert "event.headers.json' cannot be read (" in f"{done.output}{done.exception}"
    assert Recording.seen == []


@pytest.mark.parametrize("header", ["", "no colon", ": x", "two words: x", "X-A: caf\u00e9", "X-A: a\nX-B: b"])
def test_an_invalid_header_is_refused_before_anything_is_sent(send, header):
    done = send("refusing", "a.b", "--header", header, form="GitHub()")
    assert done.exit_code == 1
    assert "--header takes NAME:VALUE in printable ASCII" in f"{done.output}{done.exception}"
    assert Recording.seen == []


# ── fixtures ──────────────────────────────────────────────────────────────────────────────────────────────────────

topical = Dialect("topical", verify=senders.Shopify(), trusts_header="X-Shopify-Topic")


@topical.envelope
def read(body: dict, trusted: TrustedValue | None) -> Envelope:
    return Envelope(event_type=trusted or "none", entity=("product", "7"), occurred_at=NOON, data=None)


@pytest.fixture
def fixture(tmp_path):
    """Make a fixture in a folder of its own, with a path for its headers."""
    folder = tmp_path / "fixtures" / "topical"
    folder.mkdir(parents=True)
    (folder / "gone.json").write_text('{"id": 7}')
    (folder / "gone.expected.json").write_text('{"state": "ignored", "rows": []}')
    return folder / "gone.json"


def test_expected_rows_that_cannot_be_read_are_an_error_that_names_the_file(fixture):
    fixture.with_name("gone.expected.json").unlink()
    fixture.with_name("gone.expected.json").mkdir()
    with pytest.raises(ConfigurationError, match=r"gone\.expected\.json' cannot be read \(Is a directory\)"):
        expected_of(fixture)


def test_the_headers_beside_a_fixture_are_sent_with_it_and_not_taken_for_a_fixture(fixture, tmp_path):
    fixture.with_name("gone.headers.json").write_text('{"X-Shopify-Topic": "products/delete"}')
    assert fixture_files(tmp_path / "fixtures") == [fixture]
    with closing(Webhooks(tmp_path, {"topical": topical})) as kit:
        kit.check_fixture(fixture)
        shown = kit.delivery(kit.deliveries()[0]["id"])
    assert (shown["event_type"], shown["trusted"]) == ("products/delete", "x-shopify-topic")


def test_the_old_signature_and_hidden_values_beside_a_captured_webhook_are_not_sent_with_it(fixture, tmp_path):
    captured = {"x-shopify-topic": "products/delete", "x-shopify-hmac-sha256": "b2xk", "x-token": "(hidden)"}
    fixture.with_name("gone.headers.json").write_text(json.dumps(captured))
    with closing(Webhooks(tmp_path, {"topical": topical})) as kit:
        kit.check_fixture(fixture)
        shown = kit.delivery(kit.deliveries()[0]["id"])
    assert (shown["event_type"], shown["trusted"]) == ("products/delete", "x-shopify-topic")


@pytest.mark.parametrize("name", ["X-Shopify-Topic", "x-shopify-topic"])
def test_another_value_of_the_trusted_header_replaces_the_event_type_in_any_spelling(tmp_path, name):
    with closing(Webhooks(tmp_path, {"topical": topical})) as kit:
        answer = kit.send("topical", "products/update", id="7", headers={name: "products/delete"})
        assert kit.delivery(answer)["event_type"] == "products/delete"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"", "is not JSON"),
        (b"[]", "is not an object of headers"),
        (b'{"X-A": 1}', "is not an object of headers"),
        (b'{"": "x"}', "is not an object of headers"),
        (b'{"X A": "x"}', "is not an object of headers"),
        (json.dumps({"X-A": "a\r\nX-B: b"}).encode(), "is not an object of headers"),
        (json.dumps({"X-A": "caf\u00e9"}).encode(), "is not an object of headers"),
    ],
)
def test_a_file_without_valid_headers_is_reported(fixture, tmp_path, content, says):
    fixture.with_name("gone.headers.json").write_bytes(content)
    with (
        closing(Webhooks(tmp_path, {"topical": topical})) as kit,
        pytest.raises(ConfigurationError, match=rf"gone\.headers\.json {says}"),
    ):
        kit.check_fixture(fixture)


@pytest.mark.parametrize("event_type", ["é" * 200, "a" * 300])
def test_an_event_type_may_be_longer_than_any_name_of_a_file(send, event_type):
    assert send("shop", event_type, form="Shopify()").exit_code == 0
    assert event_type in json.loads(Recording.seen[0][1])["type"]
