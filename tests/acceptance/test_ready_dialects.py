"""The ready dialects in an installation's settings: a server, `hookmirror send` with their fixtures, and rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commanding import Folder, wait_until

from receiver.dialects.sources import READY_DIALECTS

FIXTURES = Path(__file__).parents[2] / "fixtures"

#: A fixture for each form that they send (several events, a form, a table of their own, signed headers), and a table
#: that it fills.
SENT = {
    "akeneo-events": ("product.updated", "groups"),
    "github": ("release.published", "variants"),
    "shopify": ("inventory_levels-update", "stock_levels"),
    "standard": ("product.updated", "products"),
}

#: A dialect with base64 secrets can decode it; for the others it is text.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

SETTINGS = "\n".join(
    ['secret_key = "secret-key-of-these-tests-only"', f"dialects = {json.dumps(list(READY_DIALECTS.values()))}"]
    + [f'[sources.{name}]\nsecrets = ["{SECRET}"]' for name in READY_DIALECTS]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Folder:
    return Folder(tmp_path_factory.mktemp("ready"), settings=SETTINGS)


def test_a_ready_dialect_is_found_by_its_name_and_its_fixture_becomes_a_row(folder):
    with folder.serving() as (_, client):
        for name, (fixture, _) in SENT.items():
            done = folder.run("send", name, str(FIXTURES / name / f"{fixture}.json"), "--to", str(client.base_url))
            assert (done.returncode, done.stdout[:4]) == (0, "200 "), done.stdout + done.stderr
        wait_until(lambda: folder.count("state IN ('pending', 'processing')") == 0, "the worker")
        for name, (_, table) in SENT.items():
            assert folder.query(f"SELECT COUNT(*) FROM {table} WHERE source = '{name}'")[0][0] >= 1, name


def test_doctor_finds_nothing_to_mend(folder):
    assert "MEND" not in folder.run("doctor").stdout
