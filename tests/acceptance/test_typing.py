"""The installed package has types for type checkers: a user's project passes `mypy --strict`."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
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


@pytest.fixture
def project(tmp_path):
    """Write a user's project, beside a copy of what mypy knows already."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name, content in {
        "shop.py": SHOP,
        "test_shop.py": TESTS,
        "mypy.ini": "[mypy]\nplugins = pydantic.mypy\n",
    }.items():
        (folder / name).write_text(content)
    if CHECKED.is_dir():
        shutil.copytree(CHECKED, tmp_path / "known")
    return folder


def check(project, python):
    """Run `mypy --strict` in the project with the packages of this Python; it must find nothing."""
    options = ["--strict", "--cache-dir", str(project.with_name("known")), "--python-executable", str(python)]
    checking = [sys.executable, "-m", "mypy", *options, "."]
    done = subprocess.run(checking, cwd=project, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.splitlines()[-1] == "Success: no issues found in 2 source files", done.stdout + done.stderr


def test_a_users_project_passes_strict_type_checks_on_the_editable_packages(project):
    """The packages are editable here. mypy would check those of a wheel again, which takes a quarter of a minute."""
    check(project, sys.executable)


@pytest.mark.long
def test_a_users_project_passes_strict_type_checks_on_the_installed_wheel(project, python):
    check(project, python)
