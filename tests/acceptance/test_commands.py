"""The commands at work, each in a process of its own, on one installation that a server and a worker share."""

from __future__ import annotations

import json
import re
from importlib.metadata import version

import pytest
from commanding import SECRET_KEY, SETTINGS, TIMEOUT, Folder, Forks, lines, post, product, wait_until
from stub_servers import Stub, answering

NOON = "2026-03-04T12:00:00Z"

#: The reply of `replay` about deliveries that it was given and cannot replay.
LEFT = "cannot be replayed: unfinished, or the body has expired."

#: IIMMPACT's own list, as its API returns it.
CATALOG = {
    "tree": {"groups": []},
    "products": {
        "P0": {"code": "P0", "name": "Lamp as listed", "is_active": True},
        "NEW": {"code": "NEW", "name": "Never announced", "is_active": True},
    },
}


class Listing(Stub):
    def get(self):
        content = json.dumps(CATALOG).encode()
        # Without a Date, whose whole seconds would let the rows of one reconcile be as new as the list of the next.
        self.send_response_only(200 if self.path == "/v2/catalog" else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="module")
def api():
    with answering(Listing) as url:
        yield url


@pytest.fixture(scope="module")
def forks():
    with Forks(1) as running:
        yield running


@pytest.fixture(scope="module")
def folder(lend_database, tmp_path_factory, api):
    """Make an installation whose IIMMPACT has an API."""
    account = f'[sources.iimmpact]\napi_url = "{api}"\napi_key = "key"\napi_secret = "c2VjcmV0"'
    path = tmp_path_factory.mktemp("commands")
    with lend_database(path) as database_url:
        yield Folder(path, SETTINGS.replace("[sources.iimmpact]", account), database_url)


@pytest.fixture(scope="module")
def served(folder):
    """Serve the installation without a worker."""
    with folder.serving("--no-worker") as (_, client):
        yield client


@pytest.fixture(scope="module")
def ask(folder, forks):
    """Return a function that runs a command, which must succeed, and returns its JSON."""

    def ask(*arguments: str):
        done = forks.run(folder, *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


def url(client) -> str:
    return str(client.base_url)


# ── token ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_token_prints_only_a_token_and_the_api_accepts_it(folder, forks, served):
    done = forks.run(folder, "token", "--scope", "operate", "--days", "1")
    assert (done.returncode, done.stderr, len(lines(done.stdout))) == (0, "", 1)
    answer = served.get("/api/v1/stats", headers={"Authorization": f"Bearer {done.stdout.strip()}"})
    assert answer.status_code == 200


def test_version_prints_the_version_of_the_distribution(folder, forks):
    done = forks.run(folder, "--version")
    assert (done.returncode, done.stdout) == (0, f"hookmirror {version('hookmirror')}\n")


# ── send ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("source", "event_type"),
    [
        ("sigma", "entity.updated"),
        ("indexed", "product.updated"),
        ("iimmpact", "product.created"),
        ("sticky", "product.updated"),
    ],
)
def test_send_signs_as_the_source_does(ask, served, source: str, event_type: str):
    sent = ask("send", source, event_type, "--id", "7", "--to", url(served))
    assert (sent["status"], json.loads(sent["answer"])["status"]) == (200, "accepted")


def test_send_posts_the_bytes_of_a_file(folder, forks, served):
    (folder.path / "event.json").write_bytes(product(1, key="file", name="Lamp from a file"))
    done = forks.run(folder, "send", "iimmpact", "event.json", "--to", url(served))
    assert (done.returncode, done.stdout[:25]) == (0, '200 {"status":"accepted",')


@pytest.mark.parametrize("at", ["2026-03-04T12:00:00+08:00", "2026-03-04T04:00:00.0Z", "20260304T040000Z"])
def test_send_takes_a_time_and_data(folder, ask, served, at: str):
    sent = ask("send", "iimmpact", "product.updated", "--at", at, "--data", '{"name": "x"}', "--to", url(served))
    found = f"id = {json.loads(sent['answer'])['delivery']} AND CAST(occurred_at AS TEXT) LIKE '2026-03-04_04:00:00%'"
    assert folder.count(found) == 1


def test_an_event_type_without_a_handler_is_accepted_and_ignored(folder, ask, served):
    sent = ask("send", "sigma", "moon.eclipsed", "--to", url(served))
    assert folder.count(f"id = {json.loads(sent['answer'])['delivery']} AND state = 'ignored'") == 1


