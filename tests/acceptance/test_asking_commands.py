"""`hookmirror search`, `deliveries`, `show`, `row` and `changes`, on the database and through the API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from subprocess import CompletedProcess
from typing import NamedTuple

import pytest
from commanding import SECRET, SECRETS, Folder, Forks, product
from serving import serving, token, wait_until

from receiver.api.tokens import Scope
from receiver.commands.tables import cell
from receiver.logs.escapes import hex_lines

HOSTILE = "Lamp\x1b[2J\u202e"


class Asking(NamedTuple):
    """An installation with deliveries and rows, its receiver, and a function that runs commands."""

    folder: Folder
    receiver: str
    forks: Forks

    def run(self, *arguments: str, given_token: str | None = None) -> CompletedProcess[str]:
        environment = {"HOOKMIRROR_TOKEN": token(Scope.READ) if given_token is None else given_token}
        return self.forks.run(replace(self.folder, environment=environment), *arguments)

    def ask(self, *arguments: str, over: str = "", code: int = 0) -> str:
        """Run a command, and return its standard output, or its standard error if it fails."""
        done = self.run(*arguments, *(["--to", self.receiver] if over else []))
        assert done.returncode == code, done.stderr
        return done.stderr if code else done.stdout


@pytest.fixture(scope="module")
def asking(tmp_path_factory) -> Iterator[Asking]:
    folder = Folder(tmp_path_factory.mktemp("asking"))
    sources = {"iimmpact": {"secrets": [SECRET]}, "sigma": {"secrets": [SECRETS["sigma"]]}}
    with serving(folder.url, sources=sources, with_worker=True) as running, Forks(1) as forks:
        for number in range(3):
            running.send("iimmpact", product(number, key=f"SKU-{number}", name=HOSTILE), secret=SECRET)
        running.send("sigma", b"\xff\xfe not JSON", secret=SECRETS["sigma"])
        wait_until(lambda: running.count("deliveries", "ended_at IS NULL") == 0, "the worker")
        yield Asking(folder, str(running.client.base_url).rstrip("/"), forks)


BOTH = pytest.mark.parametrize("over", ["", "the API"])


@BOTH
def test_deliveries_are_listed_and_filtered(asking, over):
    listed = [json.loads(line) for line in asking.ask("deliveries", "--json", over=over).splitlines()]
    assert [each["entity"] for each in listed] == [None, "product:P2", "product:P1", "product:P0"]
    dead = asking.ask("deliveries", "--state", "dead", "--since", "1h", "--source", "sigma", over=over)
    assert len(dead.splitlines()) == 2
    assert asking.ask("deliveries", "--event-type", "sun.set", over=over) == "None.\n"


def test_a_list_continues_at_its_cursor(asking):
    following = json.loads(asking.run("deliveries", "--limit", "1", "--json").stderr)["next"]
    second = json.loads(asking.ask("deliveries", "--limit", "1", "--json", "--cursor", following))
    assert second["entity"] == "product:P2"


@BOTH
def test_a_list_with_a_relative_time_continues_at_its_cursor(asking, over):
    to = ["--to", asking.receiver] if over else []
    following = json.loads(asking.run("deliveries", "--since", "2h", "--limit", "1", "--json", *to).stderr)["next"]
    listed = asking.ask("deliveries", "--since", "2h", "--limit", "1", "--json", "--cursor", following, over=over)
    assert json.loads(listed)["entity"] == "product:P2"


@BOTH
def test_a_feed_with_a_relative_time_continues_at_its_number_and_its_moment(asking, over):
    to = ["--to", asking.receiver] if over else []
    told = asking.run("changes", "--after", "0", "--since", "2h", "--limit", "1", *to).stderr
    (options,) = re.findall(r"^There may be more: (--after 1 --since \S+)$", told, re.MULTILINE)
    listed = asking.ask("changes", *options.split(), "--limit", "1", "--json", over=over)
    assert json.loads(listed)["seq"] == 2


@BOTH
def test_rows_are_listed_and_filtered(asking, over):
    listed = [json.loads(line) for line in asking.ask("rows", "products", "--json", over=over).splitlines()]
    assert [each["external_id"] for each in listed] == ["P0", "P1", "P2"]
    table = asking.ask("rows", "products", "--sku", "SKU-1", "--active", over=over)
    assert [line.split()[:2] for line in table.splitlines()[1:]] == [["iimmpact", "P1"]]
    assert asking.ask("rows", "products", "--no-active", over=over) == "None.\n"


@BOTH
def test_the_tables_are_listed(asking, over):
    assert "products" in asking.ask("rows", over=over).splitlines()
    assert "give the table before it" in asking.ask("rows", "--sku", "SKU-1", over=over, code=1)


@BOTH
def test_a_search_says_what_it_found(asking, over):
    assert "products/iimmpact/P1" in asking.ask("search", "P1", over=over)
    nowhere = asking.ask("search", "p1", over=over)
    assert nowhere.startswith("'p1' was not found")
    assert "dedup_keys" in nowhere


@BOTH
def test_no_control_character_of_a_sender_reaches_the_terminal(asking, over):
    (found,) = json.loads(asking.ask("search", "product:P1", "--json", over=over))["deliveries"]
    shown = (
        asking.ask("row", "products", "iimmpact", "P1", over=over),
        asking.ask("rows", "products", over=over),
        asking.ask("changes", over=over),
        asking.ask("search", "P1", over=over),
        asking.ask("show", found["delivery"]["id"], over=over),
    )
    for each in shown:
        assert "Lamp" in each
        assert all(line.isprintable() for line in each.splitlines())
    assert "Lamp\\x1b[2J\\u202e" in shown[0]


@BOTH
def test_a_body_that_is_not_text_is_shown_in_hexadecimal_digits(asking, over):
    dead = json.loads(asking.ask("deliveries", "--state", "dead", "--json", over=over))
    assert "00000000  ff fe 20 6e 6f 74" in asking.ask("show", dead["id"], over=over)
    assert json.loads(asking.ask("show", dead["id"], "--json", over=over))["body_encoding"] == "base64"


def test_a_body_is_written_byte_for_byte(asking):
    (found,) = json.loads(asking.ask("search", "product:P1", "--json"))["deliveries"]
    assert asking.ask("show", found["delivery"]["id"], "--body").encode() == product(1, key="SKU-1", name=HOSTILE)


@BOTH
def test_a_row_with_one_delivery_is_explained_in_the_singular(asking, over):
    said = asking.ask("row", "products", "iimmpact", "P1", over=over)
    assert re.search(r"^1 kept delivery was run again, in \d+ ms: its result equals the row\.$", said, re.MULTILINE)


@BOTH
def test_changes_are_listed_newest_first_or_after_a_number(asking, over):
    newest = [json.loads(line)["seq"] for line in asking.ask("changes", "--json", over=over).splitlines()]
    assert newest == [3, 2, 1]
    behind = asking.ask("changes", "--json", "--after", "1", over=over).splitlines()
    assert [json.loads(line)["seq"] for line in behind] == [2, 3]


@BOTH
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["show", "1"], "There is no delivery '1': `hookmirror deliveries` lists them."),
        (["deliveries", "--since", "yesterday"], "--since takes a time with its offset"),
        (["deliveries", "--sku", "A1"], "`hookmirror search SKU` finds the rows"),
        (["row", "products", "iimmpct", "P1"], "perhaps 'iimmpact' was meant"),
        (["show", "x\n\x1b"], "There is no delivery"),
        (["row", "moons", "iimmpact", "P1"], "There is no table 'moons'"),
        (["rows", "moons"], "There is no table 'moons'"),
        (["rows", "products", "--sku", ""], "--sku is empty"),
        (["row", "products", "iimmpact", "../P1"], "is known"),
        (["deliveries", "--source", "nosuch"], "There is no source 'nosuch'"),
        (["deliveries", "--cursor", "x"], "--cursor was not signed by this installation"),
        (["deliveries", "--entity", ""], "--entity is empty"),
        (["changes", "--after", "999"], "The change feed ends with 3"),
        (["search", ""], "TEXT is empty"),
    ],
)
def test_a_question_without_an_answer_is_refused_in_one_line_that_says_why(asking, over, arguments, reason):
    said = asking.ask(*arguments, over=over, code=1)
    assert reason in said
    assert len(said.splitlines()) == 1


@BOTH
@pytest.mark.parametrize(
    "arguments",
    [
        ["search"],
        *(["deliveries", f"--{name}"] for name in ("event-type", "entity", "reason", "source", "dedup-key")),
        *(["runs", "plan", f"--{name}"] for name in ("entity", "reason-has", "dedup-key")),
    ],
)
def test_a_filter_of_ten_kilobytes_is_refused_in_one_short_line(asking, over, arguments):
    said = asking.ask(*arguments, "%" * 10_000, over=over, code=1)
    assert "takes at most" in said or "The URL is longer than 8192 bytes" in said
    assert len(said.splitlines()) == 1
    assert len(said) < 300


@pytest.mark.parametrize(
    "arguments",
    [
        ["show"],
        ["runs", "show"],
        ["row", "products", "iimmpact"],
        ["rows"],
        ["ask", "iimmpact", "--entity"],
        ["reconcile", "iimmpact", "--entity"],
        ["rehearse", "--source", "iimmpact"],
        ["follow", "--to", "http://erp.example/", "--from"],
        ["follow", "--to", "http://erp.example/", "--table"],
        ["follow", "--forget", "--name"],
        ["deliveries", "--state"],
        ["send", "iimmpact", "product.updated", "--header"],
    ],
    ids=" ".join,
)
def test_an_argument_of_ten_kilobytes_is_not_repeated_in_the_message(asking, arguments):
    done = asking.run(*arguments, "/" * 10_000)
    assert done.returncode != 0
    assert len(done.stderr) < 600
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("limit", ["0", "-1", "x", "99999999999999999999"])
def test_a_limit_that_is_not_valid_is_refused(asking, limit):
    assert "limit" in asking.ask("deliveries", "--limit", limit, code=2)


@pytest.mark.parametrize(
    ("to", "given_token", "reason"),
    [
        ("http://127.0.0.1:9", "secret-token", "No server answers at http://127.0.0.1:9"),
        ("nowhere", "secret-token", "--to does not begin with http:// or https://: it takes the URL of a receiver"),
        ("http://[", "secret-token", "--to names a host that cannot exist"),
        ("http://a..b", "secret-token", "--to names a host that cannot exist"),
        ("http://127.0.0.1:99999", "secret-token", "--to has a port that is not a number from 1 to 65535"),
        (None, "secret-token", "The token is not valid here"),
        (None, "secret\ntoken", "The token is not valid"),
        (None, "", "--to needs a token"),
    ],
)
def test_a_receiver_that_cannot_be_asked_is_reported_in_one_line(asking, to, given_token, reason):
    done = asking.run("deliveries", "--to", to or asking.receiver, given_token=given_token)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert reason in done.stderr
    assert "secret" not in done.stderr


def test_cells_show_numbers_with_all_their_digits():
    assert cell("19.900") == "19.900"
    assert cell(Decimal("1E+3")) == "1000"
    assert cell(123456789012345678901234567890) == "123456789012345678901234567890"


def test_bytes_are_shown_with_their_offsets_and_their_ascii_characters():
    assert hex_lines(b"A\x00\xff" + b"x" * 14) == [
        "00000000  41 00 ff 78 78 78 78 78 78 78 78 78 78 78 78 78  A..xxxxxxxxxxxxx",
        f"00000010  {'78':<47}  x",
    ]
