"""The answers of a running receiver agree with its OpenAPI document, in success and in refusal."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property, reduce
from operator import getitem
from typing import Any, NamedTuple

import followed
import httpx
import pytest
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from senders import SECRETS, SOURCES, body, seal, sent
from serving import SECRET_KEY, TIMEOUT, Served, serving, wait_until
from sqlalchemy import delete, insert, text, update
from sqlmodel import SQLModel

from handlers.sigma import sigma
from receiver import ChallengeRefused, ChallengeRequest, SenderReply
from receiver.api.tokens import Scope
from receiver.dialects.challenges import METHODS, Challenge
from receiver.findings.finding import Finding
from receiver.findings.record import update_record
from receiver.inbox.tables import BODIES, DELIVERIES, State
from receiver.release import release
from receiver.runs import actions
from receiver.runs.tables import RUNS
from receiver.sessions.tables import SESSIONS
from receiver.worker.processes import Wiring

TABLES = ("products", "variants", "categories", "groups", "options", "records")

#: A source whose API cannot be reached, so that its deliveries have failed attempts.
UNREACHABLE = {
    "dialect": "sigma",
    "secrets": [SECRETS["sigma"]],
    "api_url": "http://127.0.0.1:9/api/v1",
    "api_key": "sk-of-these-tests",
    "registered_url": "http://127.0.0.1:9/hooks/unreachable",
}

#: A row with a value in every column that all tables have.
FULL_ROW = {
    "source": "made",
    "external_id": "1",
    "active": False,
    "changed_at": datetime(2026, 3, 4, 12, tzinfo=UTC),
    "deactivated_at": datetime(2026, 3, 4, 12, 30, tzinfo=UTC),
    "tie": True,
    "versions": '{"own":false,"at":[[1772625600000000,1,1,"active","name","data"]]}',
    "sku": "L-1",
    "name": "Lamp",
    "price": Decimal("19.90"),
    "currency": "EUR",
    "parent": "P",
    "lifecycle_state": "live",
    "data": {"any": ["thing", 1.5, None]},
}

#: A session of the console.
SESSION = {
    "id": "s1",
    "link": "l1",
    "name": "ops-1",
    "role": "operator",
    "created_at": datetime.now(UTC),
    "seen_at": datetime.now(UTC),
    "ends_at": datetime.now(UTC) + timedelta(hours=1),
}


class Asked(NamedTuple):
    """A request to a working receiver, and the status of its answer."""

    status: int
    path: str
    method: str = "GET"
    scope: Scope | None = Scope.OPERATE

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"


#: In paths, `{processed}` and the like stand for the id of a delivery in that state.
ASKED = [
    Asked(200, "/healthz", scope=None),
    Asked(200, "/readyz", scope=None),
    Asked(200, "/metrics", scope=None),
    Asked(200, "/openapi.json", scope=None),
    Asked(200, "/api/v1/deliveries"),
    Asked(200, "/api/v1/deliveries?limit=1"),
    Asked(
        200,
        "/api/v1/deliveries?source=sticky&state=processed&event_type=product.updated&entity=product:1&from=2h&count=true",
    ),
    Asked(400, "/api/v1/deliveries?state=lost"),
    Asked(401, "/api/v1/deliveries", scope=None),
    *(Asked(200, f"/api/v1/deliveries/{{{kind}}}") for kind in ("processed", "ignored", "dead", "waiting", "expired")),
    Asked(400, "/api/v1/deliveries/{processed}?colour=red"),
    Asked(401, "/api/v1/deliveries/{processed}", scope=None),
    Asked(404, "/api/v1/deliveries/1"),
    Asked(202, "/api/v1/deliveries/{replayed}/replay", "POST"),
    Asked(400, "/api/v1/deliveries/{processed}/replay?colour=red", "POST"),
    Asked(401, "/api/v1/deliveries/{processed}/replay", "POST", scope=None),
    Asked(403, "/api/v1/deliveries/{processed}/replay", "POST", scope=Scope.READ),
    Asked(404, "/api/v1/deliveries/1/replay", "POST"),
    Asked(409, "/api/v1/deliveries/{waiting}/replay", "POST"),
    Asked(409, "/api/v1/deliveries/{expired}/replay", "POST"),
    Asked(202, "/api/v1/deliveries/{waiting}/try", "POST"),
    Asked(400, "/api/v1/deliveries/{processed}/try?reason=no", "POST"),
    Asked(401, "/api/v1/deliveries/{processed}/try", "POST", scope=None),
    Asked(403, "/api/v1/deliveries/{processed}/try", "POST", scope=Scope.READ),
    Asked(404, "/api/v1/deliveries/1/try", "POST"),
    Asked(409, "/api/v1/deliveries/{processed}/try", "POST"),
    Asked(202, "/api/v1/try?ids={waiting_too},{processed}", "POST"),
    Asked(400, "/api/v1/try", "POST"),
    Asked(401, "/api/v1/try?ids={waiting}", "POST", scope=None),
    Asked(403, "/api/v1/try?ids={waiting}", "POST", scope=Scope.READ),
    Asked(409, "/api/v1/try?ids={processed}", "POST"),
    Asked(200, "/api/v1/actions?limit=1"),
    Asked(400, "/api/v1/actions?run=x"),
    Asked(401, "/api/v1/actions", scope=None),
    Asked(200, "/api/v1/runs?limit=2"),
    Asked(400, "/api/v1/runs?before=x"),
    Asked(401, "/api/v1/runs", scope=None),
    Asked(202, "/api/v1/runs?source=sticky&state=processed", "POST"),
    Asked(400, "/api/v1/runs", "POST"),
    Asked(401, "/api/v1/runs", "POST", scope=None),
    Asked(403, "/api/v1/runs?source=sticky", "POST", scope=Scope.READ),
    Asked(409, "/api/v1/runs?source=sticky&idempotency_key=taken", "POST"),
    Asked(200, "/api/v1/runs/{paused_run}"),
    Asked(400, "/api/v1/runs/{paused_run}?colour=red"),
    Asked(401, "/api/v1/runs/{paused_run}", scope=None),
    Asked(404, "/api/v1/runs/999"),
    Asked(200, "/api/v1/runs/{paused_run}/rows?after=1&limit=1"),
    Asked(400, "/api/v1/runs/{paused_run}/rows?after=x"),
    Asked(401, "/api/v1/runs/{paused_run}/rows", scope=None),
    Asked(404, "/api/v1/runs/999/rows"),
    Asked(200, "/api/v1/runs/{paused_run}/deliveries?limit=1"),
    Asked(400, "/api/v1/runs/{paused_run}/deliveries?after=x"),
    Asked(401, "/api/v1/runs/{paused_run}/deliveries", scope=None),
    Asked(404, "/api/v1/runs/999/deliveries"),
    Asked(200, "/api/v1/sources/unreachable/test", "POST"),
    Asked(400, "/api/v1/sources/unreachable/test?colour=red", "POST"),
    Asked(401, "/api/v1/sources/unreachable/test", "POST", scope=None),
    Asked(403, "/api/v1/sources/unreachable/test", "POST", scope=Scope.READ),
    Asked(404, "/api/v1/sources/nosuch/test", "POST"),
    Asked(409, "/api/v1/sources/sigma/test", "POST"),
    Asked(200, "/api/v1/reload", "POST"),
    Asked(400, "/api/v1/reload?colour=red", "POST"),
    Asked(401, "/api/v1/reload", "POST", scope=None),
    Asked(403, "/api/v1/reload", "POST", scope=Scope.READ),
    Asked(200, "/api/v1/runs/{planned_run}/start?reason=because", "POST"),
    Asked(200, "/api/v1/runs/{paused_run}/resume", "POST"),
    Asked(200, "/api/v1/runs/{running_run}/pause", "POST"),
    Asked(200, "/api/v1/runs/{other_run}/cancel", "POST"),
    *(
        each
        for verb in ("start", "pause", "resume", "cancel")
        for each in (
            Asked(400, f"/api/v1/runs/{{over_run}}/{verb}?reason=no", "POST"),
            Asked(401, f"/api/v1/runs/{{over_run}}/{verb}", "POST", scope=None),
            Asked(403, f"/api/v1/runs/{{over_run}}/{verb}", "POST", scope=Scope.READ),
            Asked(404, f"/api/v1/runs/999/{verb}?reason=because", "POST"),
            Asked(409, f"/api/v1/runs/{{over_run}}/{verb}?reason=because", "POST"),
        )
    ),
    Asked(200, "/api/v1/catalog"),
    Asked(400, "/api/v1/catalog?colour=red"),
    Asked(401, "/api/v1/catalog", scope=None),
    *(Asked(200, f"/api/v1/catalog/{table}?limit=1") for table in TABLES),
    *(Asked(400, f"/api/v1/catalog/{table}?limit=0") for table in TABLES),
    *(Asked(401, f"/api/v1/catalog/{table}", scope=None) for table in TABLES),
    *(Asked(200, f"/api/v1/catalog/{table}/made/1") for table in TABLES),
    Asked(200, "/api/v1/catalog/products/sticky/1"),
    Asked(200, "/api/v1/catalog/products/iimmpact/gone"),
    Asked(200, "/api/v1/catalog/products/iimmpact/a%2Fb"),
    *(Asked(400, f"/api/v1/catalog/{table}/made/1?colour=red") for table in TABLES),
    *(Asked(401, f"/api/v1/catalog/{table}/made/1", scope=None) for table in TABLES),
    *(Asked(404, f"/api/v1/catalog/{table}/made/never") for table in TABLES),
    *(Asked(200, f"/api/v1/catalog/{table}/made/1/why") for table in TABLES),
    Asked(200, "/api/v1/catalog/products/sticky/1/why"),
    Asked(200, "/api/v1/catalog/products/sticky/3/why"),
    Asked(200, "/api/v1/catalog/products/iimmpact/gone/why"),
    Asked(200, "/api/v1/catalog/products/iimmpact/a%2Fb/why"),
    *(Asked(400, f"/api/v1/catalog/{table}/made/1/why?colour=red") for table in TABLES),
    *(Asked(401, f"/api/v1/catalog/{table}/made/1/why", scope=None) for table in TABLES),
    *(Asked(404, f"/api/v1/catalog/{table}/made/never/why") for table in TABLES),
    Asked(200, "/api/v1/deliveries/{processed}/changes"),
    Asked(200, "/api/v1/deliveries/{processed}/changes?limit=1"),
    Asked(400, "/api/v1/deliveries/{processed}/changes?cursor=x"),
    Asked(401, "/api/v1/deliveries/{processed}/changes", scope=None),
    Asked(404, "/api/v1/deliveries/x/changes"),
    Asked(404, "/api/v1/deliveries/1/changes"),
    Asked(200, "/api/v1/changes"),
    Asked(200, "/api/v1/changes?after=1&limit=1"),
    Asked(400, "/api/v1/changes?after=x"),
    Asked(401, "/api/v1/changes", scope=None),
    Asked(200, "/api/v1/changes?cursor=begin"),
    Asked(200, "/api/v1/changes?newest=true&whole=true&source=sticky"),
    Asked(410, "/api/v1/changes?after=9999"),
    Asked(200, "/api/v1/changes/1"),
    Asked(400, "/api/v1/changes/1?colour=red"),
    Asked(401, "/api/v1/changes/1", scope=None),
    Asked(404, "/api/v1/changes/9999"),
    Asked(404, "/api/v1/changes/x"),
    Asked(200, "/api/v1/followers"),
    Asked(400, "/api/v1/followers?colour=red"),
    Asked(401, "/api/v1/followers", scope=None),
    Asked(200, "/api/v1/followers/erp/retry", "POST"),
    Asked(200, "/api/v1/followers/erp/dead/1/drop", "POST"),
    *(
        each
        for verb in ("retry", "dead/1/drop")
        for each in (
            Asked(400, f"/api/v1/followers/erp/{verb}?reason=no", "POST"),
            Asked(401, f"/api/v1/followers/erp/{verb}", "POST", scope=None),
            Asked(403, f"/api/v1/followers/erp/{verb}", "POST", scope=Scope.READ),
            Asked(404, f"/api/v1/followers/nobody/{verb}", "POST"),
            Asked(409, f"/api/v1/followers/erp/{verb}?idempotency_key=taken", "POST"),
        )
    ),
    Asked(200, "/api/v1/search?q=product:1"),
    Asked(400, "/api/v1/search"),
    Asked(401, "/api/v1/search", scope=None),
    Asked(200, "/docs", scope=None),
    Asked(200, "/api/v1/stats"),
    Asked(400, "/api/v1/stats?colour=red"),
    Asked(401, "/api/v1/stats", scope=None),
    Asked(200, "/api/v1/sources"),
    Asked(400, "/api/v1/sources?colour=red"),
    Asked(401, "/api/v1/sources", scope=None),
    Asked(200, "/api/v1/sources/sigma"),
    Asked(400, "/api/v1/sources/sigma?colour=red"),
    Asked(401, "/api/v1/sources/sigma", scope=None),
    Asked(404, "/api/v1/sources/nobody"),
    Asked(200, "/api/v1/findings"),
    Asked(200, "/api/v1/findings?all=true"),
    Asked(400, "/api/v1/findings?all=perhaps"),
    Asked(401, "/api/v1/findings", scope=None),
    Asked(200, "/api/v1/findings/{finding}"),
    Asked(400, "/api/v1/findings/{finding}?all=true"),
    Asked(401, "/api/v1/findings/{finding}", scope=None),
    Asked(404, "/api/v1/findings/nothing"),
    Asked(200, "/api/v1/findings/{finding}/acknowledge", "POST"),
    Asked(400, "/api/v1/findings/{finding}/acknowledge?colour=red", "POST"),
    Asked(401, "/api/v1/findings/{finding}/acknowledge", "POST", scope=None),
    Asked(403, "/api/v1/findings/{finding}/acknowledge", "POST", scope=Scope.READ),
    Asked(404, "/api/v1/findings/nothing/acknowledge", "POST"),
    Asked(409, "/api/v1/findings/{finding}/acknowledge?idempotency_key=taken", "POST"),
    Asked(200, "/api/v1/processes"),
    Asked(400, "/api/v1/processes?colour=red"),
    Asked(401, "/api/v1/processes", scope=None),
    Asked(200, "/api/v1/system"),
    Asked(400, "/api/v1/system?colour=red"),
    Asked(401, "/api/v1/system", scope=None),
    Asked(200, "/api/v1/faults"),
    Asked(400, "/api/v1/faults?source=nobody"),
    Asked(401, "/api/v1/faults", scope=None),
    Asked(200, "/api/v1/tallies"),
    Asked(200, "/api/v1/tallies?span=hour&source=sigma&kind=accepted&after=2026-03-04T12:00:00Z"),
    Asked(400, "/api/v1/tallies?after=yesterday"),
    Asked(401, "/api/v1/tallies", scope=None),
    Asked(200, "/api/v1/refused"),
    Asked(200, "/api/v1/refused?source=sigma&limit=1"),
    Asked(400, "/api/v1/refused?cursor=x"),
    Asked(401, "/api/v1/refused", scope=None),
    Asked(200, "/api/v1/refused/{refused}"),
    Asked(400, "/api/v1/refused/{refused}?source=sigma"),
    Asked(401, "/api/v1/refused/{refused}", scope=None),
    Asked(404, "/api/v1/refused/1"),
    *(Asked(200, f"/api/v1/refused/sticky/{verb}", "POST") for verb in ("verify", "drop")),
    *(Asked(400, f"/api/v1/refused/sticky/{verb}?reason=no", "POST") for verb in ("verify", "drop")),
    *(Asked(401, f"/api/v1/refused/sticky/{verb}", "POST", scope=None) for verb in ("verify", "drop")),
    *(Asked(403, f"/api/v1/refused/sticky/{verb}", "POST", scope=Scope.READ) for verb in ("verify", "drop")),
    Asked(404, "/api/v1/refused/nobody/verify", "POST"),
    *(Asked(409, f"/api/v1/refused/sticky/{verb}?idempotency_key=taken", "POST") for verb in ("verify", "drop")),
    Asked(200, "/api/v1/sessions"),
    Asked(400, "/api/v1/sessions?colour=red"),
    Asked(401, "/api/v1/sessions", scope=None),
    Asked(400, "/api/v1/sessions/{session}/end?reason=no", "POST"),
    Asked(401, "/api/v1/sessions/{session}/end", "POST", scope=None),
    Asked(403, "/api/v1/sessions/{session}/end", "POST", scope=Scope.READ),
    Asked(404, "/api/v1/sessions/nothing/end", "POST"),
    Asked(409, "/api/v1/sessions/{session}/end?idempotency_key=taken", "POST"),
    Asked(200, "/api/v1/sessions/{session}/end", "POST"),
]

#: Requests to a receiver whose database does not answer.
ASKED_IN_VAIN = [
    Asked(503, "/readyz", scope=None),
    Asked(503, "/api/v1/deliveries"),
    Asked(503, "/api/v1/deliveries/1"),
    Asked(503, "/api/v1/deliveries/1/replay", "POST"),
    Asked(503, "/api/v1/deliveries/1/try", "POST"),
    Asked(503, "/api/v1/try?ids=1", "POST"),
    Asked(503, "/api/v1/actions"),
    Asked(503, "/api/v1/runs"),
    Asked(503, "/api/v1/runs?state=dead", "POST"),
    Asked(503, "/api/v1/runs/1"),
    Asked(503, "/api/v1/runs/1/rows"),
    Asked(503, "/api/v1/runs/1/deliveries"),
    Asked(503, "/api/v1/sources/unreachable/test", "POST"),
    Asked(503, "/api/v1/reload", "POST"),
    *(Asked(503, f"/api/v1/runs/1/{verb}?reason=because", "POST") for verb in ("start", "pause", "resume", "cancel")),
    *(Asked(503, f"/api/v1/catalog/{table}") for table in TABLES),
    *(Asked(503, f"/api/v1/catalog/{table}/made/1") for table in TABLES),
    *(Asked(503, f"/api/v1/catalog/{table}/made/1/why") for table in TABLES),
    Asked(503, "/api/v1/deliveries/1/changes"),
    Asked(503, "/api/v1/changes"),
    Asked(503, "/api/v1/changes/1"),
    Asked(503, "/api/v1/followers"),
    Asked(503, "/api/v1/system"),
    *(Asked(503, f"/api/v1/followers/erp/{verb}", "POST") for verb in ("retry", "dead/1/drop")),
    Asked(503, "/api/v1/search?q=A1"),
    Asked(503, "/api/v1/stats"),
    Asked(503, "/api/v1/sources"),
    Asked(503, "/api/v1/sources/sigma"),
    *(Asked(503, f"/api/v1/{noun}") for noun in ("findings", "faults", "tallies", "refused", "processes")),
    Asked(503, "/api/v1/findings/nothing"),
    Asked(503, "/api/v1/findings/nothing/acknowledge", "POST"),
    Asked(503, "/api/v1/refused/1"),
    *(Asked(503, f"/api/v1/refused/sticky/{verb}", "POST") for verb in ("verify", "drop")),
    Asked(503, "/api/v1/sessions"),
    Asked(503, "/api/v1/sessions/nothing/end", "POST"),
]

#: All the addresses above.
ADDRESSES = sorted({each.path.partition("?")[0] for each in ASKED})

#: Webhooks with their answers, each as the arguments of `Served.post`.
FINE = sent("sigma", body("sigma"))
POSTED = {
    "fine": (200, "sigma", *FINE),
    "again": (200, "sigma", *FINE),
    "signature_missing": (401, "sigma", b"{}"),
    "signature_malformed": (401, "sigma", b"{}", {"X-Sigma-Signature": "sha256=0"}),
    "signature_repeated": (401, "sigma", b"{}", [(b"X-Sigma-Signature", b"a"), (b"X-Sigma-Signature", b"b")]),
    "signature_wrong": (401, "sigma", b"{}", {"X-Sigma-Signature": "sha256=" + "0" * 64}),
    "not_decryptable": (401, "sticky", b"x"),
    "app_key_wrong": (401, "sticky", seal(b'{"clientAppKey": "another"}')),
    "unknown_source": (404, "nobody", b"{}"),
    "body_too_large": (413, "sigma", b"x" * 5_000),
}


@pytest.fixture(scope="module")
def served(lend_database, tmp_path_factory) -> Iterator[Served]:
    settings = {"sources": SOURCES | {"unreachable": UNREACHABLE}, "max_body_bytes": 4_096}
    with (
        lend_database(tmp_path_factory.mktemp("openapi")) as url,
        serving(url, with_worker=True, **settings) as running,
    ):
        with running.beside.write() as beside:
            for name in TABLES:
                beside.execute(insert(SQLModel.metadata.tables[name]).values(**FULL_ROW))
        yield running


@pytest.fixture(scope="module")
def ids(served: Served) -> dict[str, str]:
    """Return the id of a delivery of each kind, once the worker has had all of them."""
    lamp = {"name": "Lamp", "price": "19.90", "sku": "L-1"}
    found = {
        "processed": served.send("sticky", id=1, key="k1", data=lamp),
        "replayed": served.send("sticky", id=2, key="k2", data=lamp),
        "expired": served.send("sticky", id=3, key="k3", data=lamp),
        "ignored": served.send("sigma", key="moon", event_type="moon.eclipsed"),
        "dead": served.send("sigma", b"\xff not JSON"),
        "gone": served.send("iimmpact", id="gone", event_type="product.deleted", data=None),
        "slash": served.send("iimmpact", id="a/b"),
    }
    for delivery in found.values():
        served.ended(delivery)
    with served.beside.write() as beside:
        beside.execute(delete(BODIES).where(BODIES.c.delivery_id == int(found["expired"])))
    for name in ("waiting", "waiting_too"):
        found[name] = served.post("unreachable", *sent("sigma", body("sigma", id=name))).json()["delivery"]
        wait_until(lambda waiting=found[name]: _wait_long(served, waiting), "a failed attempt")
    now = datetime.now(UTC)
    finding = Finding("one_cause", "sigma", now, "one delivery is dead", "Mend it.")
    update_record(served.beside, [finding], now=now)
    followed.add(served.beside)
    served.post("sigma", b"\xff", {"X-Sigma-Signature": "sha256=" + "0" * 64})
    served.app._keeper.flush()
    refused = served.get("/api/v1/refused").json()["items"][0]["id"]
    with served.beside.write() as beside:
        beside.execute(insert(SESSIONS).values(SESSION))
    found |= {"finding": finding.id, "refused": refused, "session": SESSION["id"]}
    return found | _runs(served)


def _wait_long(served: Served, delivery: str) -> bool:
    """Put the next attempt off if one has failed, since the random wait before it may be short."""
    waits = (DELIVERIES.c.id == int(delivery), DELIVERIES.c.state == State.PENDING.value, DELIVERIES.c.attempts > 0)
    with served.beside.write() as beside:
        put_off = beside.execute(update(DELIVERIES).where(*waits).values(due_at=datetime(2099, 1, 1, tzinfo=UTC)))
    return put_off.rowcount == 1


def _runs(served: Served) -> dict[str, str]:
    """Make a run in each state, without deliveries. No feeder knows their kind, so they keep their states."""
    wiring = Wiring.of(served.app._runtime.sources).fingerprint
    always = {"kind": "reconcile", "arguments": {}, "total": 0, "done": 0, "tally": {}, "planned_by": "ops-1"}
    always |= {"planned_at": datetime.now(UTC), "release": release(), "wiring": wiring}
    states = {
        "planned_run": {"state": "planned", "sources": ["a"]},
        "other_run": {"state": "planned", "sources": ["b"]},
        "running_run": {"state": "running", "sources": ["c"]},
        "paused_run": {"state": "paused", "sources": ["d"]},
        "over_run": {"state": "done", "sources": ["e"]},
    }
    with served.beside.write() as beside:
        made = {
            name: str(beside.execute(insert(RUNS).values(**always, **kept).returning(RUNS.c.id)).scalar())
            for name, kept in states.items()
        }
        before = actions.Asked(by=actions.By("api", actions.Via.API), what="other", key="taken")
        actions.record(beside, before, actions.Effect(1, {}), now=datetime.now(UTC))
    return made


@pytest.fixture(scope="module")
def ill(lend_database, tmp_path_factory) -> Iterator[Served]:
    """Serve a receiver whose tables are gone."""
    sources = SOURCES | {"unreachable": UNREACHABLE}
    with lend_database(tmp_path_factory.mktemp("ill")) as url, serving(url, sources=sources) as running:
        with running.beside.write() as beside:
            nouns = (
                "deliveries",
                "changes",
                "followers",
                "dead_changes",
                "actions",
                "runs",
                "findings",
                "tallies",
                "refused",
                "processes",
                "sessions",
            )
            for name in (*nouns, *TABLES):
                beside.execute(text(f"ALTER TABLE {name} RENAME TO {name}_away"))
        yield running


class Document(dict[str, Any]):
    """The document, with its patterns and its schemas ready for all tests."""

    @cached_property
    def patterns(self) -> dict[re.Pattern[str], str]:
        """The document's paths by patterns. Slashes of an external id are escaped in a path."""
        return {re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(each))): each for each in self["paths"]}

    @cached_property
    def registry(self) -> Registry[Any]:
        """The document, to which references of its schemas lead. Each test would read all of it again."""
        return Registry().with_resource(NAME, DRAFT202012.create_resource(dict(self))).crawl()


