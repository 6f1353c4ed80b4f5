"""Marks count the uses of a secret without revealing it."""

from __future__ import annotations

from receiver.dialects.sources import build_sources, find_dialects
from receiver.settings.settings import Settings
from receiver.verify.secret_marks import all_marks, mark_of, mark_of_all, present_marks, secret_marks
from receiver.verify.verifiers import Credentials, Secret

NEW, OLD = Secret(b"new"), Secret(b"old")


def test_a_mark_follows_the_secret_and_not_its_position():
    assert secret_marks("key", "shop", [NEW, OLD]) == secret_marks("key", "shop", [OLD, NEW])[::-1]


def test_another_key_or_another_source_has_other_marks():
    marks = [*secret_marks("key", "shop", [OLD]), *secret_marks("other", "shop", [OLD])]
    assert len({*marks, *secret_marks("key", "pim", [OLD])}) == 3


def test_each_key_in_the_settings_gives_every_secret_a_mark_and_the_newest_key_the_present_one():
    source = {"dialect": "sigma", "secrets": ["new", "old"]}
    settings = Settings(secret_key="b-newer-key-of-32 an-older-key-of-32", sources={"shop": source})
    credentials = build_sources(settings, find_dialects())["shop"].credentials
    present, former = (secret_marks(key, "shop", [NEW, OLD]) for key in ("b-newer-key-of-32", "an-older-key-of-32"))
    assert list(all_marks(credentials)) == [present, former]
    assert present_marks(credentials) == dict(zip(present + former, present + present, strict=True))


def test_marks_by_another_key_make_no_other_credentials():
    newer = Credentials(secrets=(NEW,), marks=("b",), former_marks=(("a",),))
    assert newer == Credentials(secrets=(NEW,), marks=("a",))


def test_the_mark_of_all_changes_with_the_secrets_and_their_order():
    assert len({mark_of_all(marks) for marks in (["a", "b"], ["b", "a"], ["a"], ["ab"])}) == 4


def test_an_unsigned_body_and_an_unknown_position_have_no_mark():
    credentials = Credentials(secrets=(NEW,), marks=("m",))
    assert [mark_of(credentials, position) for position in (0, None, 1, -1)] == ["m", "", "", ""]
