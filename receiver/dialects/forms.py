"""Forms: reads and writes bodies in the form of browsers, `name=value&name=value`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote_plus, urlencode

from receiver import codec
from receiver.errors import Unreadable
from receiver.logs.safe_text import quoted

#: The most fields of one form.
MOST_FORM_FIELDS = 1_000


def read_form(plain: bytes, form: bool | str) -> Any:
    """Parse a form: the JSON in the field that `form` names, or all fields. A JSON body is parsed as JSON.

    A repeated field becomes a list. Raises `Unreadable`.
    """
    if plain[:64].lstrip()[:1] in (b"{", b"["):
        return codec.decode(plain)
    fields = fields_of(plain)
    if form is True:
        return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}
    values = fields.get(str(form), [])
    if len(values) != 1:
        named = quoted(list(fields)[:10])
        raise Unreadable(f"The form has {len(values)} fields {form!r} instead of one. Its fields are {named}.")
    return codec.decode(values[0])


def write_form(document: Any, form: bool | str) -> bytes:
    """Write a body that `read_form` parses into this document."""
    if form is True:
        return urlencode({name: _text(value) for name, value in document.items()}).encode()
    return f"{form}={quote_plus(codec.encode(document))}".encode()


def fields_of(text: bytes) -> dict[str, list[str]]:
    """The values of each field, in order. Raises `Unreadable` for too many fields, and for text that is not UTF-8."""
    if text.count(b"&") >= MOST_FORM_FIELDS:
        raise Unreadable(f"The form has more than {MOST_FORM_FIELDS} fields. Let the sender send fewer.")
    fields: dict[str, list[str]] = {}
    for field in filter(None, text.split(b"&")):
        name, _, value = field.partition(b"=")
        fields.setdefault(_decoded(name), []).append(_decoded(value))
    return fields


def _decoded(written: bytes) -> str:
    spaced = written.replace(b"+", b" ")
    # Runs of escapes are decoded at once: the standard library decodes them one by one, and takes ten times as long.
    plain = _ENCODED.sub(lambda run: bytes.fromhex(run[0].replace(b"%", b"").decode()), spaced)
    try:
        return plain.decode()
    except UnicodeDecodeError:
        raise Unreadable("The form is not in UTF-8. Let the sender encode it in UTF-8.") from None


_ENCODED = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else codec.encode(value).decode().strip('"')
