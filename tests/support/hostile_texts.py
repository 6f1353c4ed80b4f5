"""Hostile texts that a sender may write in every field that it controls."""

from __future__ import annotations

import json
from typing import Any

#: An element that no page may contain, and an address that no page may request.
ELEMENT, LURE = "x-hostile", "/x-hostile"

MARKUP = f'"\'><{ELEMENT}></{ELEMENT}><script>document.title="{ELEMENT}"</script><img src="{LURE}" onerror=alert(1)>'
HTMX = f'<button hx-get="{LURE}" hx-trigger="load" hx-on:load="alert(1)">x</button>'
TEMPLATE = "{{ 7 * 7 }}{% raw %}{{ visit.guest.token }}${7*7}"
LINK = "javascript:alert(1)//?#&=%2F../..\\"
CONTROLS = "a\x00b\x07\x1b[2J\r\nSet-Cookie: a=b\x7f\x85\u2028\u2029"
DIRECTIONS = "\u202egpj.exe\u2066 \u200f\u05d0\u05d1\u05d2 \u202d\u2067"
LETTERS = "a\u0300" * 200 + "\ufdfd" * 20 + "👩‍👩‍👧‍👦" * 20
ONE_WORD = "W" * 400

HOSTILE_TEXTS = {
    "markup": MARKUP,
    "htmx": HTMX,
    "template": TEMPLATE,
    "link": LINK,
    "controls": CONTROLS,
    "directions": DIRECTIONS,
    "letters": LETTERS,
    "one word": ONE_WORD,
}

#: Bytes of the longest line, about the largest body that is allowed.
LONGEST_LINE = 1_000_000

#: Bodies that no dialect can read.
HOSTILE_BODIES = {
    "binary": bytes(range(256)) * 64,
    "one line": b'{"type": "product.updated", "x": "' + MARKUP.encode().replace(b'"', b'\\"') + b"<" * LONGEST_LINE,
    "lone surrogate": b'{"type": "product.updated", "id": "\\ud800", "data": {"name": "\\udfff"}}',
    "deep": b"[" * 5_000,
    "deep and closed": b"[" * 900 + b"]" * 900,
    "empty": b"",
}


def hostile_event(text: str, *, verb: str = "updated") -> dict[str, Any]:
    """Make an event with this text in every place that its sender controls."""
    data = {
        "display_name": text,
        "product_code": text[:60],
        "product_category_code": text,
        text: {text: [text, text]},
        "price": text,
    }
    at = "2026-03-04T12:00:00Z"
    return {"type": f"product.{verb}", "resource": text, "id": text[:200], "timestamp": at, "data": data, text: text}


def as_body(content: Any) -> bytes:
    return json.dumps(content).encode()
