"""The address that the server listens on, and the error if it cannot."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from receiver.errors import ConfigurationError
from receiver.server.sockets import inherit, listen, say_where


def test_a_port_for_root_only_is_refused_with_the_free_range(monkeypatch):
    # Simulate the kernel's refusal, which depends on the user and the machine of the tests.
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ConfigurationError, match=r"port 80 \(Permission denied\): choose another --port, from 1024 on"):
        listen("127.0.0.1", 80)


@pytest.mark.parametrize("host", ["", " "])
def test_an_empty_host_is_refused_because_the_system_takes_it_for_all_addresses(host):
    with pytest.raises(ConfigurationError, match=r"^--host is empty: name an address of this machine, .*0\.0\.0\.0"):
        listen(host, 0)


# ── inherited sockets ─────────────────────────────────────────────────────────────────────────────────────────────


def inherited(of: socket.socket) -> socket.socket:
    """Inherit a copy of this socket."""
    return inherit(os.dup(of.fileno()))


@pytest.fixture
def bound() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_a_program_that_code_of_a_dialect_starts_does_not_get_the_socket(bound):
    number = os.dup(bound.fileno())
    os.set_inheritable(number, True)
    ask = f"import os\ntry: os.fstat({number})\nexcept OSError: print('closed')"
    with inherit(number):
        done = subprocess.run([sys.executable, "-c", ask], close_fds=False, capture_output=True, text=True, check=True)
    assert done.stdout == "closed\n"


def refused(of: socket.socket, advice: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"File descriptor \d+ is {advice}"):
        inherited(of)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_a_socket_for_packets_is_refused(family):
    with socket.socket(family, socket.SOCK_DGRAM) as packets:
        refused(packets, r"a socket for packets \(SOCK_DGRAM\): --fd takes a stream socket")


def test_a_connection_is_refused_with_the_setting_of_systemd(bound):
    with socket.create_connection(bound.getsockname()) as near, bound.accept()[0] as far:
        for end in (near, far):
            refused(end, "a connection, and not a socket to listen on: a systemd socket needs Accept=no")


def test_an_end_of_a_pair_of_sockets_is_refused_as_a_connection():
    one, other = socket.socketpair()
    with one, other:
        refused(one, "a connection")


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_a_socket_without_an_address_is_refused(family):
    with socket.socket(family, socket.SOCK_STREAM) as unbound:
        refused(unbound, "a socket without an address: its starter must bind it first")


def test_a_socket_that_its_starter_bound_is_inherited_whether_it_listens_or_not(bound):
    with inherited(bound) as listening:
        assert listening.getsockname() == bound.getsockname()
    with socket.socket() as waiting:
        waiting.bind(("127.0.0.1", 0))
        with inherited(waiting) as listening:
            assert listening.getsockname() == waiting.getsockname()


# ── the line in the log ───────────────────────────────────────────────────────────────────────────────────────────


def said_about(family: int, name: object) -> dict[str, object]:
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        try:
            listening.bind(name)
        except OSError:
            pytest.skip("this machine has no such address")
        with inherited(listening) as ours, capture_logs() as logs:
            say_where(ours, "/hooks/<source>")
    (line,) = logs
    return line


def test_an_ipv6_address_stands_in_brackets():
    url = str(said_about(socket.AF_INET6, ("::1", 0))["url"])
    assert url.startswith("http://[::1]:")
    assert url.endswith("/hooks/<source>")


@pytest.mark.parametrize(
    ("name", "shown"), [("with\nend", "with\\nend"), (b"\0of-hookmirror-tests", "@of-hookmirror-tests")]
)
def test_a_socket_without_a_port_is_named_by_its_path(tmp_path, monkeypatch, name, shown):
    monkeypatch.chdir(tmp_path)
    line = said_about(socket.AF_UNIX, name)
    assert (line["socket"], line["path"], "url" in line) == (shown, "/hooks/<source>", False)
