"""Fixtures: files with bodies of a sender, each with a file beside it that has the expected state and rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from receiver import codec
from receiver.errors import ConfigurationError, Unreadable

#: The suffix of the file beside a fixture with the expected state and rows.
EXPECTED = ".expected.json"

#: The suffix of the file beside a fixture with the headers to send in addition to the signature's, as an object.
HEADERS_BESIDE = ".headers.json"


def fixture_files(folder: Path | str) -> list[Path]:
    """The fixtures below a folder: `<source or dialect>/<event type>[.<variant>].json`.

    Raises `ConfigurationError` if there are none, or if one has no expected rows beside it.
    """
    found = sorted(path for path in Path(folder).rglob("*.json") if not path.name.endswith((EXPECTED, HEADERS_BESIDE)))
    if not found:
        # An empty list would make a test that is skipped without notice.
        raise ConfigurationError(f"There are no fixtures below {str(folder)!r}: correct the path.")
    for path in found:
        _refuse_missing(path)
    return found


def expected_of(fixture: Path) -> dict[str, Any]:
    """The expected state and rows of the fixture.

    Raises `ConfigurationError` for a missing file, or if it is not `{"state", "rows": [{"table", "external_id", …}]}`.
    """
    _refuse_missing(fixture)
    file = _beside(fixture, EXPECTED)
    found = _parsed(file)
    if not isinstance(found, dict) or not _are_rows(found.get("rows")):
        raise ConfigurationError(
            f'{file} is not an object with the expected rows: write {{"rows": [{{"table": "products", "external_id": '
            '"A1", "name": "Lamp"}]}, and `[]` if there are none.'
        )
    refuse_unknown("member of a file with expected rows", found, ("state", "rows"))
    return found


def _are_rows(rows: Any) -> bool:
    return isinstance(rows, list) and all(map(_is_row, rows))


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and all(isinstance(row.get(name), str) for name in ("table", "external_id"))


def headers_beside(fixture: Path) -> dict[str, str]:
    """The headers to send with a fixture; none without a file. Raises `ConfigurationError` for an invalid file."""
    file = _beside(fixture, HEADERS_BESIDE)
    # Not by `Path.exists`, which raises an error for a name that is too long.
    if not os.path.lexists(file):
        return {}
    found = _parsed(file)
    if not isinstance(found, dict) or not all(map(is_header, found, found.values())):
        raise ConfigurationError(
            f'{file} is not an object of headers in ASCII: write such as {{"X-Shop-Topic": "product.updated"}}.'
        )
    return found


def _parsed(file: Path) -> Any:
    try:
        return codec.decode(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"{str(file)!r} cannot be read ({error.strerror}): make it a readable file, or remove it."
        ) from None
    except Unreadable as error:
        raise ConfigurationError(f"{file} is not JSON: {error}") from None


def is_header(name: str, value: Any) -> bool:
    """Whether a file of headers may hold this one."""
    if not isinstance(value, str) or not name or set(name) & set(" :"):
        return False
    return f"{name}{value}".isascii() and f"{name}{value}".isprintable()


def _beside(fixture: Path, suffix: str) -> Path:
    # Not by `with_name`, which raises an error for a folder such as `.`, whose path has no name.
    return fixture.parent / f"{fixture.name.removesuffix('.json')}{suffix}"


def _refuse_missing(fixture: Path) -> None:
    if not fixture.exists():
        raise ConfigurationError(f"There is no fixture {str(fixture)!r}: correct the path.")
    if not _beside(fixture, EXPECTED).exists():
        raise ConfigurationError(f"The fixture {fixture} has no {EXPECTED} beside it: write the expected rows there.")


def refuse_unknown(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ConfigurationError(
            f"The fixture names {unknown[0]!r}, which is not a {what}: choose one of {', '.join(sorted(known))}."
        )


def without_news(table: str, external_id: str, deliveries: Iterable[Mapping[str, Any]]) -> str:
    """Say that there was no news about this row, and why: the last delivery about it that was not processed.

    If there is none about this row, the last one about any.
    """
    says = f"there was no news about {table} {external_id!r}"
    left = [each for each in deliveries if each["state"] != "processed"]
    if not left:
        return says
    last = next((each for each in reversed(left) if (each["entity"] or "").endswith(f":{external_id}")), left[-1])
    told = f"{says}: {last['event_type'] or 'the delivery'} of {last['source']} is {last['state']}"
    if last["state"] == "pending" and not last["attempts_made"]:
        return f"{told}, so call webhooks.drain() first"
    return f"{told}, because: {last['reason']}" if last["reason"] else told
