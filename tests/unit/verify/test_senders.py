"""The short forms for senders: each is in the guide, and none of its parts contradicts another."""

from __future__ import annotations

from pathlib import Path

import pytest

from receiver import senders
from receiver.verify.composed import Signature
from receiver.verify.token import Token

GUIDE = (Path(__file__).parents[3] / "docs" / "writing-a-dialect.md").read_text("utf-8")

FORMS = {
    name: value for name, value in vars(senders).items() if name[0].isupper() and isinstance(value, senders.partial)
}


@pytest.mark.parametrize("name", FORMS)
def test_a_short_form_is_a_verifier_and_stands_in_the_guide(name):
    assert isinstance(FORMS[name](), (Signature, Token))
    assert f"`{name}`" in GUIDE
