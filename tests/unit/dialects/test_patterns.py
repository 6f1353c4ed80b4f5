"""Patterns of event types: what they match, which of two is more specific, and which pairs are ambiguous."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from receiver.dialects.patterns import Pattern
from receiver.errors import WiringError

TYPES = st.text("ab.", min_size=1, max_size=4)
PATTERNS = st.builds(lambda head, star, tail: head + star + tail, TYPES, st.sampled_from(["", "*"]), TYPES) | st.just(
    "*"
)


@pytest.mark.parametrize(
    ("pattern", "event_type"),
    [
        ("product.updated", "product.updated"),
        ("product.*", "product.updated"),
        ("product.*", "product.price.updated"),
        ("*.deleted", "bulk.variant.deleted"),
        ("bulk.*.deleted", "bulk.variant.deleted"),
        ("*", "anything"),
    ],
)
def test_a_pattern_matches_its_family(pattern, event_type):
    assert Pattern(pattern).matches(event_type)


@pytest.mark.parametrize(
    ("pattern", "event_type"),
    [
        ("product.updated", "product.update"),
        ("product.updated", "Product.Updated"),
        ("product.*", "product."),
        ("product.*", "products.updated"),
        ("*.deleted", ".deleted"),
        ("a*a", "a"),
        ("a*a", "aa"),
        ("*", ""),
        ("product.?", "product.x"),
    ],
)
def test_a_pattern_does_not_match_other_event_types(pattern, event_type):
    assert not Pattern(pattern).matches(event_type)


@pytest.mark.parametrize("text", ["", "product updated", "product.*.*", "**", " product.updated", "product\n"])
def test_a_text_that_is_not_an_event_type_is_refused_with_what_to_write(text):
    with pytest.raises(WiringError, match=r"is not an event type: write `product\.updated`"):
        Pattern(text)


@pytest.mark.parametrize(
    ("special", "general"),
    [("product.updated", "product.*"), ("product.*", "*"), ("a", "*.updated.and.longer"), ("bulk.variant.*", "bulk.*")],
)
def test_an_exact_or_longer_pattern_is_more_specific(special, general):
    assert Pattern(special).specificity > Pattern(general).specificity


@pytest.mark.parametrize(("one", "other"), [("ab*", "*bc"), ("product.*", "product.*"), ("a.b", "a.b"), ("a*b", "*ab")])
def test_two_equally_specific_patterns_that_can_match_the_same_are_ambiguous(one, other):
    assert Pattern(one).is_ambiguous_with(Pattern(other))


@pytest.mark.parametrize(("one", "other"), [("ab*", "cd*"), ("product.*", "*"), ("a.b", "a.c"), ("*.new", "*.old")])
def test_two_patterns_that_cannot_match_the_same_or_differ_in_specificity_are_not_ambiguous(one, other):
    assert not Pattern(one).is_ambiguous_with(Pattern(other))


@examples(60)
@given(PATTERNS, PATTERNS, st.text("ab.", max_size=9))
def test_no_event_type_matches_two_equally_specific_patterns_that_are_not_ambiguous(one, other, event_type):
    first, second = Pattern(one), Pattern(other)
    both = first.matches(event_type) and second.matches(event_type)
    if both and first.specificity == second.specificity:
        assert first.is_ambiguous_with(second)
    assert first.is_ambiguous_with(second) == second.is_ambiguous_with(first)