def test_send_finds_the_server_of_this_machine_and_says_its_address(folder, forks, served):
    wait_until(lambda: url(served) in str(folder.query("SELECT settings FROM processes")), "the server's address")
    done = forks.run(folder, "send", "sigma", "entity.updated")
    assert (done.returncode, done.stdout[:25]) == (0, '200 {"status":"accepted",')
    assert done.stderr == f"Posted to {url(served)}/hooks/sigma; --to URL names another address.\n"


def test_send_finds_a_server_below_the_path_of_a_proxy(tmp_path):
    folder = Folder(tmp_path)
    with folder.serving("--root-path", "/pim") as (_, client):
        wait_until(lambda: url(client) in str(folder.query("SELECT settings FROM processes")), "the server's address")
        done = folder.run("send", "sigma", "entity.updated")
    assert (done.returncode, done.stdout[:25]) == (0, '200 {"status":"accepted",')


class Sly(Stub):
    """A server whose answer would set the title of a terminal, in an encoding that Python has for bytes only."""

    def post(self):
        self.body()
        content = b"\x1b]0;title\x07caf\xc3\xa9\xff"
        self.answer(content, content_type="text/plain; charset=hex")


def test_send_shows_any_answer_without_its_control_characters(folder, forks):
    with answering(Sly) as server:
        done = forks.run(folder, "send", "sigma", "product.updated", "--to", server)
    assert (done.returncode, done.stdout) == (0, "200 \\x1b]0;title\\x07caf\u00e9\ufffd\n")


def test_send_fails_and_shows_the_answer_when_the_receiver_refuses(tmp_path, forks, served):
    stranger = Folder(tmp_path, SETTINGS.replace("secret-of-these-tests-only", "another"))
    done = forks.run(stranger, "send", "sigma", "entity.updated", "--to", url(served))
    assert (done.returncode, done.stdout[:33]) == (1, '401 {"error":"signature_wrong","m')


# ── doctor and migrate ────────────────────────────────────────────────────────────────────────────────────────


def test_doctor_finds_nothing_to_mend_in_a_sound_installation(tmp_path, forks):
    done = forks.run(Folder(tmp_path), "doctor")
    assert done.returncode == 0, done.stdout
    assert [line[:4] for line in lines(done.stdout)] == ["ok  "] * 8
    assert "secret-of-these-tests" not in done.stdout


def test_doctor_names_each_thing_to_mend(tmp_path, forks):
    (tmp_path / "hookmirror.db").write_bytes(b"no database" * 1_000)
    ill = Folder(tmp_path, 'secret_key = "short"\n[sources.sigma]\n[sources.nobody]\nsecrets = ["x"]')
    done = forks.run(ill, "doctor", "--json")
    findings = {each["subject"]: (each["good"], each["says"]) for each in json.loads(done.stdout)}
    assert done.returncode == 1
    assert [subject for subject, (good, _) in findings.items() if not good] == [
        *("secret key", "source sigma", "source nobody", "database"),
    ]
    assert "less than 16 characters" in findings["secret key"][1]
    assert "The file is not an SQLite database" in findings["database"][1]


def test_doctor_and_the_start_report_a_secret_with_blanks_around_it(tmp_path, forks):
    blank = Folder(tmp_path, SETTINGS.replace("-tests-only", "-tests-only "))
    done = forks.run(blank, "doctor")
    assert done.returncode == 0, "such a secret is allowed"
    assert next(line for line in lines(done.stdout) if "secrets[1] of the source" in line) == (
        "LOOK source sigma: secrets[1] of the source sigma has blanks around it, which count as part of it: "
        "remove them, unless the sender has them, too."
    )
    assert "secrets[1] of the source sigma has blanks around it" in forks.run(blank, "prune").stderr


def test_doctor_reports_a_database_file_that_cannot_be_written(tmp_path, forks):
    folder = Folder(tmp_path)
    folder.migrate()
    read_only = Folder(
        tmp_path, environment={"HOOKMIRROR_DATABASE_URL": f"sqlite:///file:{folder.database}?mode=ro&uri=true"}
    )
    done = forks.run(read_only, "doctor")
    (told,) = [line for line in lines(done.stdout) if "database: " in line]
    assert (done.returncode, told[:4]) == (1, "MEND")
    assert told.endswith("write `mode=rw` there, or leave the mode out.")


