"""The client that asks another receiver: odd ids in addresses, and servers that are not receivers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from inspect import signature

import pytest
from serving import serving, token
from sqlalchemy import insert
from stub_servers import Stub, answering

from handlers.catalog import Product
from receiver import cli
from receiver.api.tokens import Scope
from receiver.commands.remote_client import RemoteClient
from receiver.commands.row import ROW_PATH
from receiver.errors import HookmirrorError
from receiver.mirror.rows import sql_table

#: A command line of each command that takes --to and asks the API.
ASKING = {
    "faults": (),
    "top": ("--once",),
    "tail": (),
    "sources": (),
    "search": ("lamp",),
    "deliveries": (),
    "show": ("1",),
    "rows": (),
    "row": ("products", "shop", "A1"),
    "changes": (),
    "retry": ("1", "--reason", "after a fix"),
    "runs": (),
    "actions": (),
}

ODD_IDS = [".", "..", "...", "a/../b", "../..", "a/.", "%2E%2E", "a b?c#d"]

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

#: Answers of servers that are not receivers.
FOREIGN = {
    "of a health check": {"status": "ok"},
    "with something else than a list": {"items": None},
    "with a list of something else than objects": {"items": [1, 2], "next": None},
}


@pytest.fixture(params=FOREIGN, ids=str)
def stranger(request):
    content = json.dumps(FOREIGN[request.param]).encode()

    class Stranger(Stub):
        def get(self):
            self.answer(content)

        def post(self):
            self.get()

    with answering(Stranger) as url:
        yield url


def test_every_command_that_asks_a_receiver_is_tried():
    assert ASKING.keys() == {name for name in cli.COMMANDS if "token" in signature(cli.own_command(name)).parameters}


@pytest.mark.parametrize("command", ASKING)
def test_an_answer_that_is_not_a_receiver_s_is_reported_with_the_server(stranger, command, capsys):
    words = [command, *ASKING[command], "--to", stranger, "--token", "a-token"]
    with pytest.raises(HookmirrorError) as refused:
        cli.compose(command)(words, standalone_mode=False)
    assert f"The server at {stranger} is not a receiver" in str(refused.value)


def test_an_item_without_its_members_is_reported_with_the_server():
    with pytest.raises(
        HookmirrorError, match=r"^The server at http://a is not a receiver of this release \(its answer"
    ):
        RemoteClient("http://a", "a-token")._checked({"items": [{"status": "ok"}]})["items"][0]["id"]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Serve a mirror whose rows have ids that an address could mistake for something else."""
    rows = [
        {"source": "sigma", "external_id": each, "active": True, "changed_at": NOON, "name": "Lamp", "versions": "{}"}
        for each in ODD_IDS
    ]
    with serving(f"sqlite:///{tmp_path_factory.mktemp('ids')}/mirror.db") as running:
        with running.beside.write() as connection:
            connection.execute(insert(sql_table(Product)), rows)
        yield running


@pytest.mark.parametrize("external_id", ODD_IDS)
def test_a_row_is_asked_for_by_any_id(served, external_id):
    client = RemoteClient(str(served.client.base_url), token(Scope.READ))
    found = client.ask(ROW_PATH, {"table": "products", "source": "sigma", "external_id": external_id}, {})
    assert (found["row"]["external_id"], found["row"]["name"]) == (external_id, "Lamp")
