"""The addresses of a console with data: at least one for each of its pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from receiver.console.contents import PAGES
from receiver.console.page import CONSOLE_PATH, ConsolePage, filled

if TYPE_CHECKING:
    from console_stock import ConsoleStock

#: Filters by the name of the page that is also opened with them. Some find nothing.
FILTERED = {
    "overview": [{"period": "day"}, {"period": "week"}],
    "deliveries": [{"state": "dead"}, {"source": "iimmpact", "state": "ignored"}, {"event_type": "nothing.happened"}],
    "search": [{"q": "4711"}, {"q": "nothing is called so"}],
    "rows": [{"active": "false"}, {"sku": "nothing has it"}],
    "refused": [{"source": "indexed"}, {"source": "sigma"}],
    "findings": [{"all": "true"}],
    "faults": [{"source": "sigma"}],
    "actions": [{"run": "999"}],
    "source": [{"period": "week"}],
    "changes": [{"source": "sigma"}, {"table": "records", "source": "iimmpact", "since": "1s"}],
}


#: Pages that browsers download instead of showing.
DOWNLOADS = {"delivery_body"}


def pages_by_name() -> dict[str, ConsolePage]:
    return {page.name: page for page in PAGES if page.name not in DOWNLOADS}


def parts_of(page: ConsolePage, stock: ConsoleStock) -> list[dict[str, str]]:
    """List the variable parts of the page's address, once for each thing in the stock that it can show."""
    names = page.path
    if "{" not in names:
        return [{}]
    if "{external_id" in names:
        return [{"table": table, "source": source, "external_id": row} for table, source, row in stock.rows.values()]
    if "{table" in names:
        return [{"table": table} for table in sorted({table for table, *_ in stock.rows.values()})]
    if "{name" in names or "{source" in names:
        return [{"name": name, "source": name} for name in stock.sources]
    if "{seq" in names:
        return [{"seq": stock.newest_change}]
    things = {
        "delivery": stock.deliveries,
        "run": stock.runs,
        "fault": stock.faults,
        "finding": stock.findings,
        "refused": stock.refused,
    }
    kind = next((kind for kind in things if page.name.startswith(kind)), None)
    assert kind is not None, f"say in console_addresses.py what the address of the page {page.name} is made of"
    return [{"id": each} for each in things[kind].values()]


def addresses(page: ConsolePage, stock: ConsoleStock) -> Iterator[str]:
    """Yield the addresses of this page that tests open: first those without a filter."""
    for parts in parts_of(page, stock):
        quoted = {name: quote(text, safe="") for name, text in parts.items()}
        yield CONSOLE_PATH + filled(page.path, quoted)
    for query in FILTERED.get(page.name, []):
        if query.get("source", stock.sources[0]) not in stock.sources:
            continue
        quoted = {name: quote(text, safe="") for name, text in parts_of(page, stock)[0].items()}
        yield f"{CONSOLE_PATH}{filled(page.path, quoted)}?{urlencode(query)}"