#: The name by which references lead to the document.
NAME = "urn:openapi"


@pytest.fixture(scope="module")
def document(served: Served) -> Document:
    """Return the document as any client may read it."""
    answer = served.client.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return Document(answer.json())


def template(document: Document, path: str) -> str:
    """Return the document's path for this one."""
    exact = [each for pattern, each in document.patterns.items() if pattern.fullmatch(path.partition("?")[0])]
    assert len(exact) == 1, f"{path} fits {exact}"
    return exact[0]


def check(document: Document, method: str, path: str, answer: httpx.Response) -> None:
    """Check that the document has the answer, with its headers and in the form that it describes."""
    steps = ["paths", template(document, path), method.lower(), "responses", str(answer.status_code)]
    described = reduce(getitem, steps, document)
    media_type = answer.headers["content-type"].partition(";")[0]
    assert [media_type] == list(described["content"])
    assert {name.lower() for name in described.get("headers", {})} <= answer.headers.keys()
    pointer = "".join(f"/{step.replace('/', '~1')}" for step in [*steps, "content", media_type, "schema"])
    value = answer.json() if media_type == "application/json" else answer.text
    validator = OAS31Validator(
        {"$ref": f"{NAME}#{pointer}"}, registry=document.registry, format_checker=oas31_format_checker
    )
    assert [(error.json_path, error.message) for error in validator.iter_errors(value)] == []


