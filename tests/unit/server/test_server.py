"""Where the server listens, and what it says if it cannot."""

from __future__ import annotations

import errno
import socket

import pytest

from receiver.errors import ConfigurationError
from receiver.server.server import listen


def test_a_port_that_only_root_may_have_is_told_with_those_that_are_free_to_all(monkeypatch):
    # Stands for the kernel's refusal, which depends on who runs the tests, and where.
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ConfigurationError, match=r"port 80 \(Permission denied\): choose another --port, from 1024 on"):
        listen("127.0.0.1", 80)
