"""Compressed bodies: which are read and which are refused, within bounds of memory and time."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.dialects.compression import MOST_MEMBERS, decompressed, is_compressed
from receiver.errors import Unreadable

JSON = b'{"type": "product.updated"}'
LARGEST = 10_000


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(JSON), zlib.compress(JSON), gzip.compress(JSON, 0), zlib.compress(JSON, 0)],
    ids=["gzip", "deflate", "gzip, stored", "deflate, stored"],
)
def test_gzip_and_deflate_are_recognised_and_read(packed):
    assert is_compressed(packed)
    assert decompressed(packed, largest=LARGEST) == JSON


@pytest.mark.parametrize(
    "content", [b"", b"x", b"{}", b" {}", b'"x"', b"[]", b"1", b"true", b"\xef\xbb\xbf{}", "{}".encode("utf-16")]
)
def test_no_json_is_taken_for_compressed_data(content):
    assert not is_compressed(content)


def test_data_compressed_in_parts_is_joined():
    assert decompressed(gzip.compress(JSON[:9]) + gzip.compress(JSON[9:]), largest=LARGEST) == JSON


def test_zeros_after_the_end_are_padding():
    assert decompressed(gzip.compress(JSON) + bytes(512), largest=LARGEST) == JSON


def test_compressed_empty_data_is_empty():
    assert decompressed(gzip.compress(b""), largest=LARGEST) == b""


def test_data_of_exactly_the_bound_is_read_and_one_byte_more_is_refused():
    assert len(decompressed(gzip.compress(bytes(LARGEST)), largest=LARGEST)) == LARGEST
    with pytest.raises(Unreadable, match="more than 10000 bytes"):
        decompressed(gzip.compress(bytes(LARGEST + 1)), largest=LARGEST)


def test_the_bound_holds_for_all_parts_together():
    with pytest.raises(Unreadable, match="more than 10000 bytes"):
        decompressed(gzip.compress(bytes(6_000)) * 2, largest=LARGEST)


def test_a_bomb_costs_no_more_memory_than_the_bound():
    bomb = gzip.compress(bytes(200_000_000), 1)
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable, match="more than 10000 bytes"):
            decompressed(bomb, largest=LARGEST)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(bomb) + 10 * LARGEST


def test_endless_empty_parts_are_refused_early():
    with pytest.raises(Unreadable, match=f"more than {MOST_MEMBERS} parts"):
        decompressed(gzip.compress(b"") * 50_000, largest=LARGEST)


@pytest.mark.parametrize("packed", [gzip.compress(JSON), zlib.compress(JSON)], ids=["gzip", "deflate"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda packed: packed[:-1], "ends in the middle"),
        (lambda packed: packed[:15], "ends in the middle"),
        (lambda packed: packed + b"{}", "has bytes after its end"),
        (lambda packed: packed[:-2] + bytes([packed[-2] ^ 1]) + packed[-1:], "damaged"),
        (lambda packed: packed[:2] + b"\xff" * 20, "damaged"),
    ],
)
def test_damaged_data_is_refused_with_the_reason(packed, damage, reason):
    with pytest.raises(Unreadable, match=reason):
        decompressed(damage(packed), largest=LARGEST)


@given(st.sampled_from([b"\x1f\x8b", b"\x1f\x8b\x08\0", b"x\x9c", b"x\xda"]), st.binary(max_size=60))
def test_any_bytes_after_the_first_are_read_or_refused_with_a_reason(start, rest):
    with suppress(Unreadable):
        assert len(decompressed(start + rest, largest=LARGEST)) <= LARGEST