#: For answers that no database has a part in.
ON_POSTGRESQL = pytest.mark.parametrize("database_system", ["postgresql"], indirect=True)

#: The requests that succeed are read from both databases. A refusal is the same on each.
ANSWERED = [asked for asked in ASKED if asked.status < 300]
REFUSED = [asked for asked in ASKED if asked.status >= 300]


@pytest.mark.parametrize("asked", ANSWERED, ids=str)
def test_an_answer_agrees_with_the_document(served: Served, ids, document, asked: Asked):
    check_answer(served, ids, document, asked)


@ON_POSTGRESQL
@pytest.mark.parametrize("asked", REFUSED, ids=str)
def test_a_refusal_agrees_with_the_document(served: Served, ids, document, asked: Asked):
    check_answer(served, ids, document, asked)


def check_answer(served: Served, ids: dict[str, str], document: Document, asked: Asked) -> None:
    path = asked.path.format(**ids)
    answer = served.get(path, scope=asked.scope, method=asked.method)
    assert answer.status_code == asked.status, answer.text
    check(document, asked.method, path, answer)


def check_refusal(ill: Served, document: Document, asked: Asked) -> None:
    answer = ill.get(asked.path, scope=asked.scope, method=asked.method)
    assert answer.status_code == asked.status, answer.text
    check(document, asked.method, asked.path, answer)


