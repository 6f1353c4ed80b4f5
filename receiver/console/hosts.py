"""Hosts: the names under which a browser may ask for the console."""

from __future__ import annotations

from collections.abc import Mapping, Set

from receiver.errors import BadRequest


def host_name(host: str) -> str:
    """The name in a header `Host`, without its port, in lower case."""
    name = host.strip().lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]


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