def test_doctor_reports_that_endpoints_run_without_a_worker(folder, forks, served):
    wait_until(lambda: folder.count(table="processes"), "the endpoint's sign of life")
    done = forks.run(folder, "doctor")
    mend = "start `hookmirror worker`, or let `serve` run one"
    assert (done.returncode, lines(done.stdout)[-1]) == (
        1,
        f"MEND worker: no worker runs, so accepted deliveries wait: {mend}",
    )


HALF_A_SHOP = """
from receiver import Dialect, HmacSha256, MirrorRow

class Item(MirrorRow, table=True):
    __tablename__ = "half_items"
    name: str

shop = Dialect("shop", verify=HmacSha256(header="X-Signature"))
"""


def test_doctor_continues_after_a_dialect_that_cannot_be_used(tmp_path, forks):
    (tmp_path / "half_a_shop.py").write_text(HALF_A_SHOP)
    settings = 'dialects = ["nowhere:lost", "half_a_shop:shop"]\n[sources.lost]\nsecrets = ["x"]'
    done = forks.run(
        Folder(tmp_path, f"{settings}{SETTINGS.replace('secret_key', '# secret_key')}"), "doctor", "--json"
    )
    findings = [(each["subject"], each["good"], each["says"]) for each in json.loads(done.stdout)]
    said = {subject: (good, says) for subject, good, says in findings}
    wiring = [says for subject, good, says in findings if (subject, good) == ("wiring", False)]
    assert done.returncode == 1
    assert len(wiring) == 3
    assert "there is no module 'nowhere'" in wiring[0]
    assert "The mirror table Item requires name" in wiring[1]
    assert "The dialect shop has no envelope" in wiring[2]
    assert said["source lost"] == (False, "speaks `lost`, an unknown dialect: mend the wiring")
    assert said["source sigma"][0]
    assert "does not exist yet" in said["database"][1]


def test_migrate_makes_the_tables_once_and_may_be_run_again(tmp_path, forks):
    fresh = Folder(tmp_path)
    for _ in range(2):
        assert forks.run(fresh, "migrate").returncode == 0
    assert fresh.count() == 0