@pytest.mark.parametrize("asked", ASKED_IN_VAIN[:4], ids=str)
def test_the_answer_without_a_database_agrees_with_the_document(ill: Served, document, asked: Asked):
    check_refusal(ill, document, asked)


@ON_POSTGRESQL
@pytest.mark.parametrize("asked", ASKED_IN_VAIN[4:], ids=str)
def test_every_answer_without_a_database_agrees_with_the_document(ill: Served, document, asked: Asked):
    check_refusal(ill, document, asked)


@ON_POSTGRESQL
@pytest.mark.parametrize("name", POSTED)
def test_the_answer_to_a_webhook_agrees_with_the_document(served: Served, document, name: str):
    status, source, *rest = POSTED[name]
    answer = served.post(source, *rest)
    assert answer.status_code == status, answer.text
    if status != 200:
        assert answer.json()["error"] == name
    check(document, "POST", f"/hooks/{source}", answer)


def test_the_answer_to_a_webhook_that_cannot_be_stored_agrees_with_the_document(ill: Served, document):
    answer = ill.post("sigma", *FINE)
    assert answer.status_code == 503
    check(document, "POST", "/hooks/sigma", answer)


#: A source's answers to requests that may be challenges, by the kind of request.
CHALLENGED = {"right": 200, "wrong": 403, "nobody": 404, "other": 405, "broken": 503}


