"""Fixtures: each body in `fixtures/` leaves the rows in the file beside it, and so do the fixtures of users."""

from __future__ import annotations

import json
import os
import re
import subprocess
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from forked import Forked
from in_turn import databases_in_turn
from raw import ping
from sqlalchemy import text
from users_pytest import FORKED, USERS_PYTEST
from waiting import TIMEOUT

from handlers.catalog import Product
from receiver.database.database import Database
from receiver.errors import ConfigurationError
from receiver.testing import EXPECTED, Webhooks, database_of_its_own, fixture_files

FIXTURES = Path(__file__).parents[2] / "fixtures"


@databases_in_turn("fixture", fixture_files(FIXTURES), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_each_fixture_leaves_the_rows_that_it_must(webhooks: Webhooks, fixture: Path):
    webhooks.check_fixture(fixture)


@pytest.mark.parametrize("source", ["sigma", "indexed", "iimmpact", "sticky"])
def test_all_fixtures_of_a_source_sent_twice_leave_nothing_unread(webhooks: Webhooks, source: str):
    files = fixture_files(FIXTURES / source)
    for fixture in [*files, *reversed(files)]:
        webhooks.send_body(source, fixture.read_bytes())
    webhooks.drain()
    assert files
    assert {delivery["state"] for delivery in webhooks.deliveries()} <= {"processed", "ignored", "dead"}
    assert all(delivery["duplicates"] >= 1 for delivery in webhooks.deliveries())


def test_a_fixture_without_its_expected_rows_is_refused_by_name(tmp_path):
    (tmp_path / "product.created.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"product\.created\.json has no \.expected\.json beside it"):
        fixture_files(tmp_path)


def test_a_folder_without_fixtures_is_refused_because_its_test_would_be_skipped(tmp_path):
    with pytest.raises(ConfigurationError, match=r"There are no fixtures below '.*gone': correct the path"):
        fixture_files(tmp_path / "gone")


def test_a_missing_fixture_is_named_as_it_was_asked_for(webhooks: Webhooks):
    with pytest.raises(ConfigurationError, match=r"There is no fixture 'iimmpact/gone\.json': correct the path"):
        webhooks.check_fixture(Path("iimmpact/gone.json"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"table": "products", "nmae": None},
            "'nmae', which is not a column of products: choose one of active, .*, name,",
        ),
        ({"table": "product"}, "'product', which is not a table: choose one of categories, .*, products,"),
    ],
)
def test_an_expected_row_of_an_unknown_table_or_column_is_refused(webhooks: Webhooks, tmp_path, wrong, says: str):
    fixture = with_expected(tmp_path, json.dumps({"rows": [{"external_id": "A1", **wrong}]}))
    with pytest.raises(ConfigurationError, match=says):
        webhooks.check_fixture(fixture)


def with_expected(folder: Path, expected: str) -> Path:
    """Write a fixture with this content of the file beside it."""
    fixture = folder / "iimmpact" / "product.updated.json"
    fixture.parent.mkdir()
    body = {"type": "product.updated", "resource": "products", "id": "A1", "timestamp": "2026-03-04T12:00:00Z"}
    fixture.write_text(json.dumps({**body, "data": {"display_name": "Lamp"}}))
    fixture.with_name(f"product.updated{EXPECTED}").write_text(expected)
    return fixture


@pytest.mark.parametrize(
    ("expected", "says"),
    [
        ('{"rows": [', r"product\.updated\.expected\.json is not JSON"),
        ("[]", "is not an object with the expected rows"),
        ("{}", "is not an object with the expected rows"),
        ('{"rows": {}}', "is not an object with the expected rows"),
        ('{"rows": ["A1"]}', "is not an object with the expected rows"),
        ('{"rows": [{"table": "products"}]}', "is not an object with the expected rows"),
        ('{"rows": [{"external_id": "A1"}]}', "is not an object with the expected rows"),
        (
            '{"rows": [], "row": []}',
            "'row', which is not a member of a file with expected rows: choose one of rows, s",
        ),
        ('{"rows": [], "state": "done"}', "'done', which is not a state: choose one of dead, ignored, "),
    ],
)
def test_a_file_with_expected_rows_of_another_form_is_refused(webhooks: Webhooks, tmp_path, expected, says: str):
    with pytest.raises(ConfigurationError, match=says):
        webhooks.check_fixture(with_expected(tmp_path, expected))


