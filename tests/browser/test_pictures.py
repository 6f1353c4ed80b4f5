"""Pictures of the console in the docs: each shows a page that exists, and `make pictures` makes them again."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import pytest
from browsing import DESKTOP, Browsing
from console_addresses import pages_by_name
from console_stock import ConsoleStock

from receiver.console.page import CONSOLE_PATH, filled

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "pictures"

#: Most bytes of one picture, because every clone of the repository downloads it.
LARGEST = 160_000

#: The pages with a picture, each with the name of the thing that it shows; empty for a page that shows no single thing.
PICTURES = {
    "overview": "",
    "deliveries": "",
    "delivery": "dead",
    "row": "contradicted",
    "source": "indexed",
    "run": "differing",
}


def parts_of(stock: ConsoleStock, name: str, thing: str) -> dict[str, str]:
    if name == "row":
        return dict(zip(("table", "source", "external_id"), stock.rows[thing], strict=True))
    if name == "source":
        return {"source": thing}
    return {"id": (stock.runs if name == "run" else stock.deliveries)[thing]} if thing else {}


def compressed(picture: bytes) -> bytes:
    """The same PNG picture with its data compressed as far as possible, which the browser does not do."""
    chunks, place = [], 8
    while place < len(picture):
        (length,) = struct.unpack(">I", picture[place : place + 4])
        chunks.append((picture[place + 4 : place + 8], picture[place + 8 : place + 8 + length]))
        place += 12 + length
    pixels = zlib.decompress(b"".join(content for kind, content in chunks if kind == b"IDAT"))
    kept = [each for each in chunks if each[0] not in (b"IDAT", b"IEND")]
    written = [*kept, (b"IDAT", zlib.compress(pixels, 9)), (b"IEND", b"")]
    return picture[:8] + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in written
    )


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_shows_a_page_that_exists(browsing: Browsing, stock: ConsoleStock, name: str, request):
    page = pages_by_name().get(name)
    assert page is not None, f"docs/pictures/{name}.png shows a page that is no more: remove it from the docs and here"
    opened = browsing.open(CONSOLE_PATH + filled(page.path, parts_of(stock, name, PICTURES[name])))
    assert opened.locator("main h1").is_visible()
    if request.config.getoption("--pictures"):
        if name == "row":
            with opened.expect_navigation():
                opened.get_by_role("button", name="Ask the source").click()
        FOLDER.mkdir(exist_ok=True)
        picture = opened.screenshot(clip={"x": 0, "y": 0, "width": DESKTOP, "height": 800})
        (FOLDER / f"{name}.png").write_bytes(compressed(picture))


def test_every_picture_shows_one_of_these_pages_and_is_small():
    pictures = sorted(FOLDER.glob("*"))
    assert [each.stem for each in pictures] == sorted(PICTURES)
    assert [each.name for each in pictures if each.stat().st_size > LARGEST] == []


def test_every_picture_is_in_the_docs_with_a_text_for_people_who_do_not_see_it():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = {Path(path).stem: words for each in pages for words, path in pictures_of(each)}
    assert shown.keys() == PICTURES.keys()
    assert all(words.strip() for words in shown.values())


def pictures_of(page: Path) -> list[tuple[str, str]]:
    return re.findall(r"!\[([^\]]*)\]\(([^)]*pictures/[^)]*)\)", page.read_text("utf-8"))
