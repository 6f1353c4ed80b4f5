"""The health check of the image, asked about the commands that run there."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from forked import Forked
from ports import free_port
from waiting import TIMEOUT, wait_until

TEXT = (Path(__file__).parents[2] / "Dockerfile").read_text("utf-8")


def listens(port: str) -> bool:
    with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", int(port)), timeout=TIMEOUT):
        return True
    return False


@pytest.mark.parametrize("command", [["worker"], ["serve", "--host", "0.0.0.0", "--no-worker"]])
def test_the_health_check_finds_endpoint_and_worker_healthy(tmp_path, command):
    port = str(free_port())
    given = dict(re.findall(r"(HOOKMIRROR_\w+)=(\S+)", TEXT))
    environment = {name: value.replace("8000", port) for name, value in given.items()} | {
        "PATH": os.environ["PATH"],
        "HOOKMIRROR_SECRET_KEY": "secret-key-of-these-tests-only",
        "HOOKMIRROR_SOURCES": '{"sigma": {"secrets": ["x"]}}',
    }
    options = ["--port", port] if command[0] == "serve" else []
    (check,) = re.findall(r"^HEALTHCHECK[^[]+(\[.+\])$", TEXT, re.MULTILINE)
    asked = [sys.executable, *(word.replace("8000", port) for word in json.loads(check)[1:])]
    with Forked([*command, *options], tmp_path, environment) as process:
        try:
            wait_until(lambda: process.poll() is not None or listens(port), "the port")
            is_healthy = lambda: subprocess.run(asked, check=False, capture_output=True).returncode == 0  # noqa: E731
            wait_until(lambda: process.poll() is not None or is_healthy(), "it to be healthy")
            assert process.poll() is None, process.stderr.read()
        finally:
            process.kill()
