"""The URL by which a browser on this machine reaches a socket."""

from __future__ import annotations

import socket

import pytest

from receiver.server.sockets import url_here


@pytest.mark.parametrize(
    ("family", "host", "shown"),
    [
        (socket.AF_INET, "127.0.0.1", "http://127.0.0.1:{port}"),
        (socket.AF_INET, "0.0.0.0", "http://127.0.0.1:{port}"),
        (socket.AF_INET6, "::1", "http://[::1]:{port}"),
    ],
)
def test_a_socket_for_all_addresses_is_reached_by_that_of_this_machine(family, host, shown):
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        try:
            listening.bind((host, 0))
        except OSError:
            pytest.skip("this machine has no such address")
        assert url_here(listening) == shown.format(port=listening.getsockname()[1])


def test_a_socket_without_a_port_has_no_url():
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert url_here(one) is None
