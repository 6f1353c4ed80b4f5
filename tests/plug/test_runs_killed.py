"""After `kill -9` of the worker that feeds a run, the next worker continues it: each delivery is replayed once."""

from __future__ import annotations

import json
import signal
import time

import pytest
from commanding import SECRET_KEY, SETTINGS, Folder, Forks, post, product, wait_until
from stub_servers import Stub, answering

DELIVERIES = 160


@pytest.fixture(scope="module")
def folder(lend_database, tmp_path_factory):
    path = tmp_path_factory.mktemp("killed")
    with lend_database(path) as url:
        yield Folder(path, f"batch_size = 20\n{SETTINGS}", url)


@pytest.mark.long
def test_a_run_whose_worker_is_killed_goes_on_with_the_next(folder):
    with Forks(1) as forks, folder.serving("--no-worker") as (_, client):
        for number in range(DELIVERIES):
            assert post(client, product(number, key=f"k{number}", name="Lamp")).status_code == 200
        with folder.running("worker") as worker:
            wait_until(lambda: folder.count("state IN ('pending', 'processing')") == 0, "the worker")
            worker.terminate()
            worker.wait()
        answer = forks.run(folder, "replay", "--source", "iimmpact", "--reason", "to be killed", "--json")
        run = json.loads(answer.stdout)
        assert (run["replayed"], run["dry_run"]) == (DELIVERIES, False)
        deaths = 0
        while not folder.count("state = 'done'", "runs"):
            before = folder.count("state = 'ended'", "run_deliveries")
            with folder.running("worker") as worker:
                enough = min(before + 40, DELIVERIES)
                wait_until(
                    lambda enough=enough: folder.count("state = 'ended'", "run_deliveries") >= enough, "some progress"
                )
                if enough < DELIVERIES:
                    worker.send_signal(signal.SIGKILL)
                    worker.wait()
                    deaths += 1
                else:
                    wait_until(lambda: folder.count("state = 'done'", "runs"), "the end of the run")
                    worker.terminate()
                    worker.wait()
        assert deaths >= 2
        assert folder.count("outcome = 'unchanged'", "run_deliveries") == DELIVERIES
        assert folder.count("round = 2 AND state = 'processed' AND outcome = 'unchanged'") == DELIVERIES
        shown = json.loads(forks.run(folder, "runs", "show", run["run"], "--json").stdout)
        assert (shown["done"], shown["total"], shown["tally"]) == (DELIVERIES, DELIVERIES, {"unchanged": DELIVERIES})


# ── a reconcile ───────────────────────────────────────────────────────────────────────────────────────────────

PAGES, ROWS = 40, 5

PAGED = """
import httpx

from handlers.catalog import Product
from receiver import Dialect, HmacSha256, Listed, ListPage

paged = Dialect("paged", verify=HmacSha256(header="X-Signature"))


@paged.envelope
def read(body: dict):
    raise NotImplementedError


@paged.connect
def connect(source):
    return httpx.Client(base_url=source.api_url)


@paged.pages(Product)
def page(api, start):
    found = api.get(f"/{start or 0}").raise_for_status().json()
    rows = [Listed(Product, each["id"], {"name": each["name"]}) for each in found["rows"]]
    return ListPage(rows, found["next"], found["total"])
"""


class SlowList(Stub):
    """A source's list that takes a moment for each page, so that a kill comes in the middle of it."""

    def get(self):
        time.sleep(0.02)
        number = int(self.path[1:])
        rows = [{"id": f"P{number * ROWS + each}", "name": f"Lamp {each}"} for each in range(ROWS)]
        following = number + 1 if number + 1 < PAGES else None
        self.answer(json.dumps({"rows": rows, "next": following, "total": PAGES * ROWS}).encode())


@pytest.fixture
def listed(lend_database, tmp_path):
    with answering(SlowList) as api, lend_database(tmp_path) as url:
        (tmp_path / "paged.py").write_text(PAGED)
        account = f'[sources.paged]\nsecrets = ["sign"]\napi_url = "{api}"\n'
        text = f'secret_key = "{SECRET_KEY}"\ndialects = ["paged:paged"]\n{account}'
        yield Folder(tmp_path, text, url)


@pytest.mark.long
def test_a_reconcile_whose_worker_is_killed_goes_on_with_the_next_and_repairs_each_row_once(listed):
    folder, deaths = listed, 0
    run = json.loads(folder.run("runs", "plan", "reconcile", "paged", "--json").stdout)
    assert (run["state"], run["total"], len(run["rows"])) == ("planned", PAGES * ROWS, PAGES * ROWS)
    assert folder.count(table="products") == 0
    assert folder.run("runs", "start", run["id"], "--reason", "to be killed").returncode == 0
    while not folder.count("state = 'done'", "runs"):
        enough = folder.count(table="products") + 40
        with folder.running("worker") as worker:
            wait_until(
                lambda enough=enough: (
                    folder.count(table="products") >= enough or folder.count("state = 'done'", "runs")
                ),
                "some progress",
            )
            deaths += not folder.count("state = 'done'", "runs")
            worker.send_signal(signal.SIGKILL)
            worker.wait()
    assert deaths >= 2
    shown = json.loads(folder.run("runs", "show", run["id"], "--json").stdout)
    assert (shown["done"], shown["total"], shown["tally"]) == (PAGES * ROWS, PAGES * ROWS, {"repaired": PAGES * ROWS})
    assert folder.count(f"run = {run['id']} AND operation = 'insert'", "changes") == PAGES * ROWS
    assert folder.count(table="changes") == folder.count("active", "products") == PAGES * ROWS
