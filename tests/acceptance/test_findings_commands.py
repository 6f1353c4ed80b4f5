"""Journeys of the person on call with commands: a rotated secret, a misspelt address, refused requests."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from commanding import SECRET, SETTINGS, Folder, product, wait_until

NEW_SECRET = "the new secret of these tests"


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path)


def post(client: httpx.Client, number: int, *, secret: str, source: str = "iimmpact") -> int:
    content = product(number, key=f"k{number}", name="Lamp")
    digits = hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()
    headers = {"X-Webhook-Signature": f"sha256={digits}"}
    return client.post(f"/hooks/{source}", content=content, headers=headers).status_code


@contextmanager
def served_until_the_end(folder: Folder) -> Iterator[httpx.Client]:
    """Serve without a worker, and terminate the server at the end, so that it writes its last tallies."""
    with folder.serving("--no-worker") as (process, client):
        yield client
        process.terminate()
        process.wait(60)


def findings(folder: Folder) -> list[dict]:
    done = folder.run("findings", "--json")
    assert done.returncode == 1, done.stderr
    return json.loads(done.stdout)["items"]


def test_webhooks_refused_after_a_rotated_secret_are_accepted_later(folder: Folder):
    with served_until_the_end(folder) as client:
        assert post(client, 0, secret=SECRET) == 200
        assert [post(client, number, secret=NEW_SECRET) for number in (1, 2, 3, 3)] == [401] * 4
        wait_until(lambda: folder.count(table="refused") == 4, "the requests to be kept")
    # The rule wants a minute with wrong signatures only, so move the good webhook to an earlier minute.
    folder.query("UPDATE tallies SET at = '2026-01-01T00:00:00.000000Z' WHERE kind = 'verified'")
    (found,) = findings(folder)
    assert (found["rule"], found["source"], found["evidence"]["kept"]) == ("secret_changed", "iimmpact", 4)
    said = folder.run("findings").stdout
    assert "was the secret changed at the sender?" in said
    assert "4 refused requests are kept" in said
    assert "LOOK finding secret_changed: Every signature of iimmpact fails" in folder.run("doctor").stdout
    folder.settings = SETTINGS.replace(
        f'[sources.iimmpact]\nsecrets = ["{SECRET}"]', f'[sources.iimmpact]\nsecrets = ["{NEW_SECRET}", "{SECRET}"]'
    )
    assert "iimmpact: 4 verified (3 new, 1 duplicate), 0 stay kept." in folder.run("refused", "--verify").stdout
    assert (folder.count(), folder.count(table="refused")) == (4, 0)
    (action,) = folder.ask("actions")
    assert (action["what"], action["count"]) == ("verify refused", 4)
    assert action["result"] == {"verified": 4, "accepted": 3, "duplicates": 1}


def test_a_sender_with_a_misspelt_address_is_found(folder: Folder):
    with served_until_the_end(folder) as client:
        for number in range(4):
            assert post(client, number, secret=SECRET, source="iimpact") == 404
    (found,) = findings(folder)
    assert (found["rule"], found["source"], found["evidence"]["asked_for"]) == (
        "misspelt_source",
        "iimmpact",
        "iimpact",
    )
    assert "/hooks/iimmpact" in found["mend"]


def test_text_of_a_sender_moves_nothing_on_the_terminal_of_doctor(folder: Folder):
    content = product(1, key="k", name="Lamp").replace(b"product.updated", rb"moon.\u001b]0;title\u0007")
    signature = "sha256=" + hmac.new(SECRET.encode(), content, hashlib.sha256).hexdigest()
    with served_until_the_end(folder) as client:
        answer = client.post("/hooks/iimmpact", content=content, headers={"X-Webhook-Signature": signature})
        assert answer.status_code == 200, answer.text
    shown = folder.run("doctor").stdout
    assert r"moon.\x1b]0;title\x07" in shown
    assert "\x1b" not in shown


def test_refused_requests_are_listed_with_escaped_text_and_can_be_dropped(folder: Folder):
    with served_until_the_end(folder) as client:
        header = {"X-Webhook-Signature": "sha256=" + "0" * 64}
        assert client.post("/hooks/iimmpact", content=b"\x1b[31mred", headers=header).status_code == 401
        wait_until(lambda: folder.count(table="refused") == 1, "the request to be kept")
    listed = folder.run("refused", "iimmpact").stdout
    assert "signature_wrong" in listed
    assert "\x1b" not in listed
    assert "sha256=000" in folder.run("refused", "--show", listed.split()[0]).stdout, "the line begins with the id"
    assert folder.ask("refused", "--drop", "--reason", "a stranger") == {"dropped": 1}
    (action,) = folder.ask("actions")
    assert (action["what"], action["reason"]) == ("drop refused", "a stranger")
    assert folder.run("refused").stdout == "Kept requests: 0.\n"


def test_refused_requests_of_a_source_that_left_the_settings_are_dropped_by_its_name(folder: Folder):
    with served_until_the_end(folder) as client:
        header = {"X-Webhook-Signature": "sha256=" + "0" * 64}
        assert client.post("/hooks/indexed", content=b"{}", headers=header).status_code == 401
        wait_until(lambda: folder.count(table="refused") == 1, "the request to be kept")
    folder.settings = folder.settings.replace("[sources.indexed]", '[sources.indexed-eu]\ndialect = "indexed"')
    assert "Kept requests: 1." in folder.run("refused", "indexed").stdout
    assert folder.ask("refused", "indexed", "--drop", "--reason", "renamed") == {"dropped": 1}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("refused", "--verify", "--drop"), "exclude each other"),
        (("refused", "--reason", "because"), "--reason is for --verify and --drop"),
        (("refused", "--drop", "--reason", "x"), "write 3 to 200"),
        (("refused", "nobody", "--verify"), "no source 'nobody'"),
        (("findings", "--acknowledge", "nothing"), "No finding with the id 'nothing' is open"),
    ],
)
def test_contradictory_arguments_are_refused(folder: Folder, arguments: tuple[str, ...], says: str):
    folder.migrate()
    done: subprocess.CompletedProcess[str] = folder.run(*arguments)
    assert done.returncode == 1
    assert says in done.stderr


def test_without_findings_the_command_says_that_nothing_needs_you(folder: Folder):
    folder.migrate()
    done = folder.run("findings")
    assert (done.returncode, done.stdout) == (0, "Nothing needs you.\n")


def test_commands_show_a_finding_a_refused_request_and_the_faults(folder: Folder):
    with served_until_the_end(folder) as client:
        assert [post(client, number, secret=NEW_SECRET) for number in range(4)] == [401] * 4
        wait_until(lambda: folder.count(table="refused") == 4, "the requests to be kept")
    kept = json.loads(folder.run("refused", "--json").stdout)["items"][0]
    shown = folder.run("refused", "--show", kept["id"]).stdout
    assert "signature_wrong" in shown
    assert "The body begins (text):" in shown
    gone = folder.run("refused", "--show", "1")
    assert (gone.returncode, "No request 1 is kept" in gone.stderr) == (1, True)
    found = findings(folder)[0]
    assert found["says"].removeprefix("every") in folder.run("findings", found["id"]).stdout
    unknown = folder.run("findings", "nothing")
    assert (unknown.returncode, "There is no finding 'nothing'" in unknown.stderr) == (1, True)
    assert folder.run("faults").stdout == "No dead delivery can be replayed, and no delivery has a failed attempt.\n"
    waiting = folder.run("retry", "1")
    assert (waiting.returncode, "None of these deliveries waits" in waiting.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "No deliveries are selected: give ids, or at least one filter"),
        (("1", "--source", "iimmpact"), "Ids and filters exclude each other"),
        (("--source", "nobody"), "nobody"),
        (("--source", "iimmpact", "--reason-has", "no price"), "None of these deliveries waits for an attempt"),
    ],
)
def test_retry_takes_ids_or_filters(folder: Folder, arguments: tuple[str, ...], says: str):
    folder.migrate()
    done = folder.run("retry", *arguments)
    assert (done.returncode, says in done.stderr) == (1, True), done.stderr
