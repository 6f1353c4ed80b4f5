"""The endpoint over a real socket: every refusal with its reason, and every authentic body kept, readable or not."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from senders import APP_KEY, HEADERS, SECRETS, SIGNED, SOURCES, body, digits, document, seal, sent
from serving import Served, read_answer, request_head, serving

from examples import examples
from receiver.ingest.fast_path import FastPathProtocol

Pairs = list[tuple[bytes, bytes]]

DEEP = b"[" * 10_000 + b"]" * 10_000
MIB = 1_048_576


@pytest.fixture(scope="module")
def served(database_system, lend_database, tmp_path_factory):
    """Serve webhooks that arrive whole on PostgreSQL, and through the application on SQLite.

    What reads a request and what stores it know nothing of each other.
    """
    way = FastPathProtocol if database_system == "postgresql" else "httptools"
    with (
        lend_database(tmp_path_factory.mktemp("endpoint")) as url,
        serving(url, one_write=True, http=way) as running,
    ):
        yield running


def refused(answer, status: int, code: str) -> None:
    """Assert the contract's error: status, code, and a message in JSON."""
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"error", "message"}
    assert answer.json()["message"].endswith(".")


# ── requests that do not verify ───────────────────────────────────────────────────────────────────────────────


def named(source: str, *values: bytes) -> Pairs:
    return [(HEADERS[source].encode(), value) for value in values]


UNVERIFIED: dict[str, tuple[Callable[[str, bytes], Pairs], str]] = {
    "no signature": (lambda source, _: [], "signature_missing"),
    "another secret": (lambda s, c: named(s, b"sha256=" + digits(s, c, "wrong").encode()), "signature_wrong"),
    "over another body": (lambda s, c: named(s, b"sha256=" + digits(s, c + b" ").encode()), "signature_wrong"),
    "truncated": (lambda s, c: named(s, b"sha256=" + digits(s, c).encode()[:-1]), "signature_malformed"),
    "half of it": (lambda s, c: named(s, b"sha256=" + digits(s, c).encode()[:32]), "signature_malformed"),
    "too long": (lambda s, c: named(s, b"sha256=" + digits(s, c).encode() * 2), "signature_malformed"),
    "empty": (lambda s, _: named(s, b""), "signature_malformed"),
    "not ASCII": (lambda s, _: named(s, b"sha256=" + "é".encode() * 32), "signature_malformed"),
    "not UTF-8": (lambda s, _: named(s, b"\xff\xfe" * 32), "signature_malformed"),
    "another prefix": (lambda s, c: named(s, b"sha1=" + digits(s, c).encode()), "signature_malformed"),
    "prefix in capitals": (lambda s, c: named(s, b"SHA256=" + digits(s, c).encode()), "signature_malformed"),
    "doubled prefix": (lambda s, c: named(s, b"sha256=sha256=" + digits(s, c).encode()), "signature_malformed"),
    "doubled header": (lambda s, c: named(s, *[b"sha256=" + digits(s, c).encode()] * 2), "signature_repeated"),
    "a right one and a wrong one": (
        lambda s, c: named(s, b"sha256=" + digits(s, c).encode(), b"sha256=" + b"0" * 64),
        "signature_repeated",
    ),
}


@pytest.mark.parametrize("source", SIGNED)
@pytest.mark.parametrize("name", UNVERIFIED)
def test_a_body_without_a_right_signature_is_refused_and_not_kept(served: Served, source: str, name: str):
    headers, code = UNVERIFIED[name]
    content = body(source, key=name)
    before = served.count()
    refused(served.post(source, content, headers(source, content)), 401, code)
    assert served.count() == before


@pytest.mark.parametrize("source", ["sigma", "iimmpact"])
def test_bare_digits_are_refused_if_the_sender_always_writes_the_prefix(served: Served, source: str):
    content = body(source, key="bare")
    refused(served.post(source, content, named(source, digits(source, content).encode())), 401, "signature_malformed")


