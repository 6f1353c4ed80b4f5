"""`hookmirror follow` as a process: killed, terminated, run twice at the same time, and with its other options."""

from __future__ import annotations

import json
import signal
from collections import Counter
from contextlib import closing
from datetime import datetime

import httpx
import pytest
from commanding import TIMEOUT, Folder, Forks, wait_until
from ports import free_port
from targets import OK, Reply, receiving

from receiver.database.database import Database
from receiver.database.schema import Schema
from receiver.following.dead_changes import DEAD_CHANGES
from receiver.mirror.changes import RowChange, record
from receiver.moments import EPOCH


@pytest.fixture
def folder(tmp_path):
    """Make an installation on a SQLite file."""
    return prepared(Folder(tmp_path))


def prepared(folder):
    with closing(Database(folder.url)) as database:
        Schema(database).upgrade()
    return folder


def write(folder, *external_ids):
    rows = [
        RowChange("products", "iimmpact", each, "update", {}, {"active": True}, None, EPOCH) for each in external_ids
    ]
    with closing(Database(folder.url)) as database, database.write() as connection:
        record(connection, rows, now=EPOCH)


def cursor(folder):
    return folder.query("SELECT seq FROM followers")[0][0]


def test_a_killed_follower_goes_on_from_its_cursor_and_skips_nothing(mirror_url, tmp_path):
    folder = prepared(Folder(tmp_path, database_url=mirror_url))
    wanted = [f"P{number}" for number in range(400)]
    write(folder, *wanted)
    with receiving() as endpoint:
        arguments = ("follow", "--to", endpoint.url, "--name", "erp", "--from", "start")
        for enough in (60, 200):
            with folder.running(*arguments) as process:
                wait_until(lambda enough=enough: len(endpoint.accepted) >= enough or process.poll() is not None, "some")
                process.kill()
                assert process.wait() == -signal.SIGKILL
        with folder.running(*arguments) as process:
            wait_until(lambda: len(set(endpoint.ids())) == 400 or process.poll() is not None, "all")
            wait_until(lambda: cursor(folder) == 400, "the cursor to be saved")
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT) == 0
    firsts = list(dict.fromkeys(endpoint.ids()))
    assert firsts == wanted, "each for the first time in commit order"
    keys = {(posted.change["external_id"], posted.headers["idempotency-key"]) for posted in endpoint.accepted}
    assert len(keys) == 400, "and whatever came twice had the same key"
    assert cursor(folder) == 400


def test_a_follower_ends_although_its_target_hangs(folder):
    folder.patience = False
    write(folder, "P1", "P2")
    hanging = lambda posted, _: Reply(hangs=True) if posted.change["external_id"] == "P2" else OK  # noqa: E731
    with receiving(hanging) as endpoint:
        arguments = ("follow", "--to", endpoint.url, "--from", "start", "--timeout", str(TIMEOUT))
        with folder.running(*arguments) as process:
            wait_until(lambda: len(endpoint.posts) == 2 or process.poll() is not None, "the second")
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT / 2) == 0
    assert cursor(folder) == 1


