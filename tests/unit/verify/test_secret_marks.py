"""Marks count the uses of a secret without revealing it."""

from __future__ import annotations

from receiver.verify.secret_marks import mark_of, mark_of_all, secret_marks
from receiver.verify.verifiers import Credentials, Secret

NEW, OLD = Secret(b"new"), Secret(b"old")


def test_a_mark_follows_the_secret_and_not_its_position():
    assert secret_marks("key", "shop", [NEW, OLD]) == secret_marks("key", "shop", [OLD, NEW])[::-1]


def test_another_key_or_another_source_has_other_marks():
    marks = [*secret_marks("key", "shop", [OLD]), *secret_marks("other", "shop", [OLD])]
    assert len({*marks, *secret_marks("key", "pim", [OLD])}) == 3


def test_the_mark_of_all_changes_with_the_secrets_and_their_order():
    assert len({mark_of_all(marks) for marks in (["a", "b"], ["b", "a"], ["a"], ["ab"])}) == 4


def test_an_unsigned_body_and_an_unknown_position_have_no_mark():
    credentials = Credentials(secrets=(NEW,), marks=("m",))
    assert [mark_of(credentials, position) for position in (0, None, 1, -1)] == ["m", "", "", ""]
