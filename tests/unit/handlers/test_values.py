"""Values of sources: which are ids, texts and prices, and which are none."""

from __future__ import annotations

from decimal import Decimal

import pytest

from handlers.values import LARGEST_EXPONENT, LONGEST_NAME, as_id, as_price, as_short_text, as_text, id_of
from receiver.errors import Unreadable


def test_an_id_of_the_greatest_length_is_accepted_and_a_longer_one_refused():
    assert as_id("x" * LONGEST_NAME) == as_short_text("x" * LONGEST_NAME) == "x" * LONGEST_NAME
    assert as_short_text("x" * (LONGEST_NAME + 1)) is None
    with pytest.raises(ValueError, match=f"1 to {LONGEST_NAME} characters"):
        as_id("x" * (LONGEST_NAME + 1))


@pytest.mark.parametrize("value", [True, False, None, 1.5, [], {}])
def test_other_values_than_texts_and_exact_numbers_are_no_text_and_no_price(value):
    assert (as_text(value), as_price(value)) == (None, None)


@pytest.mark.parametrize("sign", ["", "-"])
def test_a_price_has_its_digits_up_to_the_largest_exponent(sign):
    for exponent in (LARGEST_EXPONENT, -LARGEST_EXPONENT):
        assert as_price(f"{sign}1e{exponent}") == Decimal(f"{sign}1e{exponent}")
    for beyond in (f"1e{LARGEST_EXPONENT + 1}", f"1e-{LARGEST_EXPONENT + 1}", f"12.5e-{LARGEST_EXPONENT}"):
        assert as_price(sign + beyond) is None


def test_the_first_member_with_a_value_is_the_id():
    assert id_of({"sku": None, "id": 7}, ["sku", "id"], what="data") == "7"
    with pytest.raises(Unreadable, match="`data` has no sku or id, so it does not say what changed"):
        id_of([("id", 7)], ["sku", "id"], what="data")
