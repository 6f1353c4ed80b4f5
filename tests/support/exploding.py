"""A program: works on the inbox of a folder and prints the memory that this took.

The bodies are as long as a body may be. They consist mostly of decimals, each of which takes a hundred bytes once
parsed.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import structlog

from receiver.dialects.sources import find_dialects
from receiver.testing import Webhooks

BODIES, DECIMALS, BODY_BYTES = 10, 60_000, 1_000_000


def fill(folder: Path) -> None:
    kit = Webhooks(folder, find_dialects(), database_url=url(folder))
    numbers = b",".join([b"1.5"] * DECIMALS)
    filler = b"x" * (BODY_BYTES - len(numbers))
    for number in range(BODIES):
        head = b'{"type":"product.updated","id":"P%d","timestamp":"2026-03-04T12:00:00Z","data":' % number
        assert kit.send_body("iimmpact", head + b'{"f":"%b","n":[%b]}}' % (filler, numbers)).status == 200
    kit.close()


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'exploding.db'}"


def peak() -> int:
    """Return the most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    kit = Webhooks(Path(sys.argv[1]), find_dialects(), database_url=url(Path(sys.argv[1])))
    kit.source("iimmpact")
    before = peak()
    worked = kit.drain()
    sys.stdout.write(f"{worked} {peak() - before}")
    kit.close()
