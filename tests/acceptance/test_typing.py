"""The installed package has types for type checkers: a user's project on the built wheel passes `mypy --strict`."""

from __future__ import annotations

import shutil
import subprocess
import sys

from installing import ROOT

#: The cache of mypy, as `make check` left it.
CHECKED = ROOT / ".mypy_cache"

#: Every `ignore` marks an error that must be found, because strict mode refuses an `ignore` that is not needed.
SHOP = """
from decimal import Decimal
from typing import Any

from pydantic import AwareDatetime, BaseModel

from handlers.catalog import Product
from receiver import Dialect, Envelope, Event, HmacSha256, Mirror, MirrorRow, price_field

shop = Dialect("shop", verify=HmacSha256(header="X-Webhook-Signature"))
untyped = Dialect(1, verify=HmacSha256(header="X-Webhook-Signature"))  # type: ignore[arg-type]


class Shelf(MirrorRow, table=True):
    __tablename__ = "shelves"
    width: Decimal | None = price_field()


class Body(BaseModel):
    type: str
    id: str
    timestamp: AwareDatetime
    data: dict[str, Any] | None = None


@shop.envelope
def read(body: Body) -> Envelope:
    return Envelope(event_type=body.type, entity=("product", body.id), occurred_at=body.timestamp, data=body.data)


class ProductData(BaseModel):
    name: str


@shop.on("product.created")
def upsert(event: Event[ProductData], mirror: Mirror) -> None:
    mirror.upsert(Product, event.entity_id, name=event.data.name)
    mirror.upsert(Product, event.data.name + 1)  # type: ignore[operator]
    mirror.upsert(ProductData, event.entity_id)  # type: ignore[arg-type]
    row = mirror.get(Shelf, event.entity_id)
    if row is not None and row.width is not None:
        print(row.width.quantize(Decimal(1)))
"""

TESTS = """
from handlers.catalog import Product
from receiver.testing import Webhooks
from simulator.systems import SYSTEMS


def test_it(webhooks: Webhooks) -> None:
    answer = webhooks.send("shop", "product.created", id="A1", data={"name": "Lamp"})
    assert answer.status == 200
    assert webhooks.row(Product, "A1").name == "Lamp"
    assert webhooks.row(Product, "A1").nme  # type: ignore[attr-defined]
    assert "sigma" in SYSTEMS
"""


def test_a_users_project_passes_strict_type_checks_on_the_installed_wheel(python, tmp_path):
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "test_shop.py").write_text(TESTS)
    (tmp_path / "mypy.ini").write_text("[mypy]\nplugins = pydantic.mypy\n")
    known = tmp_path / "known"
    if CHECKED.is_dir():
        # It is valid for the libraries, which are the same files. mypy checks files of other paths anew.
        shutil.copytree(CHECKED, known)
    options = ["--strict", "--cache-dir", str(known), "--python-executable", str(python)]
    checking = [sys.executable, "-m", "mypy", *options, "."]
    done = subprocess.run(checking, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.splitlines()[-1] == "Success: no issues found in 2 source files", done.stdout + done.stderr
