"""Sockets to listen on, opened by this process or inherited from its parent."""

from __future__ import annotations

import errno
import os
import socket

import structlog

from receiver.errors import ConfigurationError
from receiver.http_urls import host_in_url
from receiver.logs.escapes import visible

#: The families of sockets whose name is a host and a port.
INTERNET = (socket.AF_INET, socket.AF_INET6)


def listen(host: str, port: int, *, option: str = "--port") -> socket.socket:
    """Open a socket on this address. Raises `ConfigurationError` with the reason if that fails.

    `option` is the option for another port; the one for the host has a similar name.
    """
    if not host.strip():
        # The system would listen on all addresses.
        raise ConfigurationError(
            f"{option.replace('port', 'host')} is empty: name an address of this machine, 127.0.0.1 for this machine "
            "only, or 0.0.0.0 for all its addresses."
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, UnicodeError) as error:
        listening.close()
        reason = error.strerror if isinstance(error, OSError) else "not the name of a machine"
        raise ConfigurationError(
            f"Nothing can listen on {host} port {port} ({reason}): {_mend(error, option)}."
        ) from None
    return listening


def _mend(error: Exception, option: str) -> str:
    """Advise what to do about an address on which the server cannot listen."""
    if isinstance(error, PermissionError):
        return f"choose another {option}, from 1024 on, or let systemd open the socket, as docs/deployment.md says"
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"stop the program that listens there, or choose another {option}"
    return f"{option.replace('port', 'host')} takes an address of this machine, or 0.0.0.0 for all its addresses"


def inherit(number: int) -> socket.socket:
    """The socket that this process inherited from its parent.

    Raises `ConfigurationError` if it is not a socket, or one at which no connection can arrive.
    """
    try:
        inherited = socket.socket(fileno=number)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", "too large")
        raise ConfigurationError(
            f"File descriptor {number} is not a socket of this process ({reason}): --fd takes the number of "
            "one that its starter left open, such as 3 for a socket of systemd."
        ) from None
    flaw = _flaw(inherited)
    if flaw is not None:
        inherited.close()
        raise ConfigurationError(f"File descriptor {number} is {flaw}.")
    # A program that code of a dialect starts would keep the port, and its connections, after the end of the server.
    inherited.set_inheritable(False)
    return inherited


def _flaw(inherited: socket.socket) -> str | None:
    """Explain why no connection can arrive at the socket, with advice; None if one can."""
    if inherited.type is not socket.SOCK_STREAM:
        kind = getattr(inherited.type, "name", inherited.type)
        return f"a socket for packets ({kind}): --fd takes a stream socket, such as ListenStream= of systemd"
    if _is_connected(inherited):
        return "a connection, and not a socket to listen on: a systemd socket needs Accept=no"
    name = inherited.getsockname()
    if not (name[1] if inherited.family in INTERNET else name):
        return "a socket without an address: its starter must bind it first"
    return None


def _is_connected(inherited: socket.socket) -> bool:
    try:
        inherited.getpeername()
    except OSError:
        return False
    return True


def url_here(listening: socket.socket) -> str | None:
    """The URL by which a browser on this machine reaches the socket; None for one without a port."""
    if listening.family not in INTERNET:
        return None
    address, port = listening.getsockname()[:2]
    every = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (names, of which none is listened on here)
    return f"http://{host_in_url(every.get(address, address))}:{port}"


def say_where(listening: socket.socket, path: str) -> None:
    """Log the address of the socket, with the path that is served there."""
    log, name = structlog.get_logger(__name__), listening.getsockname()
    if listening.family in INTERNET:
        log.info("listening", url=f"http://{host_in_url(name[0])}:{name[1]}{path}")
    else:
        # Linux writes the names of sockets that are not in the file system with @ in place of the leading zero.
        shown = os.fsdecode(name) if isinstance(name, (bytes, str)) else str(name)
        log.info("listening", socket=visible(shown.replace("\0", "@", 1)), path=path)
