"""The address that the server listens on, and the error if it cannot."""

from __future__ import annotations

import errno
import socket

import pytest

from receiver.errors import ConfigurationError
from receiver.server.sockets import listen


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
