"""Hosts: the names under which a browser may ask for the console."""

from __future__ import annotations

from collections.abc import Mapping, Set

from receiver.errors import BadRequest
from receiver.http_urls import comparable_host, without_port


def host_name(host: str) -> str:
    """The name in a header `Host`, in the form in which hosts are compared, or as it is if it names no host.

    Browsers write it in ASCII.
    """
    name = without_port(host.strip().lower())
    if not name.isascii():
        return name
    try:
        return comparable_host(name)
    except ValueError:
        return name


def port_of(headers: Mapping[str, str]) -> str:
    """The port in the header `Host`; empty for the usual one, which browsers leave out."""
    _, colon, port = headers.get("host", "").rpartition(":")
    return port if colon and port.isascii() and port.isdigit() else ""


def refuse_other_hosts(host: str, known: Set[str]) -> None:
    """Raise `BadRequest` for an unknown host name, which another site may have pointed at this server."""
    if host_name(host) not in known:
        raise BadRequest(
            f"The console is not served under the name {host_name(host)[:64]!r}: use the address in `console_url`, or "
            "add the name to `console_hosts`."
        )
