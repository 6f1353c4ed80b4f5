"""Wrong addresses that are meant for webhooks, and the messages about them."""

from __future__ import annotations

import pytest

from receiver.ingest.paths import flaw, is_meant_for_hooks, source_named

SOURCES = {"shop", "shop-us"}


@pytest.mark.parametrize("path", ["/hooks/shop", "/hooks/shop/"])
def test_one_slash_after_the_name_is_ignored(path: str):
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
def test_the_message_names_the_mistake(path: str):
    assert FLAWS[path] in flaw(path, SOURCES)


@pytest.mark.parametrize("path", [path for path in FLAWS if "shop" in path.lower()])
def test_the_message_gives_the_right_address_of_a_known_source(path: str):
    assert flaw(path, SOURCES).endswith(" Post to /hooks/shop.")


def test_a_long_name_is_cut_in_the_message():
    assert len(flaw("/hooks/" + "x" * 9_000, SOURCES)) < 200


@pytest.mark.parametrize("path", ["/hooks/\x1b[31mRED", "/hooks/\u202e", "/hooks/shop/\u2028", "/hooks/\ud800"])
def test_the_message_contains_nothing_invisible(path: str):
    assert flaw(path, SOURCES).isprintable()


@pytest.mark.parametrize("path", [*FLAWS, "/Hooks/"])
def test_a_wrong_address_below_hooks_is_meant_for_webhooks(path: str):
    assert is_meant_for_hooks(path)


@pytest.mark.parametrize("path", ["/", "/healthz", "/api/hooks", "/hook/shop", "/hooksx/shop"])
def test_other_addresses_are_not_meant_for_webhooks(path: str):
    assert not is_meant_for_hooks(path)
