"""URLs that a person gives: says what is wrong with one before anything connects to it."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

#: The longest URL, in characters. Servers refuse a longer one.
LONGEST_URL = 2_000

#: The longest host name, in bytes of its ASCII form (RFC 1035).
LONGEST_HOST = 253

_HOST_NAME = re.compile(r"[\w.-]+")


def url_flaw(url: str) -> str | None:
    """What is wrong with an http or https URL, to follow the name of its option: "is empty". None for a good one.

    The words do not quote the URL, which may hold a password.
    """
    if not url.strip():
        return "is empty"
    if len(url) > LONGEST_URL:
        return f"is longer than {LONGEST_URL:,} characters"
    if not url.isprintable() or " " in url:
        return "contains a blank or a control character"
    if not re.match("https?://", url, re.IGNORECASE):
        return "does not begin with http:// or https://"
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "names a host that cannot exist"
    if not host:
        return "names no host"
    if not _can_exist(host):
        return "names a host that cannot exist"
    try:
        return None if parts.port != 0 else "has the port 0"
    except ValueError:
        return "has a port that is not a number from 1 to 65535"


def _can_exist(host: str) -> bool:
    """Whether a name server could be asked for this name, or it is an address."""
    try:
        if ":" in host:
            ip_address(host)
            return True
        return bool(_HOST_NAME.fullmatch(host)) and len(host.encode("idna")) <= LONGEST_HOST
    except ValueError:
        return False
