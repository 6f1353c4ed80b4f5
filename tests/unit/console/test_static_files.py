"""Static files: ours stay small, third-party ones stay as published, and browsers may cache all of them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from visiting import Visitor

import receiver.console

FOLDER = Path(receiver.console.__file__).parent
STATIC = FOLDER / "static"

#: SHA-256 of the third-party files.
PUBLISHED = {
    "LICENSE.htmx": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
    "htmx.js": "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
    "hx-csp.js": "a7e1e6711ae6c3e50ad300fba7936cbe8d07599cdae313414a179ddd6b26e143",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_third_party_file_is_as_published(name: str) -> None:
    assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == PUBLISHED[name]
    assert f"`{name}`" in (STATIC / "README.md").read_text("utf-8")


def test_the_style_sheet_and_the_script_are_small() -> None:
    assert len((STATIC / "console.css").read_bytes()) <= 14_000
    assert len((STATIC / "console.js").read_text("utf-8").splitlines()) <= 150


def test_a_page_with_all_its_assets_is_small(operator: Visitor) -> None:
    page = operator.page("/", period="week")
    links = re.findall(r'(?:src|href)="/console(/static/[^"]*)"', page)
    assert len(links) == 5
    assert len(page) + sum(len(operator.get(link).content) for link in links) <= 120_000


def test_the_address_of_a_file_depends_on_its_content_and_may_be_cached_for_ever(stranger: Visitor) -> None:
    (link,) = re.findall(r'href="/console(/static/console\.[^"]*css)"', stranger.get("/").text)
    answer = stranger.get(link)
    assert hashlib.sha256(answer.content).hexdigest()[:12] in link
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"] == "text/css; charset=utf-8"


@pytest.mark.parametrize("path", ["../page.py", "console.css", "..%2f..%2fpage.py", "README.md", "LICENSE.htmx"])
def test_no_other_file_is_served(stranger: Visitor, path: str) -> None:
    assert stranger.client.get(f"/static/{path}").status_code in (401, 404)


def test_templates_use_no_attribute_of_htmx_that_runs_text() -> None:
    from receiver.console.rendering import HTMX_ATTRIBUTES

    used = {
        name
        for path in (FOLDER / "templates").iterdir()
        for name in re.findall(r"\s(hx-[\w:.-]+)(?=[\s=>])", path.read_text("utf-8"))
    }
    assert used <= HTMX_ATTRIBUTES
    assert len(HTMX_ATTRIBUTES) <= 8
