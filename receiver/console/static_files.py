"""Static files: style sheet and scripts of the package, each at an address that names its content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from starlette.responses import Response

#: Media types of the files that are served, by the end of their names.
MEDIA_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}

#: Characters of a hash in an address.
HASH_LENGTH = 12

HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@cache
def static_files() -> Mapping[str, Response]:
    """The answer for each file, by its name with the hash in it."""
    found = {}
    for file in files("receiver.console").joinpath("static").iterdir():
        stem, _, end = file.name.rpartition(".")
        if end in MEDIA_TYPES:
            content = file.read_bytes()
            name = f"{stem}.{hashlib.sha256(content).hexdigest()[:HASH_LENGTH]}.{end}"
            found[name] = Response(content, headers=HEADERS, media_type=MEDIA_TYPES[end])
    return found


@cache
def name_of(file: str) -> str:
    """The name with the hash in it, of a file such as `console.css`."""
    stem, _, end = file.rpartition(".")
    return next(name for name in static_files() if name.startswith(f"{stem}.") and name.endswith(f".{end}"))
