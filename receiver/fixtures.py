"""Fixtures: files with bodies of a sender, each with a file beside it that has the expected state and rows."""

from __future__ import annotations

from collections.abc import Iterable
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
    """The expected state and rows of the fixture."""
    _refuse_missing(fixture)
    return dict(codec.decode(_beside(fixture).read_bytes()))


def headers_beside(fixture: Path) -> dict[str, str]:
    """The headers to send with a fixture; none without a file. Raises `ConfigurationError` for an invalid file."""
    file = fixture.with_name(fixture.name.removesuffix(".json") + HEADERS_BESIDE)
    try:
        found = codec.decode(file.read_bytes())
    except OSError:
        return {}
    except Unreadable as error:
        raise ConfigurationError(f"{file} is not JSON: {error}") from None
    if not isinstance(found, dict) or not all(map(_is_header, found, found.values())):
        raise ConfigurationError(
            f'{file} is not an object of headers in ASCII: write such as {{"X-Shop-Topic": "product.updated"}}.'
        )
    return found


def _is_header(name: str, value: Any) -> bool:
    if not isinstance(value, str) or not name or set(name) & set(" :"):
        return False
    return f"{name}{value}".isascii() and f"{name}{value}".isprintable()


def _beside(fixture: Path) -> Path:
    return fixture.with_name(fixture.name.removesuffix(".json") + EXPECTED)


def _refuse_missing(fixture: Path) -> None:
    if not fixture.exists():
        raise ConfigurationError(f"There is no fixture {str(fixture)!r}: correct the path.")
    if not _beside(fixture).exists():
        raise ConfigurationError(f"The fixture {fixture} has no {EXPECTED} beside it: write the expected rows there.")


def refuse_unknown(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ConfigurationError(
            f"The fixture names {unknown[0]!r}, which is not a {what}: choose one of {', '.join(sorted(known))}."
        )
