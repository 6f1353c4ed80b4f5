"""Any request that the OpenAPI document allows, and many that it does not, to an application with data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from senders import body, sent
from serving import Served, serving, token, wait_until

from receiver.api.tokens import Scope

#: Checks that every answer must pass.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

#: Examples of each operation in `make test`, in `make plug` and in `make explore`.
FEW, MORE, MANY = 2, 12, 300

MODES = {"as documented": GenerationMode.POSITIVE, "otherwise": GenerationMode.NEGATIVE}


@pytest.fixture(scope="module")
def served(lend_database, tmp_path_factory) -> Iterator[Served]:
    with lend_database(tmp_path_factory.mktemp("any")) as url, serving(url, with_worker=True) as running:
        yield running


@pytest.fixture(scope="module")
def known(served: Served) -> dict[str, list[str]]:
    """Return existing values of path parameters by name, because invented ones are nearly always unknown."""
    lamp = {"name": "Lamp", "price": "19.90", "sku": "L-1"}
    ids = [served.send("sticky", id=number, key=f"k{number}", data=lamp) for number in (1, 2)]
    ids += [served.send("sigma", event_type="moon.eclipsed"), served.send("sigma", b"\xff not JSON")]
    ids.append(served.send("iimmpact", id="a/b"))
    for delivery in ids:
        served.ended(delivery)
    served.post("sigma", sent("sigma", body("sigma"))[0], {"X-Sigma-Signature": "sha256=" + "0" * 64})
    runs = [
        served.get(f"/api/v1/runs?source={source}", scope=Scope.OPERATE, method="POST").json()["run"]
        for source in ("sticky", "sigma")
    ]
    wait_until(lambda: served.count("runs", "state = 'planned'") == len(runs), "the plans")
    return {
        "id": [*ids, *runs],
        "source": ["sigma", "sticky", "iimmpact", "nobody"],
        "external_id": ["1", "2", "a%2Fb"],
    }


@pytest.fixture(scope="module")
def operations(served: Served) -> list[Any]:
    """Return the operations with a parameter or a body; the others have only one form."""
    schema = schemathesis.openapi.from_dict(served.client.get("/openapi.json").json())
    found = [each.ok() for each in schema.get_all_operations()]
    return [each for each in found if each.query or each.path_parameters or each.body]


@pytest.mark.hypothesis
@pytest.mark.parametrize(
    ("database_system", "mode", "examples"),
    [
        # PostgreSQL refuses more values than SQLite does, and requests outside the document rarely reach the database.
        ("postgresql", "as documented", FEW),
        ("sqlite", "otherwise", FEW),
        *(
            pytest.param(system, mode, MORE, marks=pytest.mark.long)
            for system in ("sqlite", "postgresql")
            for mode in MODES
        ),
    ],
    indirect=["database_system"],
)
def test_any_request_is_answered_as_the_document_says(served: Served, operations, known, mode: str, examples: int):
    is_exploring = not settings().derandomize
    limits = settings(
        max_examples=MANY if is_exploring else examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink) if is_exploring else (Phase.generate,),
    )
    headers = {"Authorization": f"Bearer {token(Scope.OPERATE)}"}
    base_url = str(served.client.base_url).rstrip("/")

    def ask(operation: Any) -> None:
        @limits
        @given(st.data())
        def asked(data: st.DataObject) -> None:
            case = data.draw(operation.as_strategy(generation_mode=MODES[mode]))
            for name in case.path_parameters or ():
                if name in known and data.draw(st.booleans()):
                    case.path_parameters[name] = data.draw(st.sampled_from(known[name]))
            case.validate_response(case.call(base_url=base_url, headers=headers), checks=CHECKS)

        asked()

    wrong = {}
    for operation in operations:
        try:
            ask(operation)
        except BaseException as error:
            wrong[operation.label] = str(error)
    assert not wrong, "\n\n".join(f"{label}: {said}" for label, said in wrong.items())