#: Lets each read of the feed hang, as on a server that keeps its connections and answers nothing.
HANGING_DATABASE = """
import threading
import receiver.commands.follow as command
from receiver.following.feed import Feed

def hang(*_):
    print("hangs", flush=True)
    threading.Event().wait()

Feed.after = hang
command.END_TIMEOUT = 1.0
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_follower_ends_although_its_database_hangs(folder, number):
    folder.before = HANGING_DATABASE
    with folder.running("follow", "--to", "http://127.0.0.1:9/changes", "--name", "erp") as process:
        assert process.stdout.readline() == "hangs\n"
        process.send_signal(number)
        assert process.wait(TIMEOUT) == 0
        said = process.stderr.read()
    assert "ending, although the database or the target has not answered" in said
    assert "Traceback" not in said


def test_the_target_may_come_from_the_environment_that_other_users_cannot_read(folder):
    write(folder, "P1")
    with receiving() as endpoint:
        folder.environment["HOOKMIRROR_FOLLOW_TO"] = endpoint.url
        with folder.running("follow", "--name", "erp", "--from", "start") as process:
            wait_until(lambda: endpoint.accepted or process.poll() is not None, "the change")
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT) == 0
        assert endpoint.ids() == ["P1"]


def test_of_two_processes_one_works_and_the_other_takes_over_when_it_is_killed(folder):
    with receiving() as endpoint:
        arguments = ("follow", "--to", endpoint.url, "--name", "erp")
        with folder.running(*arguments) as first, folder.running(*arguments) as second:
            wait_until(lambda: folder.count(table="followers", where="holder IS NOT NULL") == 1, "one to begin")
            (holder,) = folder.query("SELECT holder FROM followers")[0]
            working, waiting = (first, second) if f":{first.pid}:" in holder else (second, first)
            write(folder, "P1", "P2")
            wait_until(lambda: len(endpoint.accepted) == 2, "both")
            wait_until(lambda: cursor(folder) == 2, "the cursor to be saved")
            working.kill()
            working.wait()
            write(folder, "P3")
            wait_until(lambda: len(endpoint.accepted) == 3 or waiting.poll() is not None, "the other one")
    assert Counter(endpoint.ids()) == {"P1": 1, "P2": 1, "P3": 1}


def test_a_410_ends_the_process_with_a_code_that_a_supervisor_need_not_restart(folder):
    write(folder, "P1")
    with receiving(lambda *_: Reply(410)) as endpoint:
        done = folder.run("follow", "--to", endpoint.url, "--from", "start")
    assert done.returncode == 4
    assert "wants no more changes" in done.stderr
    assert "Traceback" not in done.stderr


def test_dead_changes_are_listed_with_their_reason_and_sent_again_by_the_running_process(folder, forks):
    write(folder, "BAD", "P2")
    refusing = lambda posted, _: (  # noqa: E731
        Reply(422, content=b"no such unit\x1b[31m") if posted.change["external_id"] == "BAD" else OK
    )
    port = free_port()
    with receiving(refusing) as endpoint:
        arguments = ("follow", "--to", endpoint.url, "--name", "erp", "--from", "start", "--tries", "1")
        with folder.running(*arguments, "--metrics-port", str(port)) as process:
            wait_until(lambda: len(endpoint.accepted) == 1 or process.poll() is not None, "the other one")
            answer = json.loads(forks.run(folder, "follow", "--list", "--json").stdout)
            assert [(each["seq"], each["state"], each["status"]) for each in answer["dead"]] == [(1, "dead", 422)]
            assert "no such unit" in answer["dead"][0]["reason"]
            assert (answer["followers"][0]["dead"], answer["followers"][0]["target"]) == (1, endpoint.url)
            shown = forks.run(folder, "follow", "--list").stdout
            assert "no such unit" in shown
            since = datetime.fromisoformat(answer["dead"][0]["since"])
            assert f" {since:%Y-%m-%d %H:%M:%SZ} " in shown, "to the second, as all commands print times"
            assert "\x1b" not in shown, "what a target says cannot write to the terminal"
            metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT).text
            assert 'hookmirror_follow_dead{name="erp"} 1.0' in metrics
            assert 'hookmirror_follow_posts_total{name="erp",verdict="refused"} 1.0' in metrics
            endpoint.reply = lambda *_: OK
            again = forks.run(folder, "follow", "--name", "erp", "--retry-dead", "--json")
            assert json.loads(again.stdout) == {"name": "erp", "retried": 1, "served": True}
            wait_until(lambda: endpoint.ids() == ["P2", "BAD"], "the dead one")
            wait_until(lambda: folder.count(table=str(DEAD_CHANGES.name)) == 0, "the list to be empty")
    without = forks.run(folder, "follow", "--name", "erp", "--retry-dead").stdout
    assert without.endswith("They wait until its `hookmirror follow` runs: no process serves erp now.\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--to or HOOKMIRROR_FOLLOW_TO takes the URL"),
        (("--to", ""), "--to is empty: it takes the URL that changes are posted to, such as https://"),
        (("--to", "ftp://erp.example/x"), "--to does not begin with http:// or https://: it takes the URL"),
        (("--to", "http://"), "--to names no host: it takes the URL"),
        (("--to", "http://a..b/"), "--to names a host that cannot exist: it takes the URL"),
        (("--to", "http://127.0.0.1:99999/"), "--to has a port that is not a number from 1 to 65535"),
        (("--to", "http://e.example/" + "a" * 10_000), "--to is longer than 2,000 characters"),
        (("--to", "http://e.example/", "--from", "yesterday"), "--from takes `now`"),
        (("--to", "http://e.example/", "--from", "-1"), "--from takes `now`"),
        (("--to", "http://e.example/", "--name", "two words"), "--name takes up to 100"),
        (("--to", "http://e.example/", "--table", "lamps"), "There is no table 'lamps'"),
        (("--to", "http://e.example/", "--source", "nobody"), "There is no source 'nobody'"),
        (("--to", "http://e.example/", "--secret-file", "/nowhere"), "cannot be read"),
        (("--to", "http://e.example/", "--from", "12"), "--from 12 lies beyond"),
        (("--retry-dead",), "--name takes a name that --list shows"),
        (("--retry-dead", "--name", "nobody"), "There is no follower 'nobody'"),
        (("--list", "--forget", "--name", "erp"), "one of --list, --retry-dead, --drop-dead and --forget at a time"),
    ],
)
def test_arguments_that_are_not_valid_are_refused_with_what_to_do(folders, arguments, says):
    done = folders("follow", *arguments)
    assert done.returncode in (1, 4)
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def folders(forks, tmp_path_factory):
    """Return a function that runs commands on one installation, which no command changes."""
    here = Folder(tmp_path_factory.mktemp("refused"))
    here.migrate()
    return lambda *arguments: forks.run(here, *arguments)


@pytest.fixture(scope="module")
def forks():
    with Forks(1) as running:
        yield running


def test_without_a_follower_the_list_says_how_to_begin_one(folders):
    assert "creates one" in folders("follow", "--list").stdout
    assert json.loads(folders("follow", "--list", "--json").stdout) == {"followers": [], "dead": []}
