"""From an unknown sender to its rows: captured by the server, drafted by a command, and accepted after a restart."""

from __future__ import annotations

import hashlib
import hmac
import json

import httpx
import pytest
from commanding import SECRET_KEY, Folder, lines
from forked import Forked
from users_pytest import USERS_PYTEST
from waiting import TIMEOUT, wait_until

BODY = (
    b'{"message": "m-7", "what": "stove.updated", "stove": "S1", "when": "2026-06-01T12:00:00+02:00", '
    b'"content": {"name": "Ida"}}'
)
SECRET = "the secret of the new shop"
SIGNED = "sha256=" + hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()
HEADERS = {"X-Stove-Signature": SIGNED, "X-Stove-Token": "never-kept"}

CAPTURING = f'secret_key = "{SECRET_KEY}"\n[sources.new-shop]\ndialect = "capture"\n'

#: The settings that `new-dialect` prints, with the secret that the sender gave.
KNOWING = f"""
secret_key = "{SECRET_KEY}"
dialects = ["stoves:stoves"]
[sources.new-shop]
dialect = "stoves"
secrets = ["{SECRET}"]
"""


@pytest.fixture(scope="module")
def captured(tmp_path_factory) -> Folder:
    """Run a server that captures, post two requests to it, and return its folder after its end."""
    folder = Folder(tmp_path_factory.mktemp("stoves"), CAPTURING)
    with folder.serving() as (_, client):
        for body, headers in ((b"<noise>", {}), (BODY, HEADERS)):
            answer: httpx.Response = client.post("/hooks/new-shop", content=body, headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (503, "captured")
            wait_until(lambda: folder.count(table="refused") > 0, "a request to be kept")
        wait_until(lambda: folder.count(table="refused") == 2, "both requests to be kept")
    return folder


def test_the_command_lists_what_the_server_captured_and_shows_one_without_secrets(captured):
    listed = captured.run("capture", "new-shop")
    assert listed.returncode == 0, listed.stderr
    assert lines(listed.stdout)[0].startswith("This request is not verified")
    assert [each["begins"] for each in captured.ask("capture", "new-shop")["items"]] == [BODY.decode(), "<noise>"]
    newest = captured.ask("capture", "new-shop")["items"][0]["id"]
    shown = captured.run("capture", "new-shop", newest).stdout
    assert BODY.decode() in shown
    assert "x-stove-token: (hidden)" in shown
    assert captured.count() == 0, "a capture is no delivery"


def test_a_written_capture_is_told_in_json_on_request(captured):
    told = captured.ask("capture", "new-shop", "--write", "told.json")
    assert (told["body"], told["headers"], told["verified"]) == ("told.json", "told.headers.json", False)
    assert (captured.path / told["body"]).read_bytes() == BODY
    assert json.loads((captured.path / told["headers"]).read_text())["x-stove-token"] == "(hidden)"


def test_a_dialect_drafted_from_the_capture_accepts_it_after_a_restart(captured):
    written = captured.run("capture", "new-shop", "--write", "captured.json")
    assert written.returncode == 0, written.stderr
    assert (captured.path / "captured.json").read_bytes() == BODY
    again = captured.run("capture", "new-shop", "--write", "captured.json")
    assert (again.returncode, "captured.json" in again.stderr) == (1, True), "no file is overwritten"

    (captured.path / "secret.txt").write_text(SECRET)
    drafted = captured.run("new-dialect", "stoves", "--from", "captured.json", "--secrets-file", "secret.txt")
    assert drafted.returncode == 0, drafted.stderr
    assert 'signature: HmacSha256(header="X-Stove-Signature"), confirmed by the secret' in drafted.stdout
    with Forked(USERS_PYTEST[1:], captured.path, captured.surroundings(), python=True) as tests:
        printed, errors = tests.communicate(timeout=TIMEOUT)
    assert tests.returncode == 0, printed + errors

    known = Folder(captured.path, KNOWING)
    with known.serving():
        wait_until(lambda: known.count("state = 'processed'") == 1, "the capture to be accepted and handled")
        assert known.query("SELECT external_id, name FROM stoves_stoves") == [("S1", "Ida")]
    assert known.count(table="refused") == 1, "what did not verify is kept"
