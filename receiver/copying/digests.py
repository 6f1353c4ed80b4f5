"""Compares two tables by count and digest, and finds differing rows by their keys.

A digest is a sum over all rows, so it does not depend on the order in which a database reads them. Databases order text
differently.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from receiver.copying.slices import RowKey, TableReader

#: The length of a row's hash, and of a digest, in bytes.
SIZE = 16

#: The number of parts of a table, which are compared to find where two tables differ.
BUCKETS = 4_096

#: Most differences of one table that are listed.
MOST_DIFFERENCES = 5

_encode = msgspec.msgpack.Encoder().encode


class Digest(NamedTuple):
    """A summary of a table's content."""

    rows: int
    #: The digest in hexadecimal.
    digest: str


class Difference(NamedTuple):
    """A row that differs between the two sides, or exists on one side only."""

    table: str
    key: str
    #: `missing`, `extra` or `different`, as seen from the target database.
    what: str


def digest(reader: TableReader, seen: Callable[[int], None] = lambda _: None) -> Digest:
    """Count the rows of a table and compute its digest. `seen` is called with the number of rows of each read."""
    rows = total = 0
    for some in reader.slices():
        for row in reader.comparable(some.rows):
            total += _hash(row)
        rows += len(some.rows)
        seen(len(some.rows))
    return Digest(rows, f"{total % (1 << 8 * SIZE):0{2 * SIZE}x}")


def differences(source: TableReader, target: TableReader) -> list[Difference]:
    """The first rows that differ between the two sides; empty if the tables are equal."""
    ours, theirs = _sums(source), _sums(target)
    differing = sorted(bucket for bucket in ours.keys() | theirs.keys() if ours.get(bucket) != theirs.get(bucket))
    # Each of these parts has a differing row, so more parts would only need more memory.
    buckets = set(differing[:MOST_DIFFERENCES])
    ours, theirs = _hashes(source, buckets), _hashes(target, buckets)
    found = sorted((key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)), key=str)
    return [
        Difference(str(source.table.name), source.show(key), _what(key, ours, theirs))
        for key in found[:MOST_DIFFERENCES]
    ]


def _what(key: RowKey, ours: dict[Any, int], theirs: dict[Any, int]) -> str:
    if key not in theirs:
        return "missing"
    return "different" if key in ours else "extra"


def _sums(reader: TableReader) -> dict[Any, int]:
    sums: dict[Any, int] = defaultdict(int)
    for some in reader.slices():
        for row in reader.comparable(some.rows):
            sums[_bucket(reader.key_of(row))] += _hash(row)
    return sums


def _hashes(reader: TableReader, buckets: set[int]) -> dict[Any, int]:
    found: dict[Any, int] = {}
    if buckets:
        for some in reader.slices():
            for row in reader.comparable(some.rows):
                key = reader.key_of(row)
                if _bucket(key) in buckets:
                    found[key] = _hash(row)
    return found


def _bucket(key: RowKey) -> int:
    return crc32(_encode(key)) % BUCKETS


def _hash(row: tuple[Any, ...]) -> int:
    return int.from_bytes(blake2b(_encode(row), digest_size=SIZE).digest(), "big")
