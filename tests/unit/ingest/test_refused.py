"""Refusals of a dialect's own classes become refusals of ours, with values that the API allows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from receiver.errors import BodyTooLarge, Captured, ChallengeRefused, NotVerified, Refused, Unavailable
from receiver.ingest.refused import LARGEST_SIZE, LONGEST_SENDER_PAUSE, OUR_REFUSALS, in_our_words

SOURCE: Any = SimpleNamespace(name="shop")


def test_a_refusal_of_ours_keeps_its_values():
    for refusal in (
        NotVerified("signature_wrong", "No.", final=True),
        Captured("Later.", retry_after=60),
        ChallengeRefused("No."),
        BodyTooLarge("Too large.", size=9),
    ):
        made = in_our_words(refusal, SOURCE)
        assert type(made) is type(refusal)
        assert str(made) == str(refusal)
        assert (made.status, made.code) == (refusal.status, refusal.code)
        assert vars(made).items() >= vars(refusal).items()


def test_a_refusal_of_a_user_s_own_class_becomes_one_of_the_nearest_class_of_ours():
    class KeysAway(Unavailable):
        pass

    class Odd(Refused):
        pass

    assert type(in_our_words(KeysAway("Later."), SOURCE)) is Unavailable
    assert type(in_our_words(Odd("No."), SOURCE)) is Refused
    assert all(type(in_our_words(kind.__new__(kind), SOURCE)) is kind for kind in OUR_REFUSALS.values())


def test_a_class_with_the_name_of_one_of_ours_is_not_taken_for_it():
    mine = type("Captured", (NotVerified,), {})
    assert type(in_our_words(mine("signature_wrong", "No."), SOURCE)) is NotVerified


@pytest.mark.parametrize("seconds", [-1, LONGEST_SENDER_PAUSE + 1, True, 1.5, "5", None])
def test_a_pause_that_no_sender_can_be_asked_for_becomes_the_usual_one(seconds):
    assert in_our_words(Unavailable("Later.", retry_after=seconds), SOURCE).retry_after == 5


def test_a_size_that_does_not_fit_into_a_frame_is_left_out():
    sizes = [in_our_words(BodyTooLarge("No.", size=size), SOURCE).size for size in (LARGEST_SIZE, LARGEST_SIZE + 1)]
    assert sizes == [LARGEST_SIZE, 0]


@pytest.mark.parametrize("code", ["of_my_own", "signature_wrong", 7])
def test_a_code_that_the_class_does_not_have_becomes_the_one_of_the_class(code):
    class Locked(Unavailable):
        pass

    Locked.code = code
    assert in_our_words(Locked("Later."), SOURCE).code == "unavailable"


def test_characters_that_cannot_be_encoded_are_replaced_in_the_message():
    made = in_our_words(NotVerified("signature_wrong", "no such key: \udcff"), SOURCE)
    assert (made.message, str(made)) == ("no such key: \ufffd", "no such key: \ufffd")
