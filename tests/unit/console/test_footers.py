"""Footers: words quoted for a shell mean exactly what they show, and contain nothing invisible."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.console.footers import shell_word


def words_of(text: str) -> bytes:
    return subprocess.run(["bash", "-c", f"printf %s {shell_word(text)}"], capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    "text", ["a b", "it's", "$(ls)", "\u202egpj.exe", "a\nb", "\x1b[2J", "back\\slash\n", "ä\u0301'\t"]
)
def test_a_shell_reads_a_quoted_word_as_the_original_text(text):
    assert words_of(text) == text.encode()


@given(st.text(max_size=40))
def test_a_quoted_word_contains_nothing_invisible(text):
    assert shell_word(text).isprintable()