def test_a_fixture_in_another_state_says_which(webhooks: Webhooks, tmp_path):
    fixture = with_expected(tmp_path, '{"rows": [], "state": "dead"}')
    with pytest.raises(AssertionError, match=r"product\.updated\.json is processed"):
        webhooks.check_fixture(fixture)


def test_a_number_where_a_boolean_is_expected_fails_the_fixture(webhooks: Webhooks, tmp_path):
    fixture = tmp_path / "iimmpact" / "product.updated.json"
    fixture.parent.mkdir()
    body = {"type": "product.updated", "resource": "products", "id": "A1", "timestamp": "2026-03-04T12:00:00Z"}
    fixture.write_text(json.dumps({**body, "data": {"stock": 1}}))
    row = {"table": "products", "external_id": "A1", "data": {"stock": True}}
    fixture.with_name(f"product.updated{EXPECTED}").write_text(json.dumps({"rows": [row]}))
    with pytest.raises(AssertionError, match="a boolean stands for a number"):
        webhooks.check_fixture(fixture)


def test_a_row_without_news_is_missed_with_the_delivery_that_was_not_processed(kit: Webhooks):
    kit.send("shop", "product.updated", id="A1", data={"title": "of another shape"})
    with pytest.raises(AssertionError, match=r"'A1': product\.updated of shop is pending, so call webhooks\.drain\(\)"):
        kit.row(Product, "A1")
    kit.drain()
    with pytest.raises(
        AssertionError, match=r"'A1': product\.updated of shop is dead, because: .*name: Field required"
    ):
        kit.row(Product, "A1")


def test_a_row_without_news_is_missed_with_a_delivery_about_it_rather_than_a_later_one(kit: Webhooks):
    kit.send("shop", "product.updated", id="A1", data={"title": "of another shape"})
    kit.drain()
    kit.send("shop", "product.updated", id="B1", data={"name": "Lamp"})
    with pytest.raises(AssertionError, match=r"'A1': product\.updated of shop is dead, because: "):
        kit.row(Product, "A1")
    with pytest.raises(AssertionError, match=r"'C1': product\.updated of shop is pending, so call"):
        kit.row(Product, "C1")


def test_a_row_whose_delivery_is_being_processed_is_missed_without_a_reason(kit: Webhooks):
    kit.send("shop", "product.updated", id="A1", data={"name": "Lamp"})
    kit.inbox.claim("w", ["shop"], limit=1, now=kit.now(), lease=timedelta(minutes=1))
    with pytest.raises(AssertionError, match=r"'A1': product\.updated of shop is processing(\n|$)"):
        kit.row(Product, "A1")


def test_an_unknown_dialect_is_refused_with_where_a_test_names_its_own(webhooks: Webhooks):
    with pytest.raises(
        ConfigurationError, match=r"`shopp`: choose one of .* \(for pytest, `hookmirror_dialects` in its"
    ):
        webhooks.source("shopp")


def test_an_unknown_setting_of_a_source_is_refused_by_name(webhooks: Webhooks):
    with pytest.raises(
        ConfigurationError, match=r"wrong: sources\.sigma\.secret: there is no such setting \(perhaps `secrets`\)\."
    ):
        webhooks.source("sigma", secret="x")


def test_databases_of_tests_are_made_on_postgresql_only():
    with pytest.raises(ConfigurationError, match="names no PostgreSQL server"), database_of_its_own("sqlite:///x.db"):
        pass


def test_a_server_that_cannot_be_used_is_reported_with_advice():
    nowhere = "postgresql://user:s3cret@127.0.0.1:1/postgres"
    with pytest.raises(ConfigurationError, match="Start PostgreSQL") as raised, database_of_its_own(nowhere):
        pass
    assert "s3cret" not in str(raised.value)


def test_a_test_s_database_is_dropped_even_with_connected_clients(postgresql):
    with closing(Database(postgresql)) as server:
        with database_of_its_own(postgresql) as url:
            database = Database(url)
            ping(database)
            assert database.engine.url.database in databases_of(server)
        assert database.engine.url.database not in databases_of(server)
        database.close()


def databases_of(server: Database) -> list[str]:
    with server.read() as connection:
        return list(connection.execute(text("SELECT datname FROM pg_database")).scalars())


