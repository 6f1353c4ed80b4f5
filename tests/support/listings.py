"""Reads a source's list as its dialect does, without comparing it with a mirror."""

from __future__ import annotations

from collections.abc import Iterator

import httpx

from receiver import Dialect, Listed, Wanted


def listed_by(dialect: Dialect, api: httpx.Client) -> Iterator[Listed]:
    """Return every row of the list, page by page; if the list only names rows, the lookup completes each."""
    assert dialect.listing_of is not None
    for part in dialect.listing_of.parts:
        assert part.read is not None
        start, rows = None, []
        while True:
            page = part.read(api, start)
            rows.extend(page.rows)
            if page.next is None:
                break
            start = page.next
        if not part.names_only:
            yield from rows
            continue
        assert dialect.lookup_of is not None
        for row in rows:
            yield from dialect.lookup_of.ask(api, Wanted(row.table, row.external_id))
