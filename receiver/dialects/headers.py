"""Request headers that are kept with a delivery: those of every webhook, and those that its dialect names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from receiver.errors import WiringError
from receiver.logs.safe_text import quoted

#: Headers kept for every dialect, which show how a webhook was sent.
USUAL_HEADERS = ("content-type", "content-encoding", "user-agent", "x-request-id")

#: Headers that carry secrets and must not be kept, because kept headers are shown to people.
NEVER_KEPT = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})

#: A header's name (RFC 9110, section 5.6.2).
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def is_header_name(text: str) -> bool:
    """Whether a header can have this name."""
    return _NAME.fullmatch(text) is not None


def kept_headers(names: Iterable[str], dialect: str, secret: Collection[str] = ()) -> dict[bytes, str]:
    """The usual headers and these, in lower case, by their bytes on the wire.

    Raises `WiringError`, also for one of those that are `secret` with this dialect.
    """
    if isinstance(names, str):
        raise WiringError(f"keep_headers of the dialect {dialect} is text: write a list of names, [{names!r}].")
    kept = [*USUAL_HEADERS]
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise WiringError(
                f"keep_headers of the dialect {dialect} holds {quoted(name)}, which is not a header's name: "
                'write such as "X-Shop-Event".'
            )
        if name.lower() in NEVER_KEPT or name.lower() in secret:
            raise WiringError(
                f"keep_headers of the dialect {dialect} holds {name}, which carries a secret, and what is kept is "
                "shown to people: remove it."
            )
        kept.append(name.lower())
    return {name.encode(): name for name in kept}
