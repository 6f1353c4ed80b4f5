"""The modules whose texts decide the result of a delivery."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handlers import sigma
from receiver.worker import source_texts
from receiver.worker.source_texts import modules_behind


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Return a function that writes modules and imports the first."""
    monkeypatch.syspath_prepend(tmp_path)

    def written(**texts: str) -> Any:
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(text)
        return importlib.import_module(next(iter(texts)))

    yield written
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)
    for known in (source_texts._text, source_texts._imports, source_texts._spec, source_texts.source_digest):
        known.cache_clear()


def test_helpers_of_a_handler_count_even_through_other_helpers(write: Callable[..., Any]):
    shop = write(
        acme_shop="from acme_prices import FACTOR\ndef handle(event, mirror): return FACTOR\n",
        acme_prices="import acme_rates\nFACTOR = acme_rates.RATE\n",
        acme_rates="RATE = 2\n",
        acme_other="RATE = 3\n",
    )
    assert modules_behind([shop.handle]) == ["acme_prices", "acme_rates", "acme_shop"]


def test_a_helper_imported_when_a_handler_runs_counts(write: Callable[..., Any]):
    shop = write(
        acme_shop="def handle(event, mirror):\n    from acme_prices import FACTOR\n    return FACTOR\n",
        acme_prices="FACTOR = 2\n",
    )
    assert modules_behind([shop.handle]) == ["acme_prices", "acme_shop"]


@pytest.mark.parametrize(
    "place",
    [
        "try:\n    {}\nexcept ValueError:\n    pass",
        "try:\n    pass\nexcept ValueError:\n    {}",
        "try:\n    pass\nexcept ValueError:\n    pass\nelse:\n    {}",
        "try:\n    pass\nfinally:\n    {}",
        "try:\n    pass\nexcept* ValueError:\n    {}",
        "if handle:\n    pass\nelif handle:\n    {}",
        "for each in ():\n    {}",
        "for each in ():\n    pass\nelse:\n    {}",
        "while False:\n    {}",
        "with open(__file__):\n    {}",
        "match handle:\n    case 1:\n        {}",
        "class Shop:\n    {}",
        "async def later():\n    {}",
    ],
)
def test_an_import_counts_in_every_kind_of_statement(write: Callable[..., Any], place: str):
    shop = write(
        acme_shop="def handle(event, mirror): pass\n" + place.format("import acme_prices"), acme_prices="FACTOR = 2\n"
    )
    assert modules_behind([shop.handle]) == ["acme_prices", "acme_shop"]


def test_modules_that_import_each_other_do_not_loop(write: Callable[..., Any]):
    shop = write(
        acme_shop="import acme_prices\ndef handle(event, mirror): pass\n", acme_prices="import acme_shop\nFACTOR = 2\n"
    )
    assert modules_behind([shop.handle]) == ["acme_prices", "acme_shop"]


def test_python_libraries_and_hookmirror_do_not_count():
    behind = modules_behind(sigma.sigma.functions)
    assert {"handlers.sigma", "handlers.values", "handlers.catalog"} <= set(behind)
    assert {name.partition(".")[0] for name in behind} == {"handlers"}


def test_the_lines_contain_the_text_of_a_helper(write: Callable[..., Any]):
    shop = write(acme_shop="import acme_prices\ndef handle(event, mirror): pass\n", acme_prices="FACTOR = 2\n")
    before = list(source_texts.source_texts([shop.handle]))
    Path(shop.__file__).with_name("acme_prices.py").write_text("FACTOR = 3\n")
    # Only another process runs the new text.
    assert list(source_texts.source_texts([shop.handle])) == before
    source_texts._text.cache_clear()
    source_texts.source_digest.cache_clear()
    after = list(source_texts.source_texts([shop.handle]))
    assert [line.split()[1] for line in after if line not in before] == ["acme_prices"]