@pytest.mark.parametrize("prefix", ["", "sha256="])
def test_indexed_digits_verify_with_and_without_the_prefix(served: Served, prefix: str):
    content = body("indexed", key=f"with {prefix}")
    answer = served.post("indexed", content, {HEADERS["indexed"]: prefix + digits("indexed", content)})
    assert answer.json()["status"] == "accepted"


@pytest.mark.parametrize("source", SIGNED)
def test_an_empty_body_without_a_signature_is_refused(served: Served, source: str):
    refused(served.post(source, b""), 401, "signature_missing")


def another_key() -> bytes:
    return json.dumps(document("sticky") | {"clientAppKey": "another"}).encode()


UNDECRYPTABLE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "not_decryptable"),
    "not encrypted": (lambda: body("sticky"), "not_decryptable"),
    "not base64": (lambda: b"\xff\x00 not base64 \xfe", "not_decryptable"),
    "base64 of nothing": (lambda: b64encode(bytes(48)), "not_decryptable"),
    "another key phrase": (lambda: seal(body("sticky"), SECRETS["sticky"][::-1]), "not_decryptable"),
    "truncated": (lambda: seal(body("sticky"))[:-24], "not_decryptable"),
    "one bit changed": (lambda: b64encode(flipped(b64decode(seal(body("sticky"))))), "not_decryptable"),
    "not an object": (lambda: seal(b"[1, 2]"), "not_decryptable"),
    "nested 10,000 deep": (lambda: seal(DEEP), "not_decryptable"),
    "another application's key": (lambda: seal(another_key()), "app_key_wrong"),
    "no application key": (lambda: seal(b'{"type": "product.updated"}'), "app_key_wrong"),
    "a number as application key": (lambda: seal(b'{"clientAppKey": 1}'), "app_key_wrong"),
}


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 0x80])


@pytest.mark.parametrize("name", UNDECRYPTABLE)
def test_a_body_without_the_right_application_key_inside_is_refused(served: Served, name: str):
    content, code = UNDECRYPTABLE[name]
    refused(served.post("sticky", content()), 401, code)


def test_an_unsigned_body_is_accepted_only_with_allow_unsigned(served: Served, mirror_url):
    refused(served.post("sigma", body("sigma", key="unsigned")), 401, "signature_missing")
    sources = {"open": {"dialect": "sigma", "allow_unsigned": True}}
    with serving(mirror_url, sources=sources) as open_house:
        answer = open_house.post("open", body("sigma", key="unsigned"))
        assert answer.json()["status"] == "accepted"
        assert open_house.delivery(answer.json()["delivery"])["secret"] is None


# ── wrong addresses and methods ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["nobody", "", "/", "SIGMA", "%00", "%FF", "%2e%2e", "sigma%3Fx=1", "x" * 5_000])
def test_an_unknown_source_is_not_found_whatever_its_name(served: Served, name: str):
    refused(served.post(name, *sent("sigma", body("sigma"))), 404, "unknown_source")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_only_post_delivers(served: Served, method: str):
    answer = served.client.request(method, "/hooks/sigma")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert method == "HEAD" or answer.json()["error"] == "method_not_allowed"


# ── authentic bodies ──────────────────────────────────────────────────────────────────────────────────────────


def changed(source: str, old: str, new: str) -> bytes:
    """Replace one text in a right body, in a way that JSON's own writer would not write."""
    text = json.dumps(document(source, id="ID-HERE", data={"name": "NAME-HERE"}))
    assert old in text
    return text.replace(old, new).encode("utf-8", "surrogateescape")


def without_id(source: str) -> bytes:
    content = document(source, id="ID-HERE")
    holder = {"sigma": lambda: content["data"], "indexed": lambda: content["product"], "iimmpact": lambda: content}
    thing = holder.get(source, lambda: content["data"]["object"])()
    name = next(name for name, value in thing.items() if value == "ID-HERE")
    del thing[name]
    return json.dumps(content).encode()