def test_migrate_needs_no_source_and_no_secret_key_and_makes_the_tables_of_the_packages(tmp_path, forks):
    alone = Folder(tmp_path, settings="", environment={"HOOKMIRROR_CONFIG": None})
    dry = forks.run(alone, "migrate", "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "catalog would go from nothing to " in dry.stdout
    done = forks.run(alone, "migrate")
    assert (done.returncode, done.stderr) == (0, "")
    assert (alone.count(), alone.count(table="products")) == (0, 0)


def test_migrate_does_not_check_whether_a_source_could_be_served(tmp_path, forks):
    unready = Folder(tmp_path, settings="[sources.sigma]\n[sources.nobody]\nsecrets_file = 'absent'")
    assert forks.run(unready, "migrate").returncode == 0


# ── errors in a user's code ───────────────────────────────────────────────────────────────────────────────────

FAILING = """
from datetime import UTC, datetime
from receiver import Dialect, Envelope, HmacSha256
from handlers.catalog import Product
import httpx

class Failing(HmacSha256):
    def check(self, credentials):
        if credentials.secrets[0].value == b"check":
            raise TypeError(f"no {credentials.secrets[0].value}-value")

    def sign(self, body, credentials):
        raise KeyError(f"{credentials.secrets[0].value}-value")

failing = Dialect("failing", verify=Failing(header="X-Signature"))

@failing.envelope
def read(body: dict) -> Envelope:
    return Envelope(event_type=body["type"], entity=None, occurred_at=datetime(2026, 1, 1, tzinfo=UTC), data=None)

@failing.compose
def write(event_type, entity_id, at, data):
    if event_type == "mute":
        raise Mute
    return {"type": helped(data)}

def helped(data):
    return data["type"]

class Mute(Exception):
    def __str__(self):
        raise ValueError

@failing.connect
def client(source):
    return httpx.Client(base_url=source.api_url)

@failing.listing(Product)
def walk(api):
    yield from None
"""


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("failing")
    (folder / "failing.py").write_text(FAILING)
    account = '[sources.failing]\nsecrets = ["sign"]\napi_url = "http://127.0.0.1:1"\n'
    return Folder(folder, f'secret_key = "{SECRET_KEY}"\ndialects = ["failing:failing"]\n{account}')


def line_of(text: str) -> int:
    return FAILING.splitlines().index(text) + 1


@pytest.mark.parametrize(
    ("arguments", "line", "says"),
    [
        (("send", "failing", "a.b", "--data", "{}"), '    return data["type"]', "KeyError: 'type'"),
        (("send", "failing", "mute"), "        raise Mute", "Mute)"),
        (("reconcile", "failing"), "    yield from None", "TypeError: 'NoneType' object is not iterable"),
        (
            ("send", "failing", "a.b", "--data", '{"type": "a.b"}'),
            '        raise KeyError(f"{credentials.secrets[0].value}-value")',
            "KeyError.",
        ),
    ],
)
def test_an_error_in_a_dialect_s_own_code_is_one_line_that_says_where(failing, forks, arguments, line, says):
    done = forks.run(failing, *arguments)
    assert done.returncode == 1
    (told,) = lines(done.stderr)
    assert f"{failing.path}/failing.py, line {line_of(line)}: {says}" in told
    assert "-value" not in told


@pytest.mark.parametrize("command", [("doctor",), ("serve",), ("worker",), ("replay", "1"), ("prune",)])
def test_an_error_in_a_verifier_s_check_is_one_line_that_says_where_and_no_secret(failing, forks, command):
    refused = Folder(failing.path, failing.settings.replace('"sign"', '"check"'))
    done = forks.run(refused, *command)
    assert done.returncode == 1
    (told,) = [line for line in lines(done.stdout + done.stderr) if "verifier" in line]
    line = line_of('            raise TypeError(f"no {credentials.secrets[0].value}-value")')
    assert told.endswith(f"{failing.path}/failing.py, line {line}: TypeError.")
    assert "Traceback" not in done.stderr


# ── worker, replay, reconcile, prune: one after the other, on what was sent ───────────────────────────────────


def test_a_separate_worker_processes_what_the_server_accepted(folder, served):
    acked = [post(served, product(number, key="drain", name=f"Lamp {number}")) for number in range(40)]
    assert {answer.status_code for answer in acked} == {200}
    assert folder.count("state = 'pending'") >= 40
    with folder.running("worker") as worker:
        wait_until(lambda: folder.count("state IN ('pending', 'processing')") == 0, "the worker")
        late = post(served, product(0, key="late", name="Lamp, late", at="2026-03-04T13:00:00Z"))
        wait_until(lambda: folder.count(f"id = {late.json()['delivery']} AND state = 'processed'"), "the late one")
        worker.terminate()
        assert worker.wait(TIMEOUT) == 0
        told = lines(worker.stderr.read())
    assert re.search(r"\] working +sources='iimmpact, indexed, sigma, sticky'$", told[0])
    assert told[-1].endswith("] stopped")
    assert folder.count("source = 'iimmpact' AND external_id LIKE 'P%'", "products") == 40
    assert folder.count("external_id = 'P0' AND name = 'Lamp, late'", "products") == 1


def test_replay_makes_the_deliveries_pending_that_its_options_name(folder, ask, served):
    post(served, b"not JSON at all")
    dead = folder.count("state = 'dead'")
    assert dead >= 1
    foreseen = ask("replay", "--state", "dead", "--dry-run")
    assert (foreseen["replayed"], foreseen["left"], foreseen["dry_run"]) == (dead, 0, True)
    assert foreseen["forecast"]["outcomes"]["dead"] >= 1
    assert folder.count("state = 'dead'") == dead
    assert ask("replay", "--state", "dead") == {"replayed": dead, "left": 0, "dry_run": False, "run": None}
    assert folder.count("state = 'dead'") == 0
    assert ask("replay", "--state", "dead") == {"replayed": 0, "left": 0, "dry_run": False, "run": None}
    assert ask("actions", "--limit", "1")[0]["what"] == "replay"


def test_replay_takes_ids_and_reports_deliveries_that_have_not_ended(folder, forks, served):
    waiting = post(served, product(1, key="waits", name="Lamp")).json()["delivery"]
    ignored = post(served, json.dumps({"type": "moon.eclipsed", "id": "M", "timestamp": NOON}).encode())
    named = (waiting, ignored.json()["delivery"])
    dry, done = forks.run(folder, "replay", *named, "--dry-run"), forks.run(folder, "replay", *named)
    assert lines(dry.stdout)[0] == f"Deliveries that would be pending again: 1. 1 of the given deliveries {LEFT}"
    assert done.stdout == f"Deliveries that are pending again: 1. 1 of the given deliveries {LEFT}\n"


def test_replay_of_an_id_that_does_not_exist_names_it_and_leaves_the_others_alone(folder, forks, served):
    dead = post(served, b"not JSON either").json()["delivery"]
    done = forks.run(folder, "replay", dead, "12345", "99999999999999999999")
    assert (done.returncode, done.stdout) == (1, "")
    assert "No delivery has the id 12345, 99999999999999999999, so nothing is replayed" in done.stderr
    assert folder.count(f"id = {dead} AND state = 'dead'") == 1


def test_replay_and_a_plan_take_a_dedup_key_and_part_of_the_reason(folder, ask, served):
    named, other = (post(served, b"not JSON " + tail).json()["delivery"] for tail in (b"one", b"two"))
    ((key,),) = folder.query(f"SELECT dedup_key FROM deliveries WHERE id = {named}")
    assert ask("runs", "plan", "--dedup-key", key, "--reason-has", "JSON")["total"] == 1
    assert ask("replay", "--dedup-key", key, "--reason-has", "no such reason")["replayed"] == 0
    assert ask("replay", "--dedup-key", key, "--no-conflict", "--reason-has", "JSON")["replayed"] == 1
    states = dict(folder.query(f"SELECT id, state FROM deliveries WHERE id IN ({named}, {other})"))
    assert (states[int(named)], states[int(other)]) == ("pending", "dead")


def test_replay_takes_a_source_that_has_left_the_settings(folder, ask, served):
    folder.query("UPDATE deliveries SET source = 'former' WHERE state = 'dead'")
    assert ask("replay", "--source", "former")["replayed"] >= 1


def test_misdated_news_of_a_source_without_a_list_can_be_dated_back(folder, ask):
    report = ask("reconcile", "indexed", "--misdated")
    assert (report["listed"], report["misdated"], report["repaired"]) == (None, 0, [])


def test_reconcile_shows_the_difference_and_then_repairs_it(folder, forks, served):
    machine = forks.run(folder, "reconcile", "iimmpact", "--dry-run", "--force", "--json")
    assert "insert" in {change["operation"] for change in json.loads(machine.stdout)["repaired"]}
    dry = forks.run(folder, "reconcile", "iimmpact", "--dry-run", "--force")
    assert dry.returncode == 0, dry.stderr
    assert "insert products NEW:" in dry.stdout
    assert folder.count("external_id = 'NEW'", "products") == 0
    braked = forks.run(folder, "reconcile", "iimmpact")
    assert braked.returncode == 1
    assert "run this again with --force" in braked.stdout
    assert folder.count("external_id = 'NEW' AND name = 'Never announced'", "products") == 1
    forced = forks.run(folder, "reconcile", "iimmpact", "--force", "--json")
    assert forced.returncode == 0, forced.stderr
    assert {change["operation"] for change in json.loads(forced.stdout)["repaired"]} == {"deactivate"}
    assert folder.count("source = 'iimmpact' AND active", "products") == 2
    again = forks.run(folder, "reconcile", "iimmpact")
    assert lines(again.stdout) == ["iimmpact: 2 rows listed, 0 repaired, 0 changed since."]


def test_ask_shows_a_row_beside_its_source_and_repairs_it_with_a_reason(folder, forks, served):
    equal = forks.run(folder, "ask", "products", "iimmpact", "NEW")
    assert (equal.returncode, "The mirror agrees." in equal.stdout) == (0, True)
    folder.query("UPDATE products SET name = 'wrong' WHERE external_id = 'NEW'")
    differs = forks.run(folder, "ask", "products", "iimmpact", "NEW", "--json")
    assert differs.returncode == 1, differs.stderr
    assert {"name": "name", "here": "wrong", "there": "Never announced", "equal": False} in json.loads(differs.stdout)[
        "columns"
    ]
    without = forks.run(folder, "ask", "products", "iimmpact", "NEW", "--repair")
    assert (without.returncode, "needs a reason of 3 to 200 characters" in without.stderr) == (1, True)
    repaired = forks.run(folder, "ask", "products", "iimmpact", "NEW", "--repair", "--reason", "found by a customer")
    assert (repaired.returncode, lines(repaired.stdout)[-1]) == (0, "Repaired: 1 rows changed.")
    assert folder.count("external_id = 'NEW' AND name = 'Never announced'", "products") == 1
    nowhere = forks.run(folder, "ask", "lamps", "iimmpact", "NEW")
    assert "The mirror has no table 'lamps': choose one of" in nowhere.stderr
    cannot = forks.run(folder, "ask", "records", "indexed", "A1")
    assert "indexed has no lookup for rows of records" in cannot.stderr


def test_a_reconcile_of_one_row_is_a_repair_run_with_one_row(folder, ask, forks, served):
    folder.query("UPDATE products SET name = 'wrong' WHERE external_id = 'NEW'")
    dry = forks.run(folder, "reconcile", "iimmpact", "--entity", "products:NEW", "--dry-run")
    assert (dry.returncode, 'name: "Never announced" there, "wrong" here' in dry.stdout) == (1, True)
    healed = forks.run(folder, "reconcile", "iimmpact", "--entity", "products:NEW")
    assert (healed.returncode, "Repaired: 1 rows changed." in healed.stdout) == (0, True), healed.stderr
    newest = ask("runs")[0]
    assert (newest["kind"], newest["tally"], newest["state"]) == ("repair", {"repaired": 1}, "done")
    assert folder.count(f"run = {newest['id']}", "changes") == 1
    for wrong in ("NEW", "products:", ":NEW"):
        assert "--entity takes TABLE:ID" in forks.run(folder, "reconcile", "iimmpact", "--entity", wrong).stderr


def test_a_reconcile_is_planned_row_by_row_and_a_cancelled_one_changes_nothing(folder, ask, forks, served):
    folder.query("UPDATE products SET name = 'wrong' WHERE external_id = 'NEW'")
    planned = ask("runs", "plan", "reconcile", "iimmpact")
    assert (planned["kind"], planned["state"], planned["total"]) == ("reconcile", "planned", 2)
    assert [(row["external_id"], row["before"], row["after"]) for row in planned["rows"]] == [
        ("NEW", {"name": "wrong"}, {"name": "Never announced"})
    ]
    assert folder.count("name = 'wrong'", "products") == 1
    assert ask("runs", "cancel", planned["id"])["state"] == "cancelled"
    assert len(ask("reconcile", "iimmpact")["repaired"]) == 1
    assert "The source is missing" in forks.run(folder, "runs", "plan", "reconcile").stderr
    assert "has no list of its source" in forks.run(folder, "runs", "plan", "reconcile", "indexed").stderr
    assert "is not the number of a run or delivery" in forks.run(folder, "runs", "show", "many").stderr


def test_prune_drops_expired_bodies_and_keeps_the_rest(folder, ask, served):
    days = 40 * 86_400_000_000 * 1_024
    old = "(SELECT id FROM deliveries WHERE state = 'processed')"
    bodies = folder.count(f"delivery_id IN {old}", "bodies")
    for table in ("bodies", "dedup_keys"):
        folder.query(f"UPDATE {table} SET delivery_id = delivery_id - {days} WHERE delivery_id IN {old}")
    folder.query(f"UPDATE deliveries SET id = id - {days} WHERE state = 'processed'")
    kept, deliveries = folder.count(table="bodies") - bodies, folder.count()
    assert ask("prune") == {"pruned": bodies}
    assert (folder.count(table="bodies"), folder.count()) == (kept, deliveries)
    assert ask("prune") == {"pruned": 0}


def test_replay_and_its_dry_run_leave_out_deliveries_without_a_body(folder, ask):
    pruned = folder.query("SELECT min(id) FROM deliveries WHERE state = 'processed'")[0][0]
    for options in (["--dry-run"], []):
        answer = ask("replay", str(pruned), *options)
        assert (answer["replayed"], answer["left"], answer["dry_run"]) == (0, 1, bool(options))


def test_a_run_is_planned_started_and_watched_by_commands(folder, ask, forks, served):
    dead = post(served, b"not JSON at all, again").json()["delivery"]
    planned = ask("runs", "plan", dead)
    assert (planned["state"], planned["total"], planned["forecast"]["outcomes"]) == ("planned", 1, {"dead": 1})
    without = forks.run(folder, "runs", "start", planned["id"])
    assert (without.returncode, "A start needs a reason" in without.stderr) == (1, True)
    started = ask("runs", "start", planned["id"], "--reason", "the parser was mended")
    assert (started["state"], started["reason"], started["worker"]) == ("running", "the parser was mended", False)
    with folder.running("worker"):
        wait_until(lambda: folder.count(f"state = 'done' AND id = {planned['id']}", "runs"), "the run")
    shown = forks.run(folder, "runs", "show", planned["id"]).stdout
    assert "Became: 1 dead." in shown
    assert ask("actions", "--run", planned["id"])[0]["reason"] == "the parser was mended"
    twice = forks.run(folder, "runs", "start", planned["id"], "--reason", "once more")
    assert f"Run {planned['id']} is done" in twice.stderr