@pytest.fixture
def challenged(monkeypatch):
    def answer(asked: ChallengeRequest) -> SenderReply | None:
        if asked.query.get("c") == "wrong":
            raise ChallengeRefused("The token is not the one of this source.")
        if asked.query.get("c") == "broken":
            raise ZeroDivisionError
        return asked.echo("c") if asked.query.get("c") == "right" else None

    monkeypatch.setattr(sigma, "challenges", (Challenge(answer, METHODS, before_verifying=True),))


@ON_POSTGRESQL
@pytest.mark.parametrize("asked", CHALLENGED)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_the_answer_to_a_challenge_agrees_with_the_document(served: Served, document, challenged, method, asked):
    path = f"/hooks/{'nobody' if asked == 'nobody' else 'sigma'}"
    answer = served.client.request(method, f"{path}?c={asked}")
    assert answer.status_code == CHALLENGED[asked], answer.text
    check(document, method, path, answer)


@ON_POSTGRESQL
def test_the_refusal_of_a_challenge_by_post_agrees_with_the_document(served: Served, document, challenged):
    answer = served.client.post("/hooks/sigma?c=wrong", content=b"")
    assert answer.status_code == 403
    check(document, "POST", "/hooks/sigma", answer)


@ON_POSTGRESQL
def test_every_answer_of_the_document_is_tested_above(document):
    shown = {
        (method.upper(), path, int(status))
        for path, methods in document["paths"].items()
        # Other tests of the same run may declare tables of their own.
        if not path.startswith("/api/v1/catalog/") or path.split("/")[4] in TABLES
        for method, operation in methods.items()
        for status in operation["responses"]
        # A 304 needs an earlier answer; the others are possible at every address, and tested below.
        if status not in ("304", "414", "431")
    }
    anything = defaultdict(lambda: "x")
    asked = {
        (each.method, template(document, each.path.format_map(anything)), each.status)
        for each in [*ASKED, *ASKED_IN_VAIN]
    }
    posted = {("POST", "/hooks/{source}", status) for status in (*(status for status, *_ in POSTED.values()), 403, 503)}
    posted |= {(method, "/hooks/{source}", status) for method in ("GET", "OPTIONS") for status in CHALLENGED.values()}
    assert shown == asked | posted