#: By name: the body that the source sends, its state, and a part of the reason.
KEPT: dict[str, tuple[Callable[[str], bytes], str, str]] = {
    "not JSON": (lambda _: b"<event/>", "dead", "not JSON"),
    "empty": (lambda _: b"", "dead", "it is empty"),
    "a form": (lambda s: urlencode({"json": body(s)}).encode(), "dead", "application/x-www-form-urlencoded"),
    "NUL behind the body": (lambda s: body(s) + b"\0", "dead", "not JSON"),
    "invalid UTF-8": (lambda s: changed(s, "NAME-HERE", "\udcff\udcfe"), "dead", "not valid UTF-8"),
    "nested 10,000 deep": (lambda _: DEEP, "dead", "nested too deeply"),
    "a list": (lambda _: b"[1, 2]", "dead", "not what the dialect expects"),
    "a text": (lambda _: b'"text"', "dead", "not what the dialect expects"),
    "null": (lambda _: b"null", "dead", "not what the dialect expects"),
    "an object of nothing": (lambda _: b"{}", "dead", "not what the dialect expects"),
}
READ: dict[str, tuple[Callable[[str], bytes], str, str | None]] = {
    "byte order mark": (lambda s: b"\xef\xbb\xbf" + body(s), "pending", None),
    "no id": (without_id, "dead", "so it does not say what changed"),
    "id null": (lambda s: body(s, id=None), "dead", "so it does not say what changed"),
    "id true": (lambda s: body(s, id=True), "dead", "is not a valid id"),
    "id empty": (lambda s: body(s, id=""), "dead", "is not a valid id"),
    "id of 600 characters": (lambda s: body(s, id="x" * 600), "dead", "is not a valid id"),
    "time without sense": (lambda s: body(s).replace(b"2026-03-04", b"2026-13-40"), "dead", "time"),
    "unknown event type": (lambda s: body(s, event_type="moon.eclipsed"), "ignored", "No handler takes moon.eclipsed"),
    "NUL in the id": (lambda s: changed(s, "ID-HERE", "N\\u0000L"), "pending", None),
    "duplicate keys": (lambda s: changed(s, '"ID-HERE"', '"first", "ID-HERE": 0, "name": "x"'), "pending", None),
    "400-digit number": (lambda s: changed(s, '"NAME-HERE"', "9" * 400), "pending", None),
    "lone surrogate in a name": (lambda s: changed(s, "NAME-HERE", "\\ud800"), "pending", None),
    "exponent of 400 digits": (lambda s: changed(s, '"NAME-HERE"', "1e" + "9" * 400), "dead", "exponent"),
    "nested 10,000 deep": (lambda s: changed(s, '"NAME-HERE"', DEEP.decode()), "dead", "nested too deeply"),
    "400-digit fraction": (lambda s: changed(s, '"NAME-HERE"', "0." + "3" * 400), "pending", None),
}


@pytest.mark.parametrize("source", SIGNED)
@pytest.mark.parametrize("name", KEPT)
def test_a_signed_unreadable_body_is_kept_as_dead(served: Served, source: str, name: str):
    make, state, reason = KEPT[name]
    content = make(source)
    delivery = served.delivery(served.send(source, content))
    assert delivery["state"] == state
    assert reason in delivery["reason"]
    kept = delivery["body"].encode() if delivery["body_encoding"] == "utf-8" else b64decode(delivery["body"])
    assert kept == content


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", READ)
def test_an_authentic_body_is_kept_in_the_right_state(served: Served, source: str, name: str):
    make, state, reason = READ[name]
    delivery = served.delivery(served.send(source, make(source)))
    assert delivery["state"] == state, delivery["reason"]
    assert (reason is None and delivery["reason"] is None) or reason in delivery["reason"]
    kept = delivery["plain"] if source == "sticky" else delivery["body"]
    assert kept.encode() == make(source).replace(APP_KEY.encode(), b"(not stored)")