# ── a user's project ──────────────────────────────────────────────────────────────────────────────────────────

DIALECT = """
from decimal import Decimal
from pydantic import AwareDatetime, BaseModel
from handlers.catalog import Product
from receiver import Dialect, Envelope, Event, HmacSha256, Mirror

acme = Dialect("acme", verify=HmacSha256(header="X-Acme-Signature"))

class Body(BaseModel):
    type: str
    id: str
    timestamp: AwareDatetime
    data: dict | None = None

class ProductData(BaseModel):
    name: str
    price: Decimal

@acme.envelope
def read(body: Body) -> Envelope:
    return Envelope(event_type=body.type, entity=("product", body.id), occurred_at=body.timestamp, data=body.data)

@acme.on("product.created", "product.updated")
def upsert_product(event: Event[ProductData], mirror: Mirror) -> None:
    mirror.upsert(Product, event.entity_id, name=event.data.name, price=event.data.price)

@acme.on("product.deleted")
def deactivate_product(event: Event[None], mirror: Mirror) -> None:
    mirror.deactivate(Product, event.entity_id)
"""

TESTS = """
from datetime import datetime, timedelta, timezone
import pytest
from handlers.catalog import Product
from receiver.testing import fixture_files

NOON = datetime(2026, 3, 4, 12, tzinfo=timezone.utc)
LAMP = {"name": "Lamp", "price": "19.90"}

@pytest.mark.parametrize("fixture", fixture_files("fixtures"), ids=lambda path: path.stem)
def test_fixtures(webhooks, fixture):
    webhooks.check_fixture(fixture)

def test_late_update_does_not_revive(webhooks):
    webhooks.send("acme", "product.deleted", id="A1", at=NOON)
    webhooks.send("acme", "product.updated", id="A1", at=NOON - timedelta(minutes=1), data=LAMP)
    webhooks.drain()
    assert not webhooks.row(Product, "A1").active
"""

BODY = '{"type": "product.created", "id": "A1", "timestamp": "2026-03-04T12:00:00Z", "data": %s}'
LEFT = '{"rows": [{"table": "products", "external_id": "A1", "active": true, "name": "Lamp", "price": "19.90"}]}'


@pytest.fixture(scope="module")
def run(tmp_path_factory, database_system, request) -> str:
    """Run pytest in a user's project with a dialect, its tests, a right fixture and a wrong one; return its output."""
    project = tmp_path_factory.mktemp("project")
    files = {
        "acme.py": DIALECT,
        "test_acme.py": TESTS,
        "pytest.ini": "[pytest]\nhookmirror_dialects = acme:acme\nfilterwarnings = error\n",
        "fixtures/acme/product.created.json": BODY % '{"name": "Lamp", "price": 19.90}',
        f"fixtures/acme/product.created{EXPECTED}": LEFT,
        "fixtures/acme/product.created.wrong.json": BODY % '{"name": "Lantern", "price": 19.90}',
        f"fixtures/acme/product.created.wrong{EXPECTED}": LEFT,
    }
    for name, content in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(content)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    if database_system == "sqlite":
        with Forked([*USERS_PYTEST[1:], *FORKED], project, environment, python=True) as tests:
            return tests.communicate(TIMEOUT)[0]
    # An interpreter of its own: pytest rewrites the assertions of plugins that were not imported before.
    command = [*USERS_PYTEST, "-o", f"hookmirror_database_url={request.getfixturevalue('postgresql')}"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)
    return done.stdout


def test_a_user_s_dialect_fixtures_and_tests_run_with_the_shipped_kit(run):
    assert "1 failed, 2 passed" in run, run
    assert "FAILED test_acme.py::test_fixtures[product.created.wrong]" in run


@pytest.mark.parametrize("database_system", ["postgresql"], scope="module")
def test_a_user_s_fixture_with_other_rows_fails_and_shows_the_difference(run):
    assert "{'name': 'Lantern'} != {'name': 'Lamp'}" in run


def test_the_example_of_the_simulator_s_page_works(tmp_path):
    text = (FIXTURES.parent / "docs" / "simulator.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "test_example.py").write_text(example, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    with Forked([*USERS_PYTEST[1:], *FORKED], tmp_path, environment, python=True) as tests:
        said, errors = tests.communicate(TIMEOUT)
    assert tests.returncode == 0, said + errors
    assert "1 passed" in said
