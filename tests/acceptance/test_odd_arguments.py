"""Arguments that no column takes, such as text that is not UTF-8, are answered in one line and without a traceback."""

from __future__ import annotations

import os

import pytest
from commanding import NO_PAUSES, SETTINGS, Folder, Forks, lines, post

#: A byte that is not UTF-8, as Python passes it on.
BYTE = os.fsdecode(b"\xff")

#: An IIMMPACT account with an API, at which no server answers.
WITH_API = SETTINGS.replace(
    "[sources.iimmpact]",
    '[sources.iimmpact]\napi_url = "http://127.0.0.1:1"\napi_key = "key"\napi_secret = "c2VjcmV0"',
)

#: Commands with the byte, and what they answer.
NOT_UTF_8: dict[tuple[str, ...], str] = {
    ("findings", BYTE): "There is no finding '\N{REPLACEMENT CHARACTER}'",
    ("findings", "--acknowledge", BYTE): "No finding with the id '\N{REPLACEMENT CHARACTER}' is open",
    ("sessions", "--end", BYTE): "There is no session",
    ("capture", BYTE): "There is no source",
    ("refused", BYTE): "There is no source",
    ("refused", "--drop", BYTE): "There is no source",
    ("replay", "--source", BYTE): "There is no source",
    ("reconcile", BYTE): "There is no source",
    ("rehearse", f"{BYTE}:{BYTE}", "--source", "iimmpact"): "there is no module '\N{REPLACEMENT CHARACTER}'",
    ("ask", "products", "iimmpact", BYTE): "cannot be reached: ConnectError",
    ("ask", BYTE, "iimmpact", "A"): "The mirror has no table",
    ("reconcile", "iimmpact", "--entity", f"products:{BYTE}"): "cannot be reached: ConnectError",
    ("follow", "--forget", "--name", BYTE): "--name takes up to 100 letters, digits and signs",
    ("follow", "--to", "http://127.0.0.1:1", "--source", BYTE): "There is no source",
    ("send", "sigma", f"{BYTE}.json"): "cannot be read",
    ("show", BYTE): "There is no delivery",
    ("row", "products", "sigma", BYTE): "No row '\N{REPLACEMENT CHARACTER}' of 'sigma' is known",
}


@pytest.fixture(scope="module")
def forks():
    with Forks(1) as running:
        yield running


@pytest.fixture(scope="module")
def folder(lend_database, tmp_path_factory):
    path = tmp_path_factory.mktemp("arguments")
    with lend_database(path) as database_url:
        folder = Folder(path, f'log_level = "error"\n{WITH_API}', database_url, before=NO_PAUSES)
        with folder.serving("--no-worker") as (_, client):
            post(client, b"a delivery that is dead, so that it can be rehearsed")
        yield folder


@pytest.mark.parametrize("command", NOT_UTF_8, ids=ascii)
def test_an_argument_that_is_not_utf_8_is_answered_in_one_line(folder, forks, command):
    done = forks.run(folder, *command)
    assert (done.returncode, len(lines(done.stderr))) == (1, 1), done.stderr
    assert NOT_UTF_8[command] in done.stderr


#: A number beyond the 64 bits of a column.
TOO_LARGE = str(2**64)


@pytest.mark.parametrize("number", [TOO_LARGE, "-1"], ids=["too large", "negative"])
@pytest.mark.parametrize(
    "command",
    [
        ("refused", "--show"),
        ("refused", "--cursor"),
        ("capture", "iimmpact", "--"),
        ("follow", "--name", "erp", "--drop-dead"),
    ],
    ids=" ".join,
)
def test_a_number_that_no_column_takes_is_refused_as_wrong_usage(folder, forks, command, number):
    *before, last = command
    done = forks.run(folder, *before, *((last, number) if last == "--" else (f"{last}={number}",)))
    assert (done.returncode, len(lines(done.stderr))) == (2, 1), done.stderr
    assert "it must be a whole number, as the lists print it." in done.stderr


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("actions", "--run", TOO_LARGE), "--run takes a whole number"),
        (("changes", "--after", TOO_LARGE), "--after takes a whole number"),
        (("changes", TOO_LARGE), "There is no change"),
        (("show", TOO_LARGE), "There is no delivery"),
        (("runs", "list", "--before", TOO_LARGE), "--before takes a whole number"),
        (("reload", "--pid", TOO_LARGE), "No process with the id"),
        (("serve", "--fd", TOO_LARGE), "is not a socket of this process (too large)"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else None,
)
def test_a_number_beyond_64_bits_is_answered_in_one_line(folder, forks, command, told):
    done = forks.run(folder, *command)
    assert (done.returncode, len(lines(done.stderr))) == (1, 1), done.stderr
    assert told in done.stderr


@pytest.mark.parametrize("number", ["nan", "inf", "-1", "1e999"])
@pytest.mark.parametrize(
    "command",
    [
        ("follow", "--to", "http://127.0.0.1:1", "--timeout"),
        ("token", "--days"),
        ("simulate", "--to", "http://127.0.0.1:1", "--rate"),
        ("simulate", "--to", "http://127.0.0.1:1", "--speed"),
    ],
    ids=" ".join,
)
def test_a_number_that_no_clock_takes_is_refused_as_wrong_usage(folder, forks, command, number):
    *before, last = command
    done = forks.run(folder, *before, f"{last}={number}")
    assert (done.returncode, len(lines(done.stderr))) == (2, 1), done.stderr
    assert f"Invalid value for '{last}': it must be" in done.stderr
