"""URLs that people give: finds mistakes in a URL before any connection is made, and hides its password."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import quote, urlsplit

import idna

#: The longest URL, in characters. Servers refuse a longer one.
LONGEST_URL = 2_000

#: The longest host name, in bytes of its ASCII form (RFC 1035).
LONGEST_HOST = 253

_HOST_NAME = re.compile(r"[\w.-]+")

_FOUR_NUMBERS = re.compile(r"[0-9]+(\.[0-9]+){3}")


def url_flaw(url: str) -> str | None:
    """The mistake in an http or https URL, worded to follow the name of its option: "is empty"; None for a valid URL.

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


def flaw_for_calls(url: str) -> str | None:
    """As `url_flaw`, for a URL that our own HTTP client calls, which refuses some names that others can call."""
    flaw = url_flaw(url)
    if flaw is not None:
        return flaw
    host = urlsplit(url).hostname or ""
    try:
        if host.startswith("xn--"):
            idna.decode(host)
        elif not host.isascii():
            idna.encode(host)
        elif _FOUR_NUMBERS.fullmatch(host):
            IPv4Address(host)
    except ValueError:
        return "names a host that cannot exist"
    return None


def shown_url(url: str) -> str:
    """The URL without user and password, which a proxy may require."""
    head, at, host = url.partition("://")[2].partition("/")[0].rpartition("@")
    return url.replace(f"{head}{at}", "", 1) if host and at else url


def host_in_url(host: str) -> str:
    """The host as written in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def quoted_part(part: str) -> str:
    """A part of the path of a URL, percent-encoded. Clients resolve the parts `.` and `..` unless encoded."""
    return part.replace(".", "%2E") if part in (".", "..") else quote(part, safe="")


def comparable_host(host: str) -> str:
    """The one form of a host: an address shortened and without brackets, a name in ASCII and without a dot at its end.

    Letters are small. Raises `ValueError` for text that is not the host of a URL.
    """
    if host.startswith("[") and host.endswith("]"):
        return IPv6Address(host[1:-1]).compressed
    if ":" in host:
        return IPv6Address(host).compressed
    name = host.removesuffix(".").lower()
    if not _can_exist(name):
        raise ValueError("not a host")
    return name if name.isascii() else idna.encode(name, uts46=True).decode()


def without_port(host: str) -> str:
    """The host in `host:port`, in which an IPv6 address has brackets. A bare IPv6 address has no port."""
    head, colon, port = host.rpartition(":")
    has_port = colon and port.isascii() and port.isdigit() and (":" not in head or head.endswith("]"))
    return head if has_port else host


def _can_exist(host: str) -> bool:
    """Whether this is an address, or a name that a name server could resolve."""
    try:
        if ":" in host:
            ip_address(host)
            return True
        return bool(_HOST_NAME.fullmatch(host)) and len(host.encode("idna")) <= LONGEST_HOST
    except ValueError:
        return False
