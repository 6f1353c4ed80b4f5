"""The address that the server listens on, and the error if it cannot."""

from __future__ import annotations

import errno
import socket

import pytest

from receiver.errors import ConfigurationError
from receiver.server.server import listen


def test_a_port_for_root_only_is_refused_with_the_free_range(monkeypatch):
    # Simulate the kernel's refusal, which depends on the user and the machine of the tests.
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ConfigurationError, match=r"port 80 \(Permission denied\): choose another --port, from 1024 on"):
        listen("127.0.0.1", 80)
