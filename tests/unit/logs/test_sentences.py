"""Texts that end with exactly one mark."""

from __future__ import annotations

import pytest

from receiver.logs.safe_text import sentence, whole_sentence


@pytest.mark.parametrize("text", ["It is so.", "Is it so?", "Mend it!", "cut…"])
def test_a_text_that_ends_with_a_mark_gets_no_other(text):
    assert sentence(text) == text


def test_a_text_without_a_mark_gets_a_full_stop():
    assert sentence("it has ended") == "it has ended."


def test_a_sentence_of_its_own_begins_with_a_capital():
    assert whole_sentence("every signature fails") == "Every signature fails."
    assert whole_sentence("3 deliveries are dead.") == "3 deliveries are dead."
    assert whole_sentence("") == "."
