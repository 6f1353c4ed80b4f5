"""Paths: what is wrong with an address that is meant for webhooks and is not."""

from __future__ import annotations

import pytest

from receiver.ingest.paths import flaw, is_meant_for_hooks, source_named

SOURCES = {"shop", "shop-us"}


@pytest.mark.parametrize("path", ["/hooks/shop", "/hooks/shop/"])
def test_one_slash_behind_the_name_is_no_part_of_it(path: str):
    assert source_named(path) == "shop"


FLAWS = {
    "/hooks": "names no source",
    "/hooks/": "names no source",
    "/hooks//": "names no source",
    "/hooks/nobody": "no source 'nobody' here",
    "/hooks/SHOP": "no capitals",
    "/hooks/ shop": "no blanks",
    "/hooks/shop\n": "no blanks",
    "/hooks//shop": "a slash too many",
    "/hooks/shop//": "a slash too many",
    "/hooks/./shop": "a part of dots",
    "/hooks/shop/..": "a part of dots",
    "/hooks/shop/orders": "the address has 'orders'",
    "//hooks/shop": "begins with /hooks/, letter for letter",
    "/HOOKS/shop": "begins with /hooks/, letter for letter",
    "/./hooks/shop": "begins with /hooks/, letter for letter",
}


@pytest.mark.parametrize("path", FLAWS)
def test_what_is_wrong_is_named(path: str):
    assert FLAWS[path] in flaw(path, SOURCES)


@pytest.mark.parametrize("path", [path for path in FLAWS if "shop" in path.lower()])
def test_the_right_address_of_a_known_source_is_given(path: str):
    assert flaw(path, SOURCES).endswith(" Post to /hooks/shop.")


def test_a_long_name_is_not_repeated_whole():
    assert len(flaw("/hooks/" + "x" * 9_000, SOURCES)) < 200


@pytest.mark.parametrize("path", ["/hooks/\x1b[31mRED", "/hooks/\u202e", "/hooks/shop/\u2028", "/hooks/\ud800"])
def test_nothing_invisible_is_repeated(path: str):
    assert flaw(path, SOURCES).isprintable()


@pytest.mark.parametrize("path", [*FLAWS, "/Hooks/"])
def test_whoever_posts_there_means_a_webhook(path: str):
    assert is_meant_for_hooks(path)


@pytest.mark.parametrize("path", ["/", "/healthz", "/api/hooks", "/hook/shop", "/hooksx/shop"])
def test_other_addresses_are_not_meant_for_webhooks(path: str):
    assert not is_meant_for_hooks(path)
