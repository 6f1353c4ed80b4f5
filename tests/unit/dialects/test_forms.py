"""Forms: bodies in the format of browser forms."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver import Dialect, Envelope, HmacSha256
from receiver.dialects.forms import MOST_FORM_FIELDS, fields_of, read_form, write_form
from receiver.errors import Unreadable

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def dialect(form):
    made = Dialect("shop", verify=HmacSha256(header="X-Signature"), form=form)

    @made.envelope
    def read(body: dict) -> Envelope:
        return Envelope(event_type=body["type"], entity=None, occurred_at=NOON, data=body)

    return made


def test_the_json_in_a_field_of_a_form_is_read():
    body = b"payload=" + quote_plus('{"type": "a&b=c", "name": "Lämpchen + 1 %"}').encode()
    assert dialect("payload").read(body).data == {"type": "a&b=c", "name": "Lämpchen + 1 %"}


def test_a_dialect_of_forms_reads_json_too():
    assert dialect("payload").read(b' {"type": "a"}').event_type == "a"


def test_all_fields_of_a_form_are_read_and_repeated_ones_are_lists():
    assert dialect(True).read(b"type=sms&to=1&to=2&empty=").data == {"type": "sms", "to": ["1", "2"], "empty": ""}


def test_a_form_is_not_json_for_a_dialect_without_forms():
    with pytest.raises(Unreadable, match="a form"):
        dialect(False).read(b"payload=%7B%7D")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"other=%7B%7D", r"0 fields 'payload' instead of one. Its fields are \['other'\]"),
        (b"payload=%7B%7D&payload=%7B%7D", "2 fields 'payload'"),
        (b"payload=%ff%fe", "not in UTF-8"),
        (b"payload=%7B", "JSON"),
        (b"payload=", "JSON"),
        (b"", "0 fields"),
        (b"&".join([b"a=1"] * (MOST_FORM_FIELDS + 1)), "more than 1000 fields"),
    ],
)
def test_the_mistake_in_a_form_is_named(body, told):
    with pytest.raises(Unreadable, match=told):
        dialect("payload").read(body)


def test_a_form_of_a_megabyte_is_read():
    text = json.dumps({"type": "big", "text": '{"x": "ü"} ' * 20_000})
    body = b"payload=" + quote_plus(text).encode()
    assert len(body) > 1 << 19
    assert dialect("payload").read(body).data["text"].startswith('{"x"')


def test_the_test_kit_writes_bodies_in_the_form_of_the_sender():
    made = dialect("payload")
    body = made.write("product.updated", "A1", at=NOON, data={"name": "Lamp & more"})
    assert body.startswith(b"payload=%7B")
    assert made.read(body).data["data"] == {"name": "Lamp & more"}


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=5))
def test_any_form_is_read_as_it_was_written(fields):
    written = urlencode(fields).encode()
    assert {name: values[0] for name, values in fields_of(written).items()} == fields


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")), max_size=5))
def test_any_document_in_a_form_is_read_as_it_was_written(document):
    assert read_form(write_form(document, "body"), "body") == document


@given(st.binary(max_size=200))
def test_any_bytes_are_a_form_or_unreadable(body):
    with suppress(Unreadable):
        read_form(body, "payload")
