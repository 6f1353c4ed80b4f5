"""Sniffing: recognises the format of bytes that should be JSON, and advises their sender."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Callable

#: Bytes from the beginning that are examined.
SAMPLE_BYTES = 1_000

#: `name=value`, with the value percent-encoded or not; base64 text ends with its equals signs.
_FORM = re.compile(rb"[\w.~*+%\[\]-]{1,200}=[^=]")

#: The beginning of a signed token in its compact form, whose first part is the base64url of a JSON object.
_TOKEN = re.compile(rb"eyJ[\w-]{4,}\.[\w-]*(?:\.|$)")

#: The possible first bytes of a JSON document.
_JSON_BEGINS = tuple(b'{["-0123456789tfn')

AS_JSON = "Let the sender send JSON, as application/json."
UNPACKED = "Let the sender send it uncompressed, or let the dialect decompress it."


def sniff(content: bytes) -> str | None:
    """The apparent format of the content, with advice, as the end of a sentence; None for JSON with a mistake."""
    start = content[:SAMPLE_BYTES].strip()
    if not start:
        return f"it is empty. {AS_JSON}" if not content.strip() else None
    return next((f"it looks like {what}" for looks_so, what in _KINDS if looks_so(start)), None)


def is_gzip(content: bytes) -> bool:
    return content.startswith(b"\x1f\x8b")


def is_zlib(content: bytes) -> bool:
    """Whether the content is in the format that HTTP calls deflate, whose first byte, an x, never begins JSON."""
    return content[:1] == b"x" and len(content) > 1 and (content[0] << 8 | content[1]) % 31 == 0


def _is_multipart(start: bytes) -> bool:
    return start.startswith(b"--") and b"content-disposition:" in start.lower()


def _is_text(start: bytes) -> bool:
    """Whether the content is plain text. Misspelt `true`, `false` and `null` count as JSON with a mistake."""
    try:
        # An incremental decoder, because the last character may be cut.
        text = getincrementaldecoder("utf-8")().decode(start)
    except UnicodeError:
        return False
    begins_as_json = any(word.startswith(text) or text.startswith(word) for word in ("true", "false", "null"))
    return text[:1].isalpha() and not begins_as_json and "".join(text.split()).isprintable()


def _is_wide(start: bytes) -> bool:
    return start[:2] in (b"\xff\xfe", b"\xfe\xff") or start[:4] == b"\0\0\xfe\xff"


def _is_binary(start: bytes) -> bool:
    return start[0] not in _JSON_BEGINS and any(each < 9 or 13 < each < 32 or each > 126 for each in start[:4])


_KINDS: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (is_gzip, f"something compressed with gzip. {UNPACKED}"),
    (is_zlib, f"something compressed with deflate. {UNPACKED}"),
    (lambda start: start.startswith(b"\x28\xb5\x2f\xfd"), f"something compressed with zstd. {UNPACKED}"),
    (lambda start: start.startswith(b"<"), f"XML or HTML. {AS_JSON}"),
    (
        lambda start: _TOKEN.match(start) is not None,
        "a signed token (JWT). Write a verifier that checks it and returns its claims as the body.",
    ),
    (
        lambda start: _FORM.match(start) is not None,
        "a form (application/x-www-form-urlencoded). Set the sender's content type to application/json.",
    ),
    (_is_multipart, "a form (multipart/form-data). Set the sender's content type to application/json."),
    (_is_wide, "UTF-16 or UTF-32 that is damaged. Let the sender send UTF-8."),
    (_is_text, f"plain text. {AS_JSON}"),
    (_is_binary, f"binary data, such as MessagePack or an encrypted body. {AS_JSON}"),
)
