"""The ready dialects as an installation names them: a server, `hookmirror send` with their fixtures, and rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commanding import Folder, wait_until

FIXTURES = Path(__file__).parents[2] / "fixtures"

#: The dialects as `dialects` names them.
READY = {
    "akeneo": "vendors.akeneo:akeneo",
    "akeneo-events": "vendors.akeneo:akeneo_events",
    "bigcommerce": "vendors.bigcommerce:bigcommerce",
    "github": "vendors.github:github",
    "shopify": "vendors.shopify:shopify",
    "standard": "vendors.standard:standard",
    "stripe": "vendors.stripe:stripe",
    "woocommerce": "vendors.woocommerce:woocommerce",
}

#: A fixture for each way in which they differ on the wire (several events, a form, a table of their own, signed
#: headers), and a table that it fills.
SENT = {
    "akeneo-events": ("product.updated", "groups"),
    "github": ("release.published", "variants"),
    "shopify": ("inventory_levels-update", "stock_levels"),
    "standard": ("product.updated", "products"),
}

#: It decodes for the dialect whose secret is base64, and is text for the others.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

SETTINGS = "\n".join(
    ['secret_key = "secret-key-of-these-tests-only"', f"dialects = {json.dumps(list(READY.values()))}"]
    + [f'[sources.{name}]\nsecrets = ["{SECRET}"]' for name in READY]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Folder:
    return Folder(tmp_path_factory.mktemp("ready"), settings=SETTINGS)


def test_each_is_found_by_its_name_and_what_is_sent_to_it_becomes_a_row(folder):
    with folder.serving() as (_, client):
        for name, (fixture, _) in SENT.items():
            done = folder.run("send", name, str(FIXTURES / name / f"{fixture}.json"), "--to", str(client.base_url))
            assert (done.returncode, done.stdout[:4]) == (0, "200 "), done.stdout + done.stderr
        wait_until(lambda: folder.count("state IN ('pending', 'processing')") == 0, "the worker")
        for name, (_, table) in SENT.items():
            assert folder.query(f"SELECT COUNT(*) FROM {table} WHERE source = '{name}'")[0][0] >= 1, name


def test_doctor_finds_nothing_to_mend(folder):
    assert "MEND" not in folder.run("doctor").stdout
