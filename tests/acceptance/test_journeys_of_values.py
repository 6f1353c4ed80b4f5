"""Two journeys with commands: a value that looks wrong, and a handler that is tried before it is in force."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import Any

import pytest
from commanding import SECRET, SECRET_KEY, Folder, Forks, product, wait_until
from modules import dialect_module
from serving import serving, token

from receiver.api.tokens import Scope

BOTH = pytest.mark.parametrize("over", ["", "the API"])

SHOP = dialect_module(
    "shop",
    variable="shop",
    handler='mirror.upsert(Product, event.entity_id, name=event.data["name"], price=event.data.get("price"))',
)


class Journey:
    """Runs commands on one installation, on its database or through its API."""

    def __init__(self, folder: Folder, forks: Forks, receiver: str) -> None:
        self.folder = replace(folder, environment={"HOOKMIRROR_TOKEN": token(Scope.READ)})
        self.forks, self.receiver = forks, receiver

    def ask(self, *arguments: str, over: str = "") -> str:
        done = self.forks.run(self.folder, *arguments, *(["--to", self.receiver] if over else []))
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def journey(tmp_path_factory):
    folder = Folder(tmp_path_factory.mktemp("journey"))
    with (
        serving(folder.url, sources={"iimmpact": {"secrets": [SECRET]}}, with_worker=True) as running,
        Forks(1) as forks,
    ):

        def tell(name: str, at: str, **changed: Any) -> str:
            body = product(1, key="4711", name=name, at=f"2026-03-04T{at}:00Z")
            content = json.loads(body)
            content["type"] = changed.get("event_type", content["type"])
            delivery = running.send("iimmpact", json.dumps(content).encode(), secret=SECRET)
            wait_until(lambda: running.count("deliveries", "ended_at IS NULL") == 0, "the worker")
            return str(delivery)

        told = {
            "first": tell("Lamp", "10:00"),
            "newest": tell("Bright lamp", "12:00"),
            "late": tell("Old lamp", "11:00"),
            "ignored": tell("Lamp", "13:00", event_type="product.painted"),
        }
        yield Journey(folder, forks, str(running.client.base_url).rstrip("/")), told


@BOTH
def test_a_wrong_value_leads_to_the_delivery_that_brought_it_and_the_one_that_lost(journey, over):
    commands, told = journey
    (hit,) = json.loads(commands.ask("search", "4711", "--json", over=over))["rows"]
    key = [hit["table"], hit["row"]["source"], hit["row"]["external_id"]]
    why = json.loads(commands.ask("row", *key, "--json", over=over))["why"]
    name = next(each for each in why["columns"] if each["column"] == "name")
    assert (name["value"], name["origin"]["delivery"], name["check"]) == ("Bright lamp", told["newest"], "agrees")
    lost = name["lost"]
    assert (lost["value"], lost["how"], lost["delivery"]) == ("Old lamp", "stale", told["late"])
    assert why["check"] == "agrees"
    assert [(each["id"], each["state"]) for each in why["not_in_force"]] == [(told["ignored"], "ignored")]
    assert '"stale"' in commands.ask("show", lost["delivery"], "--json", over=over)


@BOTH
def test_a_table_shows_the_same_to_people(journey, over):
    commands, told = journey
    said = commands.ask("row", "products", "iimmpact", "P1", over=over)
    (line,) = [line for line in said.splitlines() if line.startswith("name") and "delivery" in line]
    assert f"delivery {told['newest']}" in line
    assert f"Old lamp of 2026-03-04 11:00:00Z, stale, by delivery {told['late']}" in line
    assert "their result equals the row" in said
    assert "why" not in commands.ask("row", "products", "iimmpact", "P1", "--no-why", over=over).splitlines()


@BOTH
def test_a_delivery_shows_the_rows_that_it_changed(journey, over):
    commands, told = journey
    changed = commands.ask("show", told["newest"], over=over).partition("rows it changed")[2]
    assert '"Lamp"' in changed
    assert '"Bright lamp"' in changed
    assert commands.ask("show", told["late"], over=over).partition("rows it changed")[2].split() == ["none"]


def test_a_row_whose_id_ends_like_an_address_is_not_taken_for_that_address(journey):
    commands, _ = journey
    done = commands.forks.run(commands.folder, "row", "products", "iimmpact", "P1/why", "--to", commands.receiver)
    assert "No row 'P1/why'" in done.stderr


def test_a_new_handler_is_rehearsed_with_earlier_deliveries_before_it_is_in_force(tmp_path):
    (tmp_path / "shop.py").write_text(SHOP, "utf-8")
    settings = f'secret_key = "{SECRET_KEY}"\ndialects = ["shop:shop"]\n[sources.shop]\nsecrets = ["{SECRET}"]\n'
    folder = Folder(tmp_path, settings)
    with Forks(1) as forks, folder.serving() as (_, client):
        for number, price in enumerate(["1.50", "2.50"]):
            data = json.dumps({"name": f"Lamp {number}", "price": price})
            sent = ["send", "shop", "product.updated", "--id", f"A{number}", "--data", data]
            assert forks.run(folder, *sent, "--to", str(client.base_url)).returncode == 0
        wait_until(lambda: folder.count("ended_at IS NOT NULL") == 2, "the worker")
        before = folder.query("SELECT * FROM products ORDER BY external_id")

        same = forks.run(folder, "rehearse", "--source", "shop")
        assert (same.returncode, "no difference" in same.stdout) == (0, True), same.stderr

        (tmp_path / "shop_new.py").write_text(SHOP.replace('event.data["name"]', 'event.data["name"].upper()'), "utf-8")
        found = forks.run(folder, "rehearse", "shop_new.py:shop", "--source", "shop", "--last", "1", "--json")
        assert found.returncode == 1, found.stderr
        (row,) = json.loads(found.stdout)["rows"]
        assert (row["external_id"], row["columns"]) == ("A1", {"name": ["Lamp 1", "LAMP 1"]})
        assert folder.query("SELECT * FROM products ORDER BY external_id") == before


def test_a_plan_that_new_code_outdated_says_so_and_its_command_plans_the_same_with_the_new_code(tmp_path):
    (tmp_path / "shop.py").write_text(SHOP, "utf-8")
    settings = f'secret_key = "{SECRET_KEY}"\ndialects = ["shop:shop"]\n[sources.shop]\nsecrets = ["{SECRET}"]\n'
    folder = Folder(tmp_path, settings)
    with Forks(1) as forks:
        with folder.serving() as (_, client):
            data = json.dumps({"name": "Lamp", "price": "1.50"})
            sent = ["send", "shop", "product.updated", "--id", "A1", "--data", data, "--to", str(client.base_url)]
            assert forks.run(folder, *sent).returncode == 0
            wait_until(lambda: folder.count("ended_at IS NOT NULL") == 1, "the worker")
        planned = json.loads(forks.run(folder, "runs", "plan", "--source", "shop", "--json").stdout)
        assert planned["outdated"] is None

        (tmp_path / "shop.py").write_text(SHOP.replace('event.data["name"]', 'event.data["name"].upper()'), "utf-8")
        shown = forks.run(folder, "runs", "show", planned["id"]).stdout.splitlines()
        assert shown[-2].startswith("The plan is outdated. Run 1 was planned by hookmirror")
        refused = forks.run(folder, "runs", "start", planned["id"], "--reason", "after a fix")
        assert (refused.returncode, "so its forecast no longer applies: plan it again" in refused.stderr) == (1, True)

        program, *again = shlex.split(shown[-1].split("`")[1])
        anew = forks.run(folder, *again)
        assert (program, anew.returncode) == ("hookmirror", 0), anew.stderr
        assert "Start it with `hookmirror runs start 2 --reason" in anew.stdout
        assert forks.run(folder, "runs", "start", "2", "--reason", "after a fix").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--source", "nosuch"], "There is no source 'nosuch'"),
        (["--source", "iimmpact"], "nothing to rehearse with"),
        (["a/b.py:shop", "--source", "sigma"], "names no module"),
        ([":shop", "--source", "sigma"], "names no module"),
    ],
)
def test_an_impossible_rehearsal_is_refused_with_the_reason(tmp_path, arguments, reason):
    folder = Folder(tmp_path)
    folder.migrate()
    with Forks(1) as forks:
        done = forks.run(folder, "rehearse", *arguments)
    assert (done.returncode, reason in done.stderr) == (1, True), done.stderr


def test_the_command_in_the_finding_replays_the_ignored_deliveries_once_a_handler_exists(tmp_path):
    (tmp_path / "shop.py").write_text(SHOP, "utf-8")
    settings = f'secret_key = "{SECRET_KEY}"\ndialects = ["shop:shop"]\n[sources.shop]\nsecrets = ["{SECRET}"]\n'
    folder = Folder(tmp_path, settings)
    data = json.dumps({"name": "Lamp", "price": "1.50"})
    with folder.serving() as (process, client):
        for number in range(3):
            # This event type looks like an option, and contains characters that are special to a shell.
            sent = ["send", "shop", "--id", f"A{number}", "--data", data, "--to", str(client.base_url)]
            done = folder.run(*sent, "--", "-it's;painted")
            assert done.returncode == 0, done.stderr
        wait_until(lambda: folder.count("ended_at IS NOT NULL") == 3, "the worker")
        # Terminated, the server writes its last tallies.
        process.terminate()
        process.wait(60)
    (ignored,) = json.loads(folder.run("findings", "--json").stdout)["items"]
    assert (ignored["rule"], ignored["evidence"]["ignored"]) == ("no_handler", 3)

    handled = SHOP.replace('@shop.on("product.updated")', '@shop.on("product.updated", "-it\'s;painted")')
    (tmp_path / "shop.py").write_text(handled, "utf-8")
    done = folder.run("findings", "--json")
    assert done.returncode == 1, done.stderr
    (offered,) = json.loads(done.stdout)["items"]
    assert offered["rule"] == "handler_appeared"
    program, *arguments = shlex.split(offered["evidence"]["command"])
    assert program == "hookmirror"
    assert folder.ask(*arguments)["replayed"] == 3
    with folder.running("worker"):
        wait_until(lambda: folder.count("state = 'processed'") == 3, "the worker")
    assert folder.run("findings").stdout == "Nothing needs you.\n"
    assert folder.count(table="products") == 3
