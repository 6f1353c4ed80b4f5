"""The OpenAPI document: valid, complete, and with rows in the form of their tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest
from api_alone import api_of
from openapi_spec_validator import OpenAPIV31SpecValidator
from sqlalchemy import BigInteger, Boolean, Column, Float, MetaData, Table, Text
from sqlmodel.sql.sqltypes import AutoString

from receiver.api.catalog import Catalog, shapes_of
from receiver.api.openapi import describe
from receiver.api.operations import Operation
from receiver.api.routes import Api
from receiver.codec import encode
from receiver.database.columns import Document, ExactDecimal, UtcDateTime
from receiver.database.database import Database
from receiver.mirror.rows import sql_table, tables_by_name

#: The document is made without reading the database.
NO_LOOKUP: Any = None

TABLES = tables_by_name()


@pytest.fixture(scope="module")
def api(tmp_path_factory) -> Iterator[Api]:
    with closing(Database(f"sqlite:///{tmp_path_factory.mktemp('openapi') / 'hookmirror.db'}")) as database:
        yield api_of(database)


@pytest.fixture(scope="module")
def document(api: Api) -> dict[str, Any]:
    return json.loads(encode(describe(api.operations)))


def described(document) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}


def test_the_document_is_valid_openapi(document):
    assert document["openapi"].startswith("3.1")
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_action_but_the_reload_takes_a_key_by_which_its_repetition_is_recognised(api):
    actions = [each for each in api.operations if each.method == "post" and each.path.startswith("/api/")]
    without = {each.name for each in actions if "idempotency_key" not in {one.name for one in each.parameters}}
    assert without == {"reload_settings"}


def test_the_document_has_every_served_route_and_no_other(api, document):
    # Mirror tables declared by other tests count, too.
    tables = list(tables_by_name())
    routes = [(route.methods - {"HEAD"}, route.path.replace(":path", "")) for route in api.routes()]
    served = {
        (method, path.replace("{table}", table))
        for methods, path in routes
        for method in methods
        # The answers of `ask` and `repair` are the same for all tables.
        for table in (tables if "{table}" in path and not path.endswith(("/ask", "/repair")) else ["{table}"])
    }
    hooks = {(method, "/hooks/{source}") for method in ("POST", "GET", "OPTIONS")}
    assert described(document) == served | hooks


def test_an_address_with_a_part_that_is_not_described_is_refused():
    with pytest.raises(ValueError, match="parts without a parameter: colour"):
        Operation(name="show_thing", path="/things/{colour}", summary="A thing", answer=None, answers={200: str})


def test_every_operation_has_a_name_of_its_own(document):
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("table", TABLES)
def test_a_row_has_the_columns_of_its_table_except_those_for_the_guard(document, table):
    row = document["components"]["schemas"][shapes_of(TABLES[table]).row.__name__]
    columns = {column.name for column in sql_table(TABLES[table]).columns} - {"versions"}
    assert row["properties"].keys() == set(row["required"]) == columns
    assert row["additionalProperties"] is False


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (ExactDecimal(), {"type": "string", "format": "decimal"}),
        (UtcDateTime(), {"type": "string", "format": "date-time"}),
        (Boolean(), {"type": "boolean"}),
        (BigInteger(), {"type": "integer"}),
        (Text(), {"type": "string"}),
        (AutoString(), {"type": "string"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_schema_of_a_column_follows_from_its_type(kind, schema):
    assert value_schema(Column("value", kind, nullable=False)) == schema
    assert value_schema(Column("value", kind)) == {"anyOf": [schema, {"type": "null"}]}


@pytest.mark.parametrize("kind", [Document(), Float()], ids=lambda value: type(value).__name__)
def test_a_document_and_a_column_of_another_type_hold_anything(kind):
    assert value_schema(Column("value", kind)) == {}


def value_schema(column) -> dict[str, Any]:
    """Return the description of this column in a row's schema."""
    table: Any = type("Thing", (), {"__table__": Table("things", MetaData(), column)})
    row = shapes_of(table).row
    _, components = msgspec.json.schema_components([row])
    return components[row.__name__]["properties"]["value"]


def test_a_parameter_without_which_a_request_is_refused_is_described_as_required(document):
    required = {
        (each["operationId"], parameter["name"])
        for methods in document["paths"].values()
        for each in methods.values()
        for parameter in each.get("parameters", ())
        if parameter["required"] and parameter["in"] == "query"
    }
    assert required == {("search", "q"), ("start_run", "reason"), ("repair_row", "reason")}


@pytest.mark.parametrize("name", ["Item", "State", "Change", "Error"])
def test_tables_of_the_same_name_have_separate_schemas(name):
    one, other = (type(name, (), {"__table__": Table(column, MetaData(), Column(column, Text))}) for column in "ab")
    document = json.loads(encode(describe(Catalog(NO_LOOKUP, {"a": one, "b": other}).operations())))
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    for table in "ab":
        answer = document["paths"][f"/api/v1/catalog/{table}"]["get"]["responses"]["200"]
        page = resolved(document, answer["content"]["application/json"]["schema"])
        assert resolved(document, page["properties"]["items"]["items"])["properties"].keys() == {table}


def resolved(document, schema) -> dict[str, Any]:
    return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