@ON_POSTGRESQL
@pytest.mark.parametrize(("status", "query", "headers"), [(414, "x" * 8_193, {}), (431, "", {"X-Long": "x" * 20_000})])
def test_the_answer_to_a_request_that_is_too_long_agrees_with_the_document(served, document, status, query, headers):
    for path in ("/healthz", "/api/v1/search", "/api/v1/deliveries/1"):
        answer = httpx.get(f"{served.client.base_url}{path}?q={query}", headers=headers, timeout=TIMEOUT)
        assert answer.status_code == status
        check(document, "GET", path, answer)


@ON_POSTGRESQL
@pytest.mark.parametrize("name", ADDRESSES)
def test_an_address_accepts_the_parameters_of_the_document_only(served: Served, ids, document, name: str):
    path = name.format(**ids)
    for method, operation in document["paths"][template(document, path)].items():
        if "security" not in operation:
            continue
        message = served.get(f"{path}?colour=red", scope=Scope.OPERATE, method=method.upper()).json()["message"]
        taken = set(message.partition("the parameters are: ")[2].rstrip(".").split(", ")) - {"none"}
        assert taken == {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}


@ON_POSTGRESQL
@pytest.mark.parametrize("name", ADDRESSES)
def test_an_address_requires_the_scope_of_the_document(served: Served, ids, document, name: str):
    path = name.format(**ids)
    for method, operation in document["paths"][template(document, path)].items():
        least = next(
            scope
            for scope in (None, Scope.READ, Scope.OPERATE)
            if served.get(path, scope=scope, method=method.upper()).status_code not in (401, 403)
        )
        wanted = [scope for each in operation.get("security", []) for scope in each["token"]]
        assert least == (wanted[0] if wanted else None)


@ON_POSTGRESQL
def test_the_document_names_no_source_and_no_secret(served: Served):
    told = served.client.get("/openapi.json").text
    named = [*SOURCES, "unreachable", SECRET_KEY, *SECRETS.values(), UNREACHABLE["api_key"]]
    assert [each for each in named if each in told] == []
