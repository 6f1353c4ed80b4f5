"""The stream of a live page, read event by event."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from visiting import Visitor
from waiting import TIMEOUT


@contextmanager
def listening(visitor: Visitor, *, seen: str | None = None) -> Iterator[tuple[httpx.Response, Iterator[str]]]:
    """Open a stream until the end of the block, and give its answer and its lines. `seen` has the marks of a page."""
    with visitor.client.stream("GET", "/live", params=None if seen is None else {"seen": seen}) as answer:
        yield answer, answer.iter_lines()


def next_event(lines: Iterator[str]) -> tuple[str, Any]:
    """Return the name and the data of the next event of the stream."""
    name, end = "", time.monotonic() + TIMEOUT
    for line in lines:
        # A stream gives a sign of life however long nothing is told.
        assert time.monotonic() < end, f"nothing was told for {TIMEOUT:.0f} s"
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        if line.startswith("data: "):
            return name, json.loads(line.removeprefix("data: "))
    raise AssertionError("the stream has ended")


def read_to_its_end(lines: Iterator[str]) -> list[str]:
    """Return the other lines of a stream, which must end in time."""
    found, end = [], time.monotonic() + TIMEOUT
    for line in lines:
        assert time.monotonic() < end, f"the stream did not end for {TIMEOUT:.0f} s"
        found.append(line)
    return found


def hint(lines: Iterator[str]) -> list[str]:
    """Return the next hint of the stream, which must be its next event."""
    name, changed = next_event(lines)
    assert name == "changed"
    return list(changed)
