"""The apparent format of a body that is not JSON, and the advice to its sender."""

from __future__ import annotations

import gzip
import zlib
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.codec import decode
from receiver.errors import Unreadable
from receiver.sniffing import sniff

EVENT = '{"type": "product.updated", "id": "é灯"}'

LOOKS = {
    b"": "is empty",
    b" \r\n\t ": "is empty",
    urlencode({"json": EVENT}).encode(): "a form (application/x-www-form-urlencoded)",
    b"data=" + EVENT.encode(): "a form (application/x-www-form-urlencoded)",
    b"type=product.updated&id=A1": "a form (application/x-www-form-urlencoded)",
    b"event%5Btype%5D=x": "a form (application/x-www-form-urlencoded)",
    b"event[type]=x": "a form (application/x-www-form-urlencoded)",
    b'--x\r\nContent-Disposition: form-data; name="json"\r\n\r\n{}': "a form (multipart/form-data)",
    b"<?xml version='1.0'?><event/>": "XML or HTML",
    b"\n <!DOCTYPE html>": "XML or HTML",
    gzip.compress(EVENT.encode(), mtime=0): "compressed with gzip",
    zlib.compress(EVENT.encode()): "compressed with deflate",
    b"\x28\xb5\x2f\xfd\x04": "compressed with zstd",
    b"\x82\xa4type\xaf": "binary data",
    b"\xde\x00\x01": "binary data",
    b"\x08\x96\x01\x12": "binary data",
    b"Product A1 was updated.": "plain text",
    b"aGVsbG8gd29ybGQ=": "plain text",
    b"eyJhbGciOiJSUzI1NiJ9.eyJkYXRhIjoie30ifQ.c2ln": "a signed token (JWT)",
    b"eyJhbGciOiJSUzI1NiJ9..c2ln": "a signed token (JWT)",
    b"this is it": "plain text",
    "Größe".encode(): "plain text",
    b"\xff\xfe{": "UTF-16 or UTF-32 that is damaged",
}


@pytest.mark.parametrize("content", LOOKS)
def test_a_body_that_is_not_json_is_described_by_its_form(content: bytes):
    with pytest.raises(Unreadable) as caught:
        decode(content)
    assert str(caught.value).startswith("The body is not JSON: it ")
    assert LOOKS[content] in str(caught.value)


@pytest.mark.parametrize("content", LOOKS)
def test_the_description_tells_the_sender_what_to_do(content: bytes):
    advice = sniff(content)
    assert advice is not None
    assert advice.endswith(("application/json.", "decompress it.", "UTF-8.", "as the body."))


MISTAKEN = [b'{"a": 1', b"[1] 2", b"{'a': 1}", b"nul", b"12x", b'"open', b"{}\0", b"true false"]


@pytest.mark.parametrize("content", MISTAKEN)
def test_a_mistake_in_json_is_located(content: bytes):
    with pytest.raises(Unreadable, match=r"not JSON: .*(byte|truncated|trailing)"):
        decode(content)


@given(st.binary(max_size=60))
def test_any_bytes_have_a_description(content: bytes):
    looks = sniff(content)
    assert looks is None or looks.isprintable()