@pytest.mark.parametrize("source", SIGNED)
@pytest.mark.parametrize("value", ['"\\ud800"', "1e" + "9" * 400], ids=["lone surrogate", "exponent of 400 digits"])
def test_json_with_values_that_no_type_holds_is_kept(served: Served, source: str, value: str):
    content = changed(source, '"NAME-HERE"', value)
    delivery = served.delivery(served.send(source, content))
    assert delivery["state"] in ("pending", "dead")
    assert delivery["body"].encode() == content


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_a_body_in_utf_16_or_utf_32_is_read_without_a_header_about_it(served: Served, source: str, encoding: str):
    content = json.dumps(document(source, id=7, key=encoding)).encode(encoding)
    delivery = served.delivery(served.send(source, content))
    assert (delivery["state"], delivery["reason"]) == ("pending", None)
    assert delivery["entity"].endswith(":7")
    if source == "sticky":
        assert APP_KEY not in delivery["plain"]
    else:
        kept = delivery["body"].encode() if delivery["body_encoding"] == "utf-8" else b64decode(delivery["body"])
        assert kept == content


@pytest.mark.parametrize("source", SOURCES)
def test_the_last_of_duplicate_keys_counts(served: Served, source: str):
    twice = changed(source, '"ID-HERE"', f'"first", {id_member(source)}: "last"')
    assert served.delivery(served.send(source, twice))["entity"].endswith(":last")


def id_member(source: str) -> str:
    return {"sigma": '"entityId"', "indexed": '"externalId"'}.get(source, '"id"')


@pytest.mark.parametrize(
    ("source", "state", "reason"),
    [
        ("sigma", "dead", "does not say what changed"),
        ("indexed", "dead", "does not say what changed"),
        ("iimmpact", "pending", None),
        ("sticky", "dead", "does not say what changed"),
    ],
)
def test_data_null_is_read_if_the_id_is_elsewhere_and_dead_if_it_was_inside(
    served: Served, source: str, state: str, reason: str | None
):
    delivery = served.delivery(served.send(source, body(source, data=None, key="null")))
    assert delivery["state"] == state
    assert delivery["reason"] is None if reason is None else reason in delivery["reason"]


def test_no_kept_body_stops_the_worker(mirror_url):
    with serving(mirror_url, with_worker=True) as working:
        ids = {
            (source, name): working.send(source, make(source))
            for source in SOURCES
            for name, (make, _, _) in READ.items()
        }
        ends = {case: working.ended(delivery_id)["state"] for case, delivery_id in ids.items()}
        assert {case for case, state in ends.items() if state == "dead"} == {
            (source, name) for source, name in ids if READ[name][1] == "dead"
        }
        row = working.get("/api/v1/catalog/products/iimmpact/N\N{REPLACEMENT CHARACTER}L").json()["row"]
        assert row["active"]


# ── arbitrary bytes ───────────────────────────────────────────────────────────────────────────────────────────

HEADER_BYTES = st.binary(max_size=80).map(lambda some: some.replace(b"\r", b"").replace(b"\n", b""))


@given(
    source=st.sampled_from(sorted(SOURCES)),
    content=st.binary(max_size=200),
    lines=st.lists(st.tuples(st.sampled_from([*HEADERS.values(), "X-Any"]), HEADER_BYTES), max_size=3),
)
@examples(15)
def test_no_bytes_in_body_or_headers_cause_a_500(served: Served, source, content, lines):
    written = [name.encode() + b": " + value for name, value in lines]
    with served.connect() as connection:
        length = b"Content-Length: %d" % len(content)
        connection.sendall(request_head(source, *written, length, b"Connection: close") + content)
        status, _ = read_answer(connection)
    assert 400 <= status < 500


@given(source=st.sampled_from(SIGNED), content=st.binary(max_size=200))
@examples(10)
def test_any_bytes_with_a_right_signature_are_kept_unchanged(served: Served, source, content):
    delivery = served.delivery(served.send(source, content))
    kept = delivery["body"].encode() if delivery["body_encoding"] == "utf-8" else b64decode(delivery["body"])
    assert kept == content


@given(
    source=st.sampled_from(sorted(SOURCES)),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    member=st.sampled_from(["event", "type", "timestamp", "time", "data", "id", "deliveryId", "product", "revision"]),
)
@examples(15)
def test_any_json_in_any_member_of_an_authentic_body_is_kept(served: Served, source, value, member):
    content = json.dumps(document(source) | {member: value}).encode()
    assert served.delivery(served.send(source, content))["state"] in ("pending", "ignored", "dead")
